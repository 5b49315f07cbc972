// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/reader.c - waits for messages of any space, spins a little while faults keep coming, comes back to late ones */
#include "config.h"
#include "engine/monitor.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/near.h"
#include "engine/serve.h"
#include "kern/sys.h"
#include "util/inject.h"

#define EVENTS 16
/* Together the longest that a space which has ended can wait for this reader to have gone by: asleep, and with a space that is busy. */
#define LONGEST_NS 1000000000ULL
#define LONGEST_KEPT_NS 250000000ULL

static void add_late(struct thaw_worker *w, struct thaw_mm *mm)
{
	for (unsigned i = 0; i < w->n_late; i++)
		if (w->late[i] == mm)
			return;
	if (w->n_late < sizeof(w->late) / sizeof(w->late[0]))
		w->late[w->n_late++] = thaw_mm_get(mm);
	else
		thaw_mm_kick(mm); /* more than that at once: the control thread comes back to it */
}

static void serve(struct thaw_worker *w, struct thaw_mm *mm)
{
	if (thaw_serve(w, mm))
		add_late(w, mm);
}

/* Spaces whose time has come. Returns how long to wait for the next at most. */
static uint64_t serve_late(struct thaw_worker *w)
{
	uint64_t wait = LONGEST_NS;

	for (unsigned i = 0; i < w->n_late;) {
		struct thaw_mm *mm = w->late[i];
		uint64_t now = thaw_sys_now_ns(), due = atomic_load(&mm->late_due_ns);

		if (due > now) {
			wait = due - now < wait ? due - now : wait;
			i++;
			continue;
		}
		if (thaw_serve(w, mm))
			continue; /* late again: its new time is looked at in this turn of the loop */
		w->late[i] = w->late[--w->n_late];
		thaw_mm_put(mm);
	}
	return wait;
}

static void handle(struct thaw_worker *w, const struct epoll_event *ev)
{
	struct thaw_mm *mm = (struct thaw_mm *)(uintptr_t)(ev->data.u64 & ~1ULL);

	if (!mm)
		return; /* the monitor stops: the loop sees it */
	if (ev->data.u64 & 1)
		atomic_store(&mm->check, true); /* its pidfd: the process has ended, the mm perhaps not */
	serve(w, mm);
}

/* Being woken on an idle CPU costs several times what serving a fault does. So for some tens of microseconds after one
 * the reader keeps the space and looks without sleeping. That does not pay where the faulting thread was woken on this very
 * CPU and cannot run before we sleep; which shows in that its next fault comes as soon as we do. Then the next faults are
 * slept for, and more of them each time that it shows again. It sleeps with the space still its own at first: that spares
 * the next fault two calls of epoll. */
#define AT_ONCE_NS 30000
#define FIRST_SKIP 128
#define LAST_SKIP 8192
/* Two ticks of a kernel with 100 of them a second: a timer behind the next tick is not handed to the clock, which costs some ten
 * microseconds in a virtual machine, twice a sleep. */
#define KEEP_MS 20

static void learn(struct thaw_spin *s, uint64_t slept_ns)
{
	if (thaw_sys_now_ns() - slept_ns >= AT_ONCE_NS)
		return;
	s->skip = s->again;
	if (s->again < LAST_SKIP)
		s->again *= 2;
}

/* A look that takes no longer did not sleep: the message had come while the last was served, since whom a fill wakes on this CPU runs
 * first, until it waits again. Then some X are made without a look, which costs as much as the reading that finds the same. */
#define THERE_NS 3000
#define MOST_UNASKED 4 /* another space waits that much longer */

enum { SPACE, EPOLL, NUDGE, FDS };

/* False: silence for the whole time. */
static bool look_awake(struct thaw_worker *w, struct pollfd p[FDS])
{
	uint64_t until = thaw_sys_now_ns() + w->m->set.spin_us * 1000ULL;
	struct thaw_spin *s = &w->spin;

	do {
		if (poll(p, FDS, 0)) {
			if (s->again > FIRST_SKIP)
				s->again /= 2;
			return true;
		}
	} while (thaw_sys_now_ns() < until);
	return false;
}

