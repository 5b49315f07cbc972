// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/fault.c - a sleeping thread gets its page: content, zero, or a wake-up to see for itself */
#include "config.h"
#include "engine/serve.h"

#include <errno.h>
#include <poll.h>

#include "engine/bad.h"
#include "engine/fetch.h"
#include "engine/fill.h"
#include "engine/follow.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/sabotage.h"

enum served {
	SERVED,   /* or on its way, or woken */
	CHANGING, /* an X has to come first */
	LATER     /* no memory, no buffer: time */
};

static void placed(struct thaw_mm *mm, const struct thaw_fault *f)
{
	thaw_histogram_record(&mm->counters.latency, thaw_sys_now_ns() - f->t0);
}

static enum served after_step(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *f, struct thaw_step s)
{
	switch (s.kind) {
	case THAW_STEP_PLACED:
		placed(mm, f);
		return SERVED;
	case THAW_STEP_CHANGING:
		return CHANGING;
	case THAW_STEP_NO_MEMORY:
		return LATER;
	case THAW_STEP_BROKEN:
		thaw_bad_report(w, mm, true, &s.e, s.error, true);
		return SERVED;
	case THAW_STEP_NOT_YET: /* it slept in a mapping that was there a moment ago */
	case THAW_STEP_NOTHING: /* a copier was faster */
		thaw_fill_wake(w, mm, true, f->addr, THAW_PAGE_SIZE);
		return SERVED;
	default:
		return SERVED; /* dead: the owner sees to it */
	}
}

bool thaw_serve_is_asked(struct thaw_worker *w, struct thaw_mm *mm, bool here)
{
	struct pollfd p[] = { { .fd = w->m->epoll, .events = POLLIN }, { .fd = mm->uffd, .events = POLLIN } };

	return poll(p, here ? 2 : 1, 0) != 0;
}

/* Does anybody else wait for this thread, or a reader? Then nothing is brought in beside. A message of the space itself is no such thing
 * once a run has shown twice: it is the next fault of that run, whose thread has been woken on another CPU, and which would be served
 * for ever one by one. Whoever else it is waits for one short copy. */
#define SHOWN 8
static bool somebody_waits(struct thaw_worker *w, struct thaw_mm *mm, unsigned index, unsigned around)
{
	return index + 1 < mm->n_parked || thaw_serve_is_asked(w, mm, around < SHOWN);
}

/* A fault where the last one would have led a reader going upwards: bring in more and more of what follows. */
static unsigned grow_around(unsigned most, uint64_t addr, uint64_t *next, unsigned *around)
{
	unsigned pages = 0;

	if (addr == *next && most) {
		*around = *around ? *around * 2 : 4;
		if (*around > most)
			*around = most;
		pages = *around;
	} else {
		*around = 0;
	}
	*next = addr + THAW_PAGE_SIZE;
	return pages;
}

static void bring_around(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *f, const struct thaw_object *o,
			 unsigned pages)
{
	uint64_t from = f->addr + THAW_PAGE_SIZE, to = from + ((uint64_t)pages << THAW_PAGE_SHIFT);
	struct thaw_extent e;
	struct thaw_window win;

	if (!thaw_pagemap_next_absent(mm->pm, from, pages, &e) || e.addr >= to || e.object != o->number)
		return;
	if (e.pages > (to - e.addr) >> THAW_PAGE_SHIFT)
		e.pages = (to - e.addr) >> THAW_PAGE_SHIFT;
	if (thaw_object_read_now(o, e.off, e.pages << THAW_PAGE_SHIFT, w->buf))
		return;
	win = (struct thaw_window){ mm->content, o->number, e.off, e.off + (e.pages << THAW_PAGE_SHIFT), w->buf };
	thaw_fill_step(w, mm, true, e.addr, to, e.pages, &win, THAW_COUNT_PAGES_AROUND);
	mm->around_next = to;
}

static enum served serve_zero(struct thaw_worker *w, struct thaw_mm *mm, unsigned index);

