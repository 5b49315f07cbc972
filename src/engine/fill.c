// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/fill.c - the section S: look up, one establishing ioctl, record */
#include "config.h"
#include "engine/fill.h"

#include <errno.h>

#include "engine/gone.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/sabotage.h"

#define BUSY_NS 2000000ULL /* faults this recent keep copies short: */
#define BUSY_PAGES 8       /* of 16 pages one lasts as long as a fault, and that is seen */
#define SERVED_NS 5000     /* then the thread has its page, and may wait for the next before */
#define AGAIN_NS 30000     /* that: in between a copy under way is what it would wait for */
#define AGAIN_PAGES 2
#define TRIES 200          /* a waiting reader is let go (to fault again) after some tenths of a second of changes */

/* The owner needs no slot: only it could consume an event, and it is here. */
static inline void begin(struct thaw_worker *w, struct thaw_mm *mm, bool owner)
{
	if (!owner)
		thaw_gate_enter(&w->m->gate, w->number, &mm->gate);
}

static inline void end(struct thaw_worker *w, bool owner)
{
	if (!owner)
		thaw_gate_leave(&w->m->gate, w->number);
}

/* Who sleeps there looks again. */
static void wake(struct thaw_mm *mm, uint64_t addr, uint64_t len)
{
	if (!THAW_SABOTAGE(WAKE_FORGOTTEN))
		thaw_uffd_wake(mm->uffd, addr, len);
}

void thaw_fill_first(struct thaw *m)
{
	uint64_t none = 0;

	if (!atomic_load_explicit(&m->first_ns, memory_order_relaxed))
		atomic_compare_exchange_strong(&m->first_ns, &none, thaw_sys_now_ns());
}

void thaw_fill_tell(struct thaw_mm *mm, uint64_t addr, const char *what)
{
	const struct thaw_log *log = &mm->m->set.log;

	if (thaw_log_wants(log, THAW_LOG_DEBUG))
		thaw_log_debug(log, "space %lld: 0x%llx %s", (long long)mm->id, (unsigned long long)addr, what);
}

/* In S: one page is in no registered mapping. That alone does not say that it is gone: from Linux 6.9 on COPY looks the
 * mapping up before it compares mmap_changing under its lock, so a move that came in between is answered with ENOENT at the old
 * address, while its message waits for our S to end. Hence the probe behind: a change that our look-up did not know
 * keeps mmap_changing up until it is read, which takes an X, which waits for us. Only if nothing is changing now, nothing
 * was: the page is unmapped unseen by a message (a child's MADV_DONTFORK), or not registered. A sleeper has to see. */
static void gone(struct thaw_worker *w, struct thaw_mm *mm, struct thaw_step *s)
{
	uint64_t pages = THAW_SABOTAGE(ENOENT_NOT_BISECTED) ? s->e.pages : 1;

	switch (thaw_uffd_probe_match(mm->uffd, thaw_mm_match(mm))) {
	case THAW_NO_VMA:
		thaw_fill_tell(mm, s->e.addr, "is not mapped any more");
		thaw_events_settled(mm->ev);
		thaw_gone_mark(w, mm, s->e.addr, pages);
		wake(mm, s->e.addr, pages << THAW_PAGE_SHIFT);
		s->next = s->e.addr + (pages << THAW_PAGE_SHIFT);
		break;
	case THAW_DEAD:
		atomic_store(&mm->dead, true);
		s->kind = THAW_STEP_ENDED;
		break;
	default:
		thaw_count(&mm->counters, w->number, THAW_COUNT_EAGAIN, 1);
		s->kind = THAW_STEP_CHANGING;
		break;
	}
}

/* In S: what the ioctl's answer means for the map. */
static void record(struct thaw_worker *w, struct thaw_mm *mm, struct thaw_fill f, enum thaw_count cause,
		   struct thaw_step *s)
{
	struct thaw_counters *c = &mm->counters;
	uint64_t pages = (THAW_SABOTAGE(PLACED_AS_ASKED) && f.done ? s->e.pages << THAW_PAGE_SHIFT : f.done) >> THAW_PAGE_SHIFT;

