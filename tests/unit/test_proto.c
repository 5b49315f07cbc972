// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_proto.c - the page-server protocol: headers of both layouts, the order of questions, answers short and wrong */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/gets.h"
#include "proto/session.h"

#define PAGE 4096ULL

/* ---- headers ----------------------------------------------------------------------------------------------------- */
/* Bytes as CRIU sends them: a GET of 3 pages at 0x7f0000001000 of process 4711. */
static const unsigned char old_get[24] = { 7, 0, 0, 0, 3, 0, 0, 0, 0x00, 0x10, 0, 0, 0, 0x7f, 0, 0, 0x67, 0x12 };
static const unsigned char new_get[32] = { 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
					   0x00, 0x10, 0, 0, 0, 0x7f, 0, 0, 0x67, 0x12 };

static void both_ways(enum thaw_frame_layout layout, const unsigned char *bytes)
{
	struct thaw_frame f = { THAW_FRAME_GET, 0, 3, 0x7f0000001000, 4711 }, back;
	unsigned char out[THAW_FRAME_MOST];

	memset(out, 0xee, sizeof(out));
	cr_assert_eq(thaw_frame_encode(layout, &f, out), 0);
	cr_expect_arr_eq(out, bytes, (size_t)layout);
	cr_expect(layout == THAW_FRAME_NEW || out[24] == 0xee); /* not a byte more */
	thaw_frame_decode(layout, bytes, &back);
	cr_expect(back.command == f.command && !back.flags && back.pages == 3 && back.addr == f.addr && back.id == 4711);
}

Test(frame, old_layout)
{
	both_ways(THAW_FRAME_OLD, old_get);
}

Test(frame, new_layout)
{
	both_ways(THAW_FRAME_NEW, new_get);
}

Test(frame, flags_are_the_upper_half)
{
	struct thaw_frame f = { THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 1, PAGE, 1 };
	unsigned char out[THAW_FRAME_MOST];

	cr_assert_eq(thaw_frame_encode(THAW_FRAME_NEW, &f, out), 0);
	cr_expect_arr_eq(out, ((unsigned char[]){ 6, 0, 4, 0 }), 4);
}

Test(frame, what_does_not_fit)
{
	struct thaw_frame f = { THAW_FRAME_GET, 0, 1ULL << 32, PAGE, 1 };
	unsigned char out[THAW_FRAME_MOST];

	cr_expect_eq(thaw_frame_encode(THAW_FRAME_OLD, &f, out), -ERANGE);
	cr_expect_eq(thaw_frame_encode(THAW_FRAME_NEW, &f, out), 0);
}

/* ---- the client's side ------------------------------------------------------------------------------------------- */
static struct thaw_gets g;

static struct thaw_want *want(uint64_t addr, unsigned pages, bool urgent, bool soon)
{
	struct thaw_want *w = calloc(1, sizeof(*w));

	*w = (struct thaw_want){ .pid = 1, .addr = addr, .pages = pages, .urgent = urgent, .soon = soon,
				 .buf = calloc(pages, PAGE) };
	thaw_gets_add(&g, w);
	return w;
}

static void begin(void)
{
	thaw_gets_init(&g);
}

static void expect_get(uint64_t addr, uint64_t pages)
{
	struct thaw_frame f = { 0 };

	cr_assert(thaw_gets_next(&g, 1, &f));
	cr_expect_eq(f.command, THAW_FRAME_GET);
	cr_expect_eq(f.addr, addr, "asked for %#lx instead of %#lx", f.addr, addr);
	cr_expect_eq(f.pages, pages);
	cr_expect_eq(f.id, 1);
}

/* A page's content: its number everywhere. In pieces, as a socket gives it. */
static void answer(uint64_t addr, uint64_t pages, size_t piece)
{
	struct thaw_frame f = { THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, pages, addr, 1 };
	size_t done = 0;

	cr_assert_eq(thaw_gets_reply(&g, &f), 0);
	while (done < pages * PAGE) {
		unsigned char *at;
		size_t room = thaw_gets_room(&g, &at), n = piece < room ? piece : room;

		cr_assert(n > 0);
		for (size_t i = 0; i < n; i++)
			at[i] = (unsigned char)((addr + done + i) / PAGE);
		thaw_gets_filled(&g, n, 1000);
		done += n;
	}
	cr_expect_not(thaw_gets_in_reply(&g));
}