/* Are copiers at work? Then the CPUs are awake and being woken costs little, while a spin takes one from a copier or from
 * the faulting thread. A hint: both words change at any time. */
static bool copying(struct thaw *m)
{
	return atomic_load_explicit(&m->background_on, memory_order_relaxed) &&
	       atomic_load_explicit(&m->idlers, memory_order_relaxed) < m->set.copiers;
}

/* Whether the space may have more. Not so when all is silent, nor when another (or the end) is not to be kept waiting for this one. */
static bool wait_for_more(struct thaw_worker *w, struct pollfd p[FDS])
{
	struct thaw_spin *s = &w->spin;
	uint64_t slept_ns = 0, asked_ns;

	if (s->skip) {
		s->skip--;
	} else if (!copying(w->m)) {
		if (look_awake(w, p))
			return !p[EPOLL].revents;
		slept_ns = thaw_sys_now_ns();
	}
	asked_ns = thaw_sys_now_ns();
	if (poll(p, FDS, KEEP_MS) <= 0)
		return false;
	s->there = thaw_sys_now_ns() - asked_ns < THERE_NS && p[SPACE].revents && !p[EPOLL].revents;
	if (slept_ns && p[SPACE].revents)
		learn(s, slept_ns);
	return !p[EPOLL].revents;
}

bool thaw_reader_linger(struct thaw_worker *w, struct thaw_mm *mm)
{
	struct pollfd p[FDS] = {
		[SPACE] = { .fd = mm->uffd, .events = POLLIN },
		[EPOLL] = { .fd = w->m->epoll, .events = POLLIN },
		[NUDGE] = { .fd = w->nudge_fd, .events = POLLIN },
	};
	uint64_t count;
	bool more;

	if (atomic_load(&mm->beside) || !w->spin.may || !w->m->set.spin_us || thaw_sys_now_ns() - w->round_ns > LONGEST_KEPT_NS)
		return false;
	if (w->spin.there && w->spin.got && ++w->spin.unasked < MOST_UNASKED)
		return true;
	w->spin.there = false;
	w->spin.unasked = 0;
	if (copying(w->m))
		thaw_near(mm);
	if (!thaw_owner_doze(&mm->owner, w->number + 1))
		return true;
	more = wait_for_more(w, p);
	if (p[NUDGE].revents) /* perhaps for a sleep that was over by then: a round too many */
		more |= read(w->nudge_fd, &count, sizeof(count)) > 0;
	return thaw_owner_awake(&mm->owner) || more;
}

void thaw_reader_run(struct thaw_worker *w)
{
	struct thaw *m = w->m;

	w->spin = (struct thaw_spin){ .again = FIRST_SKIP };
	while (!atomic_load(&m->stopping)) {
		struct epoll_event ev[EVENTS];
		uint64_t wait = serve_late(w);
		struct timespec ts = { wait / 1000000000, wait % 1000000000 };
		int n;

		/* Nothing of what epoll gave us is in our hands here. */
		atomic_fetch_add(&w->rounds, 1);
		n = THAW_INJECT("epoll.wait") ? -1 : epoll_pwait2(m->epoll, ev, EVENTS, &ts, NULL);
		w->round_ns = thaw_sys_now_ns();
		if (n > 0)
			(void)atomic_load(&m->published); /* behind epoll_ctl()'s side of it: the spaces are whole */
		for (int i = 0; i < n; i++) {
			w->spin.may = i + 1 == n && !w->n_late;
			w->spin.there = false;
			handle(w, &ev[i]);
		}
		w->spin.may = false;
	}
	while (w->n_late)
		thaw_mm_put(w->late[--w->n_late]);
}
