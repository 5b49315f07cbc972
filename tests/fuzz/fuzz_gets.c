// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_gets.c - the client of the page-server protocol against a server that says anything, and reads that come at any time
 *
 * Input: the layout, then steps of an opcode byte and what it needs. Every byte that arrives is a function of its address, so that a
 * read that ends must hold what it was for; no page may be asked for twice at once, nor any that nobody wants. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/gets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WANTS = 24, PAGE = 4096 };

struct one {
	struct thaw_want want;
	int used;
	unsigned char buf[THAW_WANT_PAGES * PAGE];
};

static struct one wants[WANTS];
static struct thaw_gets g;
static struct thaw_frame asked[THAW_GETS_MOST];
static unsigned first, n_asked;

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static unsigned char byte_of(uint64_t addr, uint64_t pid)
{
	return (unsigned char)(addr / PAGE * 7 + pid * 31 + addr % 251);
}

static void take_done(int failed)
{
	struct thaw_want *w;

	while ((w = thaw_gets_pop(&g))) {
		struct one *o = (struct one *)w;

		check(o->used, "a read came out twice");
		check(failed || !w->error, "a read failed by itself");
		for (uint64_t i = 0; !w->error && i < w->pages * (uint64_t)PAGE; i += 509)
			check(w->buf[i] == byte_of(w->addr + i, w->pid), "a read ended with other bytes");
		o->used = 0;
	}
}

static void add(const uint8_t *in)
{
	for (unsigned i = 0; i < WANTS; i++) {
		struct one *o = &wants[i];

		if (o->used)
			continue;
		o->used = 1;
		o->want = (struct thaw_want){
			.pid = 1 + in[0] % 2, .addr = 0x10000 + in[1] * (uint64_t)PAGE, .pages = 1 + in[2] % THAW_WANT_PAGES,
			.urgent = in[0] & 4, .buf = o->buf,
		};
		memset(o->buf, 0, o->want.pages * (size_t)PAGE);
		thaw_gets_add(&g, &o->want);
		return;
	}
}

static void ask(uint64_t now)
{
	struct thaw_frame f;

	if (!thaw_gets_next(&g, now, &f))
		return;
	check(f.command == THAW_FRAME_GET && f.pages && f.pages <= THAW_WANT_PAGES, "a strange request");
	for (uint64_t p = 0; p < f.pages; p++) {
		uint64_t addr = f.addr + p * PAGE;
		int wanted = 0;

		for (unsigned i = 0; i < WANTS; i++)
			wanted |= wants[i].used && wants[i].want.pid == f.id && addr - wants[i].want.addr < wants[i].want.pages * PAGE;
		check(wanted, "a page that nobody wants was asked for");
	}
	for (unsigned i = 0; i < n_asked; i++) {
		const struct thaw_frame *a = &asked[(first + i) % THAW_GETS_MOST];

		uint64_t from = a->addr + (i ? 0 : g.reply_got / PAGE * PAGE), end = a->addr + a->pages * PAGE;

		check(a->id != f.id || end <= f.addr || f.addr + f.pages * PAGE <= from,
		      "a page was asked for while it was on its way");
	}
	check(n_asked < THAW_GETS_MOST, "too many requests under way");
	asked[(first + n_asked++) % THAW_GETS_MOST] = f;
}

/* The header of an answer: the right one, cut short, or (wild) anything. */
static int reply(const uint8_t *in, int wild)
{
	struct thaw_frame f = { THAW_FRAME_ADD_F, THAW_FRAME_PRESENT, 1, 0, 0 };

	if (n_asked) {
		f.addr = asked[first].addr;
		f.id = asked[first].id;
		f.pages = 1 + in[0] % asked[first].pages;
	}
	if (wild) {
		f.command = in[0] & 1 ? in[1] : f.command;
		f.flags = in[0] & 2 ? in[1] : f.flags;
		f.pages = in[0] & 4 ? in[2] : f.pages;
		f.addr += in[0] & 8 ? PAGE : 0;
		f.id += in[0] & 16;
	}
	return thaw_gets_reply(&g, &f);
}

static void receive(const uint8_t *in, uint64_t now)
{
	unsigned char *at;
	size_t room = thaw_gets_room(&g, &at), n = 1 + (in[0] | in[1] << 8) % (room + 1);
	uint64_t addr = asked[first].addr + g.reply_got;

	n = n > room ? room : n;
	check(at >= (unsigned char *)wants && at + room <= (unsigned char *)(wants + WANTS), "bytes go nowhere");
	for (size_t i = 0; i < n; i++)
		at[i] = byte_of(addr + i, asked[first].id);
	thaw_gets_filled(&g, n, now);
	if (!thaw_gets_in_reply(&g)) {
		first = (first + 1) % THAW_GETS_MOST;
		n_asked--;
	}
}

static void lose(uint64_t now)
{
	thaw_gets_reset(&g, now);
	n_asked = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t now = 1;

	thaw_gets_init(&g);
	memset(wants, 0, sizeof(wants));
	first = n_asked = 0;
	for (; size >= 4; data += 4, size -= 4) {
		now += 1000 + data[3] * 100000ULL;
		switch (data[0] % 8) {
		case 0:
			add(data + 1);
			break;
		case 1:
		case 2:
			ask(now);
			break;
		case 3:
			if (!thaw_gets_in_reply(&g) && reply(data + 1, 0))
				check(!n_asked, "a right answer was refused");
			break;
		case 4:
			if (!thaw_gets_in_reply(&g) && reply(data + 1, 1))
				lose(now);
			break;
		case 5:
		case 6:
			if (thaw_gets_in_reply(&g))
				receive(data + 1, now);
			break;
		case 7:
			lose(now);
			if (data[1] & 1)
				thaw_gets_fail(&g, 5, data[1] & 2);
			take_done(1);
			break;
		}
		take_done(0);
		check(g.window >= THAW_WINDOW_LEAST && g.window <= THAW_WINDOW_MOST, "the window has got lost");
	}
	lose(now);
	thaw_gets_fail(&g, 5, true);
	take_done(1);
	check(!g.n_wants && !thaw_gets_missing(&g), "a read was forgotten");
	return 0;
}