static void expect_done(struct thaw_want *w)
{
	cr_assert_eq(thaw_gets_pop(&g), w);
	cr_expect_eq(w->error, 0);
	for (unsigned i = 0; i < w->pages; i++)
		cr_expect(w->buf[i * PAGE] == (unsigned char)(w->addr / PAGE + i) &&
			  w->buf[i * PAGE + PAGE - 1] == (unsigned char)(w->addr / PAGE + i));
}

Test(gets, somebody_sleeping_goes_first_then_what_lies_beside, .init = begin)
{
	want(0x100000, 4, false, false);
	want(0x200000, 4, false, false);
	want(0x301000, 2, false, true);
	want(0x300000, 1, true, false);
	expect_get(0x300000, 1);
	expect_get(0x301000, 2);
	expect_get(0x100000, 4);
	expect_get(0x200000, 4);
	cr_expect_not(thaw_gets_next(&g, 1, &(struct thaw_frame){ 0 }));
}

Test(gets, an_answer_in_pieces, .init = begin)
{
	struct thaw_want *w = want(0x10000, 3, true, false);

	expect_get(0x10000, 3);
	answer(0x10000, 3, 1000);
	expect_done(w);
}

Test(gets, a_short_answer_is_continued, .init = begin)
{
	struct thaw_want *w = want(0x10000, 8, true, false);

	expect_get(0x10000, 8);
	answer(0x10000, 3, 1 << 20);
	cr_expect_null(thaw_gets_pop(&g));
	cr_expect_eq(thaw_gets_missing(&g), 5);
	expect_get(0x13000, 5);
	answer(0x13000, 5, 4097);
	expect_done(w);
	cr_expect_eq(g.n_short, 1);
}

Test(gets, a_page_under_way_is_not_asked_for_twice, .init = begin)
{
	struct thaw_want *all = want(0x10000, 16, false, false), *one;

	expect_get(0x10000, 16);
	one = want(0x14000, 1, true, false);
	cr_expect_not(thaw_gets_next(&g, 1, &(struct thaw_frame){ 0 }));
	answer(0x10000, 16, 1 << 20);
	expect_done(one);
	expect_done(all);
	cr_expect_eq(g.n_shared, 1);
}

Test(gets, a_page_that_has_passed_is_asked_for_again, .init = begin)
{
	struct thaw_frame f = { THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 4, 0x10000, 1 };
	unsigned char *at;

	want(0x10000, 4, false, false);
	expect_get(0x10000, 4);
	cr_assert_eq(thaw_gets_reply(&g, &f), 0);
	thaw_gets_room(&g, &at);
	thaw_gets_filled(&g, 2 * PAGE, 5);
	want(0x11000, 1, true, false);
	expect_get(0x11000, 1);
}

Test(gets, wrong_answers, .init = begin)
{
	static const struct thaw_frame wrong[] = {
		{ THAW_FRAME_GET, THAW_FRAME_PRESENT, 2, 0x10000, 1 },   { THAW_FRAME_ADD_F, 0, 2, 0x10000, 1 },
		{ THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 2, 0x11000, 1 }, { THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 2, 0x10000, 2 },
		{ THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 0, 0x10000, 1 }, { THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 3, 0x10000, 1 },
	};
	struct thaw_want *w;

	cr_expect_eq(thaw_gets_reply(&g, &wrong[0]), -EPROTO); /* nothing was asked */
	w = want(0x10000, 2, true, false);
	expect_get(0x10000, 2);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		cr_expect_eq(thaw_gets_reply(&g, &wrong[i]), -EPROTO, "%zu was taken", i);
	cr_expect_not(thaw_gets_in_reply(&g));
	answer(0x10000, 2, 1 << 20);
	expect_done(w);
}