	/* Other answers may be given before the kernel compares mmap_changing: see gone(). */
	if (f.outcome == THAW_PLACED || f.outcome == THAW_PARTIAL || f.outcome == THAW_PRESENT)
		thaw_events_settled(mm->ev);
	s->kind = THAW_STEP_PLACED;
	s->next = s->e.addr + (pages << THAW_PAGE_SHIFT);
	switch (f.outcome) {
	case THAW_PARTIAL:
		thaw_count(c, w->number, THAW_COUNT_PARTIAL, 1);
		/* fall through */
	case THAW_PLACED:
		thaw_count(c, w->number, cause, thaw_pagemap_mark_done(mm->pm, s->e.addr, pages));
		break;
	case THAW_PRESENT:
		thaw_count(c, w->number, THAW_COUNT_EEXIST, 1);
		thaw_fill_tell(mm, s->e.addr, "is there already");
		atomic_fetch_add_explicit(&mm->tally.found, thaw_pagemap_mark_done(mm->pm, s->e.addr, 1),
					  memory_order_relaxed);
		wake(mm, s->e.addr, THAW_PAGE_SIZE);
		s->next = s->e.addr + THAW_PAGE_SIZE;
		break;
	case THAW_NO_VMA:
		thaw_count(c, w->number, THAW_COUNT_ENOENT, 1);
		if (s->e.pages > 1 && !THAW_SABOTAGE(ENOENT_NOT_BISECTED)) {
			s->kind = THAW_STEP_SMALLER;
			break;
		}
		if (thaw_mm_is_registering(mm)) {
			s->kind = THAW_STEP_NOT_YET;
			s->next = s->e.addr + THAW_PAGE_SIZE;
			break;
		}
		gone(w, mm, s);
		break;
	case THAW_CHANGING:
		thaw_count(c, w->number, THAW_COUNT_EAGAIN, 1);
		s->kind = THAW_STEP_CHANGING;
		break;
	case THAW_DEAD:
		thaw_count(c, w->number, THAW_COUNT_ESRCH, 1);
		atomic_store(&mm->dead, true);
		s->kind = THAW_STEP_ENDED;
		break;
	case THAW_NO_MEMORY:
		s->kind = THAW_STEP_NO_MEMORY;
		break;
	case THAW_BROKEN:
		s->kind = THAW_STEP_BROKEN;
		s->error = f.error;
		break;
	}
}

/* In the second S of a fill by number: the map has changed since the first. What was placed was placed before those changes, and has been
 * moved, inherited or dropped by them like any page; but the map says of it that it is absent, wherever it is now. So
 * nothing is marked: who comes to place it again finds it there. */
static void overtaken(struct thaw_worker *w, struct thaw_mm *mm, struct thaw_fill f, struct thaw_step *s)
{
	thaw_count(&mm->counters, w->number, THAW_COUNT_EAGAIN, f.outcome == THAW_CHANGING);
	s->kind = THAW_STEP_CHANGING;
	if (f.outcome == THAW_DEAD) {
		atomic_store(&mm->dead, true);
		s->kind = THAW_STEP_ENDED;
	}
}

/* S ends half way, and another begins. */
static void reenter(struct thaw_worker *w, struct thaw_mm *mm)
{
	end(w, false);
	thaw_sabotage_pause(THAW_SABOTAGE(RECORD_OUTSIDE_S) ? 5000 : 1000);
	begin(w, mm, false);
}

static struct thaw_fill copy(struct thaw_worker *w, struct thaw_mm *mm, bool owner, const struct thaw_extent *e, const void *data)
{
	bool wakes = owner || !THAW_SABOTAGE(WAKE_FORGOTTEN), outside = !owner && (mm->numbered || THAW_SABOTAGE(NO_GATE));
	uint64_t demand = thaw_mm_match(mm), began_ns = 0;
	int uffd = mm->uffd;
	struct thaw_fill f;