/* One page; its content is in the window. */
static enum served place(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *f, const struct thaw_window *win)
{
	return after_step(w, mm, f, thaw_fill_step(w, mm, true, f->addr, f->addr + THAW_PAGE_SIZE, 1, win, THAW_COUNT_PAGES_FAULT));
}

/* Content that is not in memory: perhaps it has come already and waits for a copier, else it is asked for. */
static enum served fetch(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *f, const struct thaw_extent *e)
{
	struct thaw_window win;
	struct thaw_read *r = thaw_fetch_borrow(w->m->fetch, mm, e, &win);
	enum served got;
	int err;

	if (!r) {
		err = thaw_fetch_fault(w, mm, f, e);
		return err == -EAGAIN ? CHANGING : err == -EBUSY ? LATER : SERVED;
	}
	got = place(w, mm, f, &win);
	thaw_fetch_return(r);
	return got;
}

static enum served serve_content(struct thaw_worker *w, struct thaw_mm *mm, unsigned index, const struct thaw_extent *e)
{
	const struct thaw_fault *f = &mm->parked[index];
	const struct thaw_object *o = thaw_content_object(mm->content, e->object);
	struct thaw_window win;
	enum served got;
	unsigned around;
	int err;

	err = o && o->fd >= 0 ? thaw_object_read_now(o, e->off, THAW_PAGE_SIZE, w->buf) : -EAGAIN;
	if (err && THAW_SABOTAGE(ZERO_INSTEAD_OF_WAITING))
		return serve_zero(w, mm, index);
	if (err == -EAGAIN)
		return fetch(w, mm, f, e);
	if (err) {
		thaw_bad_report(w, mm, true, e, -err, true);
		return SERVED;
	}
	win = (struct thaw_window){ mm->content, o->number, e->off, e->off + THAW_PAGE_SIZE, w->buf };
	got = place(w, mm, f, &win);
	if (got != SERVED)
		return got;
	around = grow_around(w->m->set.around, f->addr, &mm->around_next, &mm->around);
	if (around && !somebody_waits(w, mm, index, around))
		bring_around(w, mm, f, o, around);
	else if (!around && index + 1 == mm->n_parked)
		thaw_follow_chain(w, mm, f->addr);
	return SERVED;
}

static enum served zero_page(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *f, bool *was_absent)
{
	*was_absent = false;
	switch (thaw_fill_zero(w, mm, f->addr, 1).outcome) {
	case THAW_PLACED:
		placed(mm, f);
		*was_absent = true;
		return SERVED;
	case THAW_CHANGING:
		return CHANGING;
	case THAW_NO_MEMORY:
		return LATER;
	case THAW_DEAD:
		return SERVED;
	default: /* present, or not mapped any more: the sleeper has to look again */
		thaw_fill_wake(w, mm, true, f->addr, THAW_PAGE_SIZE);
		return SERVED;
	}
}

/* No content: discarded, grown, moved away from, or never the checkpoint's. Private anonymous memory reads as zero. */
static enum served serve_zero(struct thaw_worker *w, struct thaw_mm *mm, unsigned index)
{
	const struct thaw_fault *f = &mm->parked[index];
	struct thaw_extent e;
	uint64_t from = f->addr + THAW_PAGE_SIZE;
	enum served got;
	unsigned around;
	bool was_absent;

	if (THAW_SABOTAGE(REMAP_TAIL_UNKNOWN))
		return SERVED;
	got = zero_page(w, mm, f, &was_absent);
	if (!was_absent)
		return got;
	around = grow_around(w->m->set.around, f->addr, &mm->zero_next, &mm->zero_around);
	if (!around || somebody_waits(w, mm, index, around))
		return SERVED;
	mm->zero_next = from + ((uint64_t)around << THAW_PAGE_SHIFT);
	/* Up to the next content, whether it is in or not: it may be poisoned, or have gone. */
	if (!THAW_SABOTAGE(ZERO_RUNS_ON) && thaw_pagemap_next(mm->pm, from, (uint64_t)around << THAW_PAGE_SHIFT, &e))
		around = (e.addr - from) >> THAW_PAGE_SHIFT;
	if (around) /* beyond the mapping's end it is refused as a whole: then page by page, as they are asked for */
		thaw_fill_zero(w, mm, from, around);
	return SERVED;
}

