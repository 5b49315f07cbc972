// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/holder.c - the monitor's side of the holder: starting it, telling it who waits, ending it */
#include "config.h"
#include "engine/holder.h"
#include "engine/holder_impl.h"
#include "kern/keep.h"
#include "kern/sandbox.h"
#include "kern/sys.h"
#include "util/err.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct thaw_holder {
	struct thaw_holder_page *page;
	pid_t pid, owner; /* owner: the process that started it, not a fork of that */
	int monitor_fd, wake_fd, log_fd, maps_fd, self_fd; /* self_fd: the holder's pidfd */
	struct thaw_filter *filter;
};

static void release(struct thaw_holder *h)
{
	int i;

	for (i = 0; h->page && i < THAW_HOLDER_SLOTS; i++)
		if (h->page->slots[i].pid > 0 && h->page->slots[i].pidfd >= 0)
			close(h->page->slots[i].pidfd);
	if (h->page)
		munmap(h->page, sizeof(*h->page));
	if (h->monitor_fd >= 0)
		close(h->monitor_fd);
	if (h->wake_fd >= 0)
		close(h->wake_fd);
	if (h->log_fd >= 0)
		close(h->log_fd);
	if (h->maps_fd >= 0)
		close(h->maps_fd);
	if (h->self_fd >= 0)
		close(h->self_fd);
	thaw_filter_free(h->filter);
	free(h);
}

static int prepare(struct thaw_holder *h, int log_fd, bool sandbox)
{
	if (thaw_keep_init())
		return thaw_err_set(-ENOMEM, "holder: no memory");
	h->page = THAW_INJECT("holder.memory") ? MAP_FAILED :
		  mmap(NULL, sizeof(*h->page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (h->page == MAP_FAILED) {
		h->page = NULL;
		return thaw_err_set(-ENOMEM, "holder: no memory");
	}
	h->monitor_fd = thaw_sys_pidfd_open(getpid());
	if (h->monitor_fd < 0)
		return thaw_err_set(h->monitor_fd, "holder: pidfd_open: %s", strerror(-h->monitor_fd));
	h->wake_fd = thaw_sys_eventfd(true);
	if (h->wake_fd < 0)
		return thaw_err_set(h->wake_fd, "holder: eventfd: %s", strerror(-h->wake_fd));
	h->log_fd = fcntl(log_fd < 0 ? STDERR_FILENO : log_fd, F_DUPFD_CLOEXEC, 3);
	if (h->log_fd < 0 && log_fd >= 0)
		return thaw_err_set(-errno, "holder: the log descriptor %d cannot be duplicated: %s", log_fd,
				    strerror(errno));
	h->maps_fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC); /* without it an exec goes unnoticed: not vital */
	if (!sandbox)
		return 0;
	return thaw_sandbox_compile(&h->filter, THAW_ROLE_HOLDER);
}

/* Waits until the holder sleeps, or has failed to come so far. */
static int await_ready(struct thaw_holder *h)
{
	int32_t ready;

	while (!(ready = __atomic_load_n(&h->page->ready, __ATOMIC_ACQUIRE))) {
		thaw_sys_futex_wait((uint32_t *)&h->page->ready, 0, 50000000, true);
		if (waitpid(h->pid, NULL, __WALL | WNOHANG) == h->pid) {
			h->pid = 0;
			ready = __atomic_load_n(&h->page->ready, __ATOMIC_ACQUIRE);
			return ready < 0 ? ready : -ECHILD;
		}
	}
	if (ready < 0) {
		waitpid(h->pid, NULL, __WALL);
		h->pid = 0;
		return ready;
	}
	return 0;
}

int thaw_holder_start(struct thaw_holder **out, int log_fd, bool sandbox)
{
	struct thaw_holder *h = calloc(1, sizeof(*h));
	int err = THAW_INJECT("holder.start");
	sigset_t all, old;

	if (!h)
		return thaw_err_set(-ENOMEM, "holder: no memory");
	h->monitor_fd = h->wake_fd = h->log_fd = h->maps_fd = h->self_fd = -1;
	h->owner = getpid();
	if (err)
		thaw_err_set(err, "holder: %s", strerror(-err));
	else
		err = prepare(h, log_fd, sandbox);
	if (err) {
		release(h);
		return err;
	}
	/* From its first instruction on no signal may run a handler of the application in the holder. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	/* The table of descriptors is one, the memory is not. No exit signal:
	 * the application's wait() does not see it. */
	h->pid = THAW_INJECT_ERRNO("holder.clone") ? -1 : syscall(SYS_clone, CLONE_FILES, NULL, NULL, NULL, 0);
	if (h->pid == 0) {
		struct thaw_holder_args a = { h->page,	 h->owner,   h->monitor_fd, h->wake_fd,
					      h->log_fd, h->maps_fd, h->filter };

		thaw_holder_run(&a);
	}
	err = h->pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		err = await_ready(h);
	if (!err && (h->self_fd = thaw_sys_pidfd_open(h->pid)) < 0)
		err = h->self_fd;
	if (err) {
		release(h);
		return thaw_err_set(err, "holder: the process that keeps userfaultfds open cannot be started: %s",
				    strerror(-err));
	}
	*out = h;
	return 0;
}

bool thaw_holder_is_alive(const struct thaw_holder *h)
{
	return !thaw_sys_pidfd_exited(h->self_fd);
}

pid_t thaw_holder_pid(const struct thaw_holder *h)
{
	return h->pid;
}

int thaw_holder_add_pid(struct thaw_holder *h, pid_t pid, int pidfd)
{
	int i, own = -1, err = THAW_INJECT("holder.add");

	if (err)
		return err;
	if (pidfd >= 0) {
		own = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
		if (own < 0)
			return -errno;
		if (pid <= 0)
			pid = thaw_sys_pid_of(pidfd);
	}
	for (i = 0; pid > 0 && i < THAW_HOLDER_SLOTS; i++) {
		struct thaw_holder_slot *s = &h->page->slots[i];
		int32_t empty = 0;

		if (!__atomic_compare_exchange_n(&s->pid, &empty, -1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		s->pidfd = own;
		/* Release: the holder that sees the pid sees its pidfd. */
		__atomic_store_n(&s->pid, pid, __ATOMIC_RELEASE);
		return i;
	}
	if (own >= 0)
		close(own);
	return THAW_HOLDER_SLOTS;
}

void thaw_holder_remove_pid(struct thaw_holder *h, int slot)
{
	struct thaw_holder_slot *s;
	int pidfd;

	if (slot < 0 || slot >= THAW_HOLDER_SLOTS)
		return;
	s = &h->page->slots[slot];
	pidfd = s->pidfd;
	__atomic_store_n(&s->pid, 0, __ATOMIC_RELEASE);
	if (pidfd >= 0)
		close(pidfd);
}

void thaw_holder_finish(struct thaw_holder *h)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	unsigned i;

	if (!h)
		return;
	if (h->owner == getpid() && h->pid > 0) {
		__atomic_store_n(&h->page->done, 1, __ATOMIC_RELEASE);
		/* The word is what counts; the eventfd only ends its sleep (which ends by itself, too). */
		if (thaw_sys_eventfd_raise(h->wake_fd))
			pause.tv_nsec *= 2;
		for (i = 0; i < 3000 && waitpid(h->pid, NULL, __WALL | WNOHANG) == 0; i++)
			nanosleep(&pause, NULL);
		if (i == 3000) { /* stopped, or traced: it has nothing left to hold */
			kill(h->pid, SIGKILL);
			waitpid(h->pid, NULL, __WALL);
		}
	}
	release(h);
}