	/* With numbers S ends here: the kernel refuses what has been overtaken. The descriptor stays open, see thaw_mm_end(). */
	if (outside) {
		atomic_fetch_add(&mm->flying, 1);
		end(w, false);
	}
	if (THAW_SABOTAGE(NO_GATE) && !owner)
		thaw_sabotage_pause(1000);
	if (w->pace.beside && !owner)
		began_ns = thaw_sys_now_ns();
	f = thaw_uffd_copy_match(uffd, e->addr, data, e->pages << THAW_PAGE_SHIFT, wakes, demand);
	if (began_ns && f.outcome == THAW_PLACED)
		thaw_pace_saw(&w->pace, e->pages, thaw_sys_now_ns() - began_ns);
	if (outside) {
		atomic_fetch_sub(&mm->flying, 1);
		begin(w, mm, false);
	}
	if (THAW_SABOTAGE(RECORD_OUTSIDE_S) && !owner)
		reenter(w, mm);
	for (unsigned i = 0; THAW_SABOTAGE(STALE_RETRY) && !owner && f.outcome == THAW_CHANGING && i < 100; i++) {
		reenter(w, mm);
		if (thaw_mm_is_live(mm))
			f = thaw_uffd_copy(mm->uffd, e->addr, data, e->pages << THAW_PAGE_SHIFT, wakes);
	}
	return f;
}

/* In S. */
static struct thaw_step step(struct thaw_worker *w, struct thaw_mm *mm, bool owner, uint64_t from, uint64_t to,
			     uint64_t max_pages, const struct thaw_window *win, enum thaw_count cause)
{
	struct thaw_step s = { .kind = THAW_STEP_NOTHING, .next = to };
	struct thaw_fill f;
	uint64_t demand;
	const void *data;

	if (!thaw_mm_is_live(mm)) {
		s.kind = THAW_STEP_ENDED;
		return s;
	}
	if (!thaw_pagemap_next_absent(mm->pm, from, max_pages, &s.e) || s.e.addr >= to)
		return s;
	if (s.e.pages > (to - s.e.addr) >> THAW_PAGE_SHIFT)
		s.e.pages = (to - s.e.addr) >> THAW_PAGE_SHIFT;
	data = thaw_window_peek(win, mm->content, s.e.object, s.e.off, s.e.pages << THAW_PAGE_SHIFT);
	if (!data) {
		s.kind = THAW_STEP_ELSEWHERE;
		return s;
	}
	if (win->mapped && !thaw_window_is_whole(win, s.e.off, s.e.pages << THAW_PAGE_SHIFT)) {
		s.kind = THAW_STEP_BROKEN;
		s.error = ENODATA;
		return s;
	}
	demand = thaw_mm_match(mm);
	f = copy(w, mm, owner, &s.e, data);
	if (thaw_mm_is_live(mm) && thaw_mm_match(mm) != demand)
		overtaken(w, mm, f, &s);
	else if (thaw_mm_is_live(mm)) /* as before, unless it was placed between two S */
		record(w, mm, f, cause, &s);
	else
		s.kind = THAW_STEP_ENDED;
	return s;
}

struct thaw_step thaw_fill_step(struct thaw_worker *w, struct thaw_mm *mm, bool owner, uint64_t from, uint64_t to,
				uint64_t max_pages, const struct thaw_window *win, enum thaw_count cause)
{
	struct thaw_step s;

	begin(w, mm, owner);
	s = step(w, mm, owner, from, to, max_pages, win, cause);
	end(w, owner);
	if (s.kind == THAW_STEP_PLACED)
		thaw_fill_first(w->m);
	return s;
}

struct thaw_fill thaw_fill_zero(struct thaw_worker *w, struct thaw_mm *mm, uint64_t addr, uint64_t pages)
{
	struct thaw_fill f = thaw_uffd_zero_match(mm->uffd, addr, pages << THAW_PAGE_SHIFT, thaw_mm_match(mm));