/* Nobody asks for one page more often than this, each time soon after he was woken, unless the page is not there. */
#define ASKED_MOST 64
#define SOON_NS 10000000ULL

static bool is_asked_for_again(struct thaw_mm *mm, uint64_t addr)
{
	struct thaw_asked *a = &mm->asked[(addr >> THAW_PAGE_SHIFT) % (sizeof(mm->asked) / sizeof(mm->asked[0]))];
	uint64_t now = thaw_sys_now_ns();

	if (a->addr != addr || now - a->last_ns > SOON_NS)
		a->times = 0;
	a->addr = addr;
	a->last_ns = now;
	return ++a->times > ASKED_MOST;
}

/* A page that was in and has gone without a message, as it may: MADV_WIPEONFORK has emptied it in this child, where the mark was not
 * seen, or it was moved to where another thread was discarding. It is zero, which the kernel refuses where there is a page, a guard or
 * a poisoned page. */
static enum served serve_zapped(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *f, bool inherited)
{
	bool was_absent;
	enum served got = zero_page(w, mm, f, &was_absent);

	if (!was_absent)
		return got;
	thaw_fill_tell(mm, f->addr, inherited ? "was in at the fork, and is not here: zero" : "was in, and has been zapped: zero");
	if (!inherited && !mm->zapped_told)
		thaw_log_warning(&mm->m->set.log, "space %lld: the page at %#llx was in and has been moved, to where another thread was discarding or"
				 " from where a mark of MADV_WIPEONFORK was not seen: it is gone, and zero", (long long)mm->id,
				 (unsigned long long)f->addr);
	mm->zapped_told |= !inherited;
	return got;
}

/* In already: the message is old, or a copier has placed the page since, whose fill woke only whom it found. Where it may not have gone as
 * above, a page that is in and not there says that the map is wrong, or that the kernel has lost it: its reader waits, as for content
 * that cannot be had. */
static enum served serve_done(struct thaw_worker *w, struct thaw_mm *mm, const struct thaw_fault *f, const struct thaw_extent *e)
{
	bool inherited = e->flags == THAW_EXTENT_INHERITED;

	if (inherited || thaw_events_may_be_zapped(mm->ev, f->addr))
		return serve_zapped(w, mm, f, inherited);
	if (is_asked_for_again(mm, f->addr))
		thaw_bad_wait(mm, f->addr);
	else
		thaw_fill_wake(w, mm, true, f->addr, THAW_PAGE_SIZE);
	return SERVED;
}

static enum served serve_fault(struct thaw_worker *w, struct thaw_mm *mm, unsigned index)
{
	uint64_t addr = mm->parked[index].addr;
	struct thaw_extent e;
	enum served got;

	if (!thaw_pagemap_lookup(mm->pm, addr, 1, &e))
		return serve_zero(w, mm, index);
	if (!thaw_pagemap_is_done(mm->pm, addr)) {
		got = serve_content(w, mm, index, &e);
		if (got == SERVED) /* once: it may have come here before */
			thaw_follow_heat(mm, addr);
		return got;
	}
	return serve_done(w, mm, &mm->parked[index], &e);
}

bool thaw_serve_faults(struct thaw_worker *w, struct thaw_mm *mm)
{
	unsigned kept = 0, i;
	bool changing = false;

	for (i = 0; i < mm->n_parked && !changing && !atomic_load(&mm->dead); i++) {
		enum served got = serve_fault(w, mm, i);

		changing = got == CHANGING;
		if (got != SERVED && !(changing && THAW_SABOTAGE(EAGAIN_FORGOTTEN)))
			mm->parked[kept++] = mm->parked[i];
	}
	while (i < mm->n_parked) /* while something is changing, every fill is refused */
		mm->parked[kept++] = mm->parked[i++];
	mm->n_parked = kept;
	return changing;
}