Test(gets, a_lost_connection_keeps_whole_pages, .init = begin)
{
	struct thaw_frame f = { THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 4, 0x10000, 1 };
	struct thaw_want *w = want(0x10000, 4, true, false);
	unsigned char *at;

	expect_get(0x10000, 4);
	cr_assert_eq(thaw_gets_reply(&g, &f), 0);
	thaw_gets_room(&g, &at);
	memset(at, 0x10, PAGE);
	thaw_gets_filled(&g, PAGE + 100, 5);
	thaw_gets_reset(&g, 1);
	for (uint64_t addr = 0x11000; addr < 0x14000; addr += PAGE)
		expect_get(addr, 1); /* one of them may be why */
	for (uint64_t addr = 0x11000; addr < 0x14000; addr += PAGE)
		answer(addr, 1, 1 << 20);
	expect_done(w);
}

static bool asks(uint64_t now_ns, uint64_t addr)
{
	struct thaw_frame f;

	return thaw_gets_next(&g, now_ns, &f) && f.addr == addr && f.pages == 1;
}

/* It is under way behind others when the connection is lost for another reason, and must not be forgotten. */
Test(gets, a_shy_page_under_way_is_asked_for_again, .init = begin)
{
	struct thaw_want *w = want(0x10000, 1, false, false);
	uint64_t now = 1;

	for (unsigned i = 0; i < 2; i++) {
		cr_assert(asks(now, 0x10000));
		thaw_gets_reset(&g, now);
	}
	want(0x20000, 3, true, false);
	expect_get(0x20000, 3);
	now += 1000000000;
	cr_assert(asks(now, 0x10000));
	cr_expect_not(thaw_gets_next(&g, now + 1000000000, &(struct thaw_frame){ 0 }));
	thaw_gets_reset(&g, now);
	for (unsigned i = 0; i < 3; i++)
		expect_get(0x20000 + i * PAGE, 1);
	now += 10000000000;
	cr_assert(asks(now, 0x10000));
	for (unsigned i = 0; i < 3; i++)
		answer(0x20000 + i * PAGE, 1, 1 << 20);
	cr_assert(thaw_gets_pop(&g));
	answer(0x10000, 1, 1 << 20);
	expect_done(w);
}

/* However often it has lost the connection: a second at most, where somebody sleeps on it. */
Test(gets, a_shy_page_that_somebody_sleeps_on_is_tried_each_second, .init = begin)
{
	uint64_t second = 1000000000, now = 1;

	want(0x10000, 1, true, false);
	for (unsigned i = 0; i < 10; i++) {
		cr_expect(asks(now, 0x10000), "the %u. time", i);
		thaw_gets_reset(&g, now);
		now += second;
	}
	cr_expect_not(asks(now - second / 2, 0x10000));
}

/* A server has no other way to say that a page cannot be read. */
Test(gets, a_page_that_ends_the_connection_lets_others_go_first, .init = begin)
{
	struct thaw_want *w = want(0x10000, 3, false, false), *others;
	uint64_t second = 1000000000, now = 1;

	expect_get(0x10000, 3);
	thaw_gets_reset(&g, now);
	for (unsigned i = 0; i < 3; i++)
		expect_get(0x10000 + i * PAGE, 1);
	answer(0x10000, 1, 1 << 20);
	thaw_gets_reset(&g, now); /* 0x11000 is it */
	others = want(0x20000, 1, false, false);
	expect_get(0x12000, 1);
	expect_get(0x20000, 1);
	cr_expect_not(thaw_gets_next(&g, now, &(struct thaw_frame){ 0 }));
	answer(0x12000, 1, 1 << 20);
	answer(0x20000, 1, 1 << 20);
	expect_done(others);
	/* More and more seldom, up to ten seconds; others are not behind it. */
	for (unsigned i = 0; i < 10; i++) {
		cr_expect_not(thaw_gets_next(&g, now + 150000000, &(struct thaw_frame){ 0 }));
		others = want(0x20000, 1, true, false);
		expect_get(0x20000, 1);
		answer(0x20000, 1, 1 << 20);
		expect_done(others);
		now += 10 * second;
		cr_expect(asks(now, 0x11000));
		cr_expect_not(thaw_gets_next(&g, now, &(struct thaw_frame){ 0 }));
		thaw_gets_reset(&g, now);
	}
	cr_expect_not(thaw_gets_next(&g, now + 9 * second, &(struct thaw_frame){ 0 }));
	cr_expect(asks(now + 10 * second, 0x11000));
	answer(0x11000, 1, 1 << 20); /* it has been mended */
	expect_done(w);
	w = want(0x11000, 1, false, false); /* and is like any other */
	expect_get(0x11000, 1);
}