	if (f.outcome == THAW_PLACED || f.outcome == THAW_PARTIAL || f.outcome == THAW_PRESENT)
		thaw_events_settled(mm->ev);
	thaw_count(&mm->counters, w->number, THAW_COUNT_PAGES_ZERO, f.done >> THAW_PAGE_SHIFT);
	if (f.outcome == THAW_PARTIAL)
		thaw_count(&mm->counters, w->number, THAW_COUNT_PARTIAL, 1);
	if (f.outcome == THAW_CHANGING)
		thaw_count(&mm->counters, w->number, THAW_COUNT_EAGAIN, 1);
	if (f.outcome == THAW_PRESENT)
		thaw_count(&mm->counters, w->number, THAW_COUNT_EEXIST, 1);
	if (f.outcome == THAW_NO_VMA)
		thaw_count(&mm->counters, w->number, THAW_COUNT_ENOENT, 1);
	if (f.outcome == THAW_DEAD) {
		thaw_count(&mm->counters, w->number, THAW_COUNT_ESRCH, 1);
		atomic_store(&mm->dead, true);
	}
	return f;
}

void thaw_fill_wake(struct thaw_worker *w, struct thaw_mm *mm, bool owner, uint64_t addr, uint64_t len)
{
	begin(w, mm, owner);
	if (thaw_mm_is_live(mm))
		wake(mm, addr, len);
	end(w, owner);
}

uint64_t thaw_fill_chunk(struct thaw_worker *w, const struct thaw_mm *mm)
{
	uint64_t most = mm->m->set.chunk >> THAW_PAGE_SHIFT, pages = BUSY_PAGES, age;
	uint64_t last = atomic_load_explicit(&mm->last_fault_ns, memory_order_relaxed);

	age = last ? thaw_sys_now_ns() - last : BUSY_NS;
	w->pace.beside = age < BUSY_NS;
	if (!w->pace.beside)
		return most;
	/* Where faults come without a pause the copies in between are all there are. */
	if (age >= SERVED_NS && age < AGAIN_NS && !atomic_load_explicit(&mm->dense, memory_order_relaxed))
		pages = AGAIN_PAGES;
	return thaw_pace_pages(&w->pace, pages, most);
}

void thaw_fill_back_off(struct thaw_worker *w, struct thaw_mm *mm, uint32_t seq, unsigned *tries)
{
	uint64_t ns = 20000ULL << (*tries < 6 ? *tries : 6); /* 20 us to 1.3 ms */

	thaw_beside_leave_to_wait(w); /* what is waited for is an X of the owner */
	/* The event's reading ends an X; but the kernel goes on refusing until the thread that raised it has run, and
	 * nobody tells us then. */
	++*tries;
	if (thaw_gate_seq(&mm->gate) == seq)
		thaw_gate_await(&mm->gate, seq, ns);
	else
		thaw_gate_await(&mm->gate, thaw_gate_seq(&mm->gate), ns);
}

bool thaw_fill_run(struct thaw_worker *w, struct thaw_mm *mm, uint64_t from, uint64_t to, const struct thaw_window *win,
		   enum thaw_count cause)
{
	uint64_t limit = thaw_fill_chunk(w, mm);
	unsigned tries = 0;

	while (from < to) {
		uint32_t seq = thaw_gate_seq(&mm->gate);
		struct thaw_step s = thaw_fill_step(w, mm, false, from, to, limit, win, cause);

		switch (s.kind) {
		case THAW_STEP_PLACED:
			from = s.next;
			limit = thaw_fill_chunk(w, mm);
			tries = 0;
			break;
		case THAW_STEP_SMALLER:
			limit = s.e.pages / 2;
			break;
		case THAW_STEP_NOT_YET:
			from = s.next;
			break;
		case THAW_STEP_ELSEWHERE: /* moved away, or something else moved in */
			from = s.e.addr + THAW_PAGE_SIZE;
			break;
		case THAW_STEP_CHANGING:
		case THAW_STEP_NO_MEMORY:
			if (tries > TRIES || atomic_load(&w->m->stopping))
				return false;
			thaw_fill_back_off(w, mm, seq, &tries);
			break;
		case THAW_STEP_NOTHING:
			return true;
		case THAW_STEP_ENDED:
		case THAW_STEP_BROKEN:
			return false;
		}
	}
	return true;
}
