// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/reader.c - waits for messages of any space, spins a little while faults keep coming, comes back to late ones */
#include "config.h"
#include "engine/monitor.h"

#include <errno.h>
#include <sys/epoll.h>

#include "engine/serve.h"
#include "kern/sys.h"

#define EVENTS 16
/* Also the longest that a space which has ended can wait for this reader to have gone by. */
#define LONGEST_NS 1000000000ULL

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

void thaw_reader_run(struct thaw_worker *w)
{
	struct thaw *m = w->m;
	uint64_t spin_until = 0;

	while (!atomic_load(&m->stopping)) {
		struct epoll_event ev[EVENTS];
		uint64_t wait = serve_late(w);
		struct timespec ts = { wait / 1000000000, wait % 1000000000 };
		int n;

		/* Nothing of what epoll gave us is in our hands here. */
		atomic_fetch_add(&w->rounds, 1);
		if (spin_until) {
			/* Being woken on an idle CPU costs several times what serving the fault does. So for some tens of
			 * microseconds after one we look without sleeping; a second of silence costs nothing. */
			n = epoll_wait(m->epoll, ev, EVENTS, 0);
			if (n == 0 && thaw_sys_now_ns() >= spin_until)
				spin_until = 0;
		} else {
			n = epoll_pwait2(m->epoll, ev, EVENTS, &ts, NULL);
		}
		for (int i = 0; i < n; i++)
			handle(w, &ev[i]);
		if (n > 0 && m->set.spin_us)
			spin_until = thaw_sys_now_ns() + m->set.spin_us * 1000ULL;
	}
	while (w->n_late)
		thaw_mm_put(w->late[--w->n_late]);
}