Test(gets, the_background_stays_within_its_window, .init = begin)
{
	struct thaw_frame f;
	unsigned n = 0;

	for (unsigned i = 0; i < 40; i++)
		want(0x100000ULL * (i + 1), 64, false, false);
	while (thaw_gets_next(&g, 1, &f))
		n += (unsigned)f.pages;
	cr_expect_leq(n * PAGE, THAW_WINDOW_LEAST);
	want(0x1000, 1, true, false);
	expect_get(0x1000, 1);
}

Test(gets, given_up, .init = begin)
{
	struct thaw_want *a = want(0x10000, 4, true, false), *b = want(0x20000, 4, false, false);

	thaw_gets_fail(&g, EIO, false);
	cr_assert_eq(thaw_gets_pop(&g), a);
	cr_expect_eq(a->error, EIO);
	cr_expect_null(thaw_gets_pop(&g));
	thaw_gets_fail(&g, ECANCELED, true);
	cr_assert_eq(thaw_gets_pop(&g), b);
	cr_expect_eq(b->error, ECANCELED);
}

/* ---- the server's side ------------------------------------------------------------------------------------------- */
static bool has(void *opaque, uint64_t id, uint64_t addr)
{
	return id == 4711 && addr == 0x7f0000001000;
}

static int feed(struct thaw_session *s, const unsigned char *bytes, size_t len, size_t piece, struct thaw_frame *f)
{
	size_t done = 0;
	int got = 0;

	while (!got && done < len) {
		unsigned char *at;
		size_t room = thaw_session_room(s, &at), n = piece < room ? piece : room;

		n = n < len - done ? n : len - done;
		cr_assert(n > 0);
		memcpy(at, bytes + done, n);
		done += n;
		got = thaw_session_filled(s, n, f);
	}
	cr_expect(got < 0 || done == len, "%zu of %zu bytes were taken", done, len);
	return got;
}

static void told(const unsigned char *bytes, enum thaw_frame_layout layout, enum thaw_frame_layout images, size_t piece)
{
	struct thaw_session s;
	struct thaw_frame f = { 0 };

	thaw_session_init(&s, THAW_FRAME_UNKNOWN, images, has, NULL);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(feed(&s, bytes, (size_t)layout, piece, &f), 1);
		cr_expect_eq(s.layout, layout);
		cr_expect(f.command == THAW_FRAME_GET && f.pages == 3 && f.addr == 0x7f0000001000 && f.id == 4711);
	}
}

Test(session, the_first_request_tells_the_layout)
{
	for (size_t piece = 1; piece <= 32; piece += 31) {
		told(old_get, THAW_FRAME_OLD, THAW_FRAME_OLD, piece);
		told(old_get, THAW_FRAME_OLD, THAW_FRAME_NEW, piece);
		told(new_get, THAW_FRAME_NEW, THAW_FRAME_NEW, piece);
		told(new_get, THAW_FRAME_NEW, THAW_FRAME_OLD, piece);
	}
}

Test(session, a_page_that_there_is_not)
{
	struct thaw_session s;
	struct thaw_frame f;
	unsigned char other[32];

	memcpy(other, new_get, sizeof(other));
	other[17] = 0x20;
	thaw_session_init(&s, THAW_FRAME_NEW, THAW_FRAME_NEW, has, NULL);
	cr_expect_eq(feed(&s, other, sizeof(other), 32, &f), -EPROTO);
}

Test(session, close)
{
	static const unsigned char bye[32] = { 0x23, 0x10 };
	struct thaw_session s;
	struct thaw_frame f;

	thaw_session_init(&s, THAW_FRAME_NEW, THAW_FRAME_NEW, has, NULL);
	cr_assert_eq(feed(&s, bye, sizeof(bye), 32, &f), 1);
	cr_expect_eq(f.command, THAW_FRAME_CLOSE);
}
