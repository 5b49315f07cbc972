// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/ring_uring.c - the ring on io_uring: owned by one thread, woken through an eventfd that it reads like a file */
#include "config.h"
#include "kern/ring_impl.h"
#include "kern/sys.h"
#include "util/err.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int disabled_by_sysctl(void)
{
	char c = '0';
	int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, &c, 1) != 1)
			c = '0';
		close(fd);
	}
	return c - '0';
}

/* One read of a file whose content is known, through a ring of its own. */
static int try_read(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	char buf[4] = "";
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return 0; /* no /proc: nothing can be said against the ring */
	io_uring_prep_read(sqe, fd, buf, sizeof(buf), 0);
	err = io_uring_submit_and_wait(ring, 1);
	if (err >= 0)
		err = io_uring_wait_cqe(ring, &cqe);
	if (!err) {
		err = cqe->res;
		io_uring_cqe_seen(ring, cqe);
	}
	close(fd);
	if (err < 0)
		return err;
	return memcmp(buf, "\177ELF", 4) ? -EIO : 0;
}

struct probe {
	enum thaw_ring_state state;
	const char *why;
};

static enum thaw_ring_state denied(const char **why)
{
	switch (disabled_by_sysctl()) {
	case 1:
		*why = "the sysctl kernel.io_uring_disabled=1 asks for CAP_SYS_ADMIN or the group "
		       "kernel.io_uring_group";
		break;
	case 2:
		*why = "the sysctl kernel.io_uring_disabled=2 forbids it";
		break;
	default:
		*why = "a filter (seccomp of a container, or a security module) forbids it";
	}
	return THAW_RING_DENIED;
}

static enum thaw_ring_state probe(const char **why)
{
	struct io_uring ring;
	int err = THAW_INJECT("ring.setup");

	if (!err)
		err = io_uring_queue_init(4, &ring, 0);
	if (err == -ENOSYS) {
		*why = "the kernel has no io_uring, or a container's filter hides it";
		return THAW_RING_ABSENT;
	}
	if (err == -EPERM || err == -EACCES)
		return denied(why);
	if (err) {
		*why = err == -ENOMEM ? "making a ring fails for want of memory (RLIMIT_MEMLOCK)"
				      : "making a ring fails";
		return THAW_RING_BROKEN;
	}
	err = try_read(&ring);
	io_uring_queue_exit(&ring);
	if (err == -EPERM || err == -EACCES || err == -ENOSYS) {
		*why = "a ring can be made but not used: a filter forbids it";
		return THAW_RING_DENIED;
	}
	if (err) {
		*why = "a read through it goes wrong";
		return THAW_RING_BROKEN;
	}
	*why = "";
	return THAW_RING_OK;
}

static void *probe_thread(void *arg)
{
	struct probe *p = arg;

	p->state = probe(&p->why);
	return NULL;
}

/* A ring's end is carried out later, as work of the thread that used it: a system call in which that thread waits by
 * then fails with EINTR. So no ring is touched in a thread that is not ours. */
enum thaw_ring_state thaw_ring_probe(const char **why)
{
	struct probe p = { THAW_RING_BROKEN, "no thread can be made to try it" };
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!pthread_create(&thread, NULL, probe_thread, &p))
		pthread_join(thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (why)
		*why = p.why;
	return p.state;
}

int thaw_ring_uring_init(struct thaw_ring *r)
{
	const char *why;

	r->wake_fd = thaw_sys_eventfd(false); /* a read of a non-blocking one would not wait in the ring */
	if (r->wake_fd < 0)
		return thaw_err_set(r->wake_fd, "i/o ring: eventfd: %s", strerror(-r->wake_fd));
	switch (thaw_ring_probe(&why)) {
	case THAW_RING_OK:
		return 0;
	case THAW_RING_ABSENT:
	case THAW_RING_DENIED:
	case THAW_RING_BROKEN:
		break;
	}
	close(r->wake_fd);
	return thaw_err_set(-EPERM, "io_uring: %s; allow it, or choose the pool of threads", why);
}

/* By the thread that runs it, see thaw_ring_probe(). */
static int make_ring(struct thaw_ring *r)
{
	int err = THAW_INJECT("ring.make");

	if (!err)
		err = io_uring_queue_init(r->limit + 1, &r->uring, 0); /* one more: the eventfd's read */
	if (!err)
		io_uring_ring_dontfork(&r->uring);
	return err;
}

void thaw_ring_uring_exit(struct thaw_ring *r)
{
	close(r->wake_fd);
}

void thaw_ring_uring_wake(struct thaw_ring *r)
{
	(void)thaw_sys_eventfd_raise(r->wake_fd); /* where that fails, it looks by itself soon: see enter() */
}

/* There is always room: the ring has `limit` + 1 entries, and take_locked gives at most `limit`. */
static void prepare(struct thaw_ring *r, struct thaw_ring_req *req)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	if (req)
		io_uring_prep_read(sqe, req->fd, (char *)req->buf + req->got,
				   THAW_INJECT_SHORT("ring.read", req->len - req->got, 1), req->off + req->got);
	else
		io_uring_prep_read(sqe, r->wake_fd, &r->wake_value, sizeof(r->wake_value), 0);
	io_uring_sqe_set_data(sqe, req);
}

/* Starts what may start. With nothing to start the thread is going to sleep: from here on a submitter must wake it. */
static bool start_waiting(struct thaw_ring *r, bool may_sleep, bool *stopping)
{
	struct thaw_ring_req *req;
	bool any = false;

	THAW_SCOPED_LOCK(&r->lock);
	while ((req = thaw_ring_take_locked(r))) {
		prepare(r, req);
		any = true;
	}
	*stopping = r->stopping;
	r->asleep = !any && may_sleep && !r->stopping;
	return any;
}

/* A read has ended; short ones go on behind what has come. */
static void complete(struct thaw_ring *r, struct thaw_ring_req *req, int res, void *thread)
{
	int injected = THAW_INJECT("ring.read");

	if (injected)
		res = injected;
	if (res > 0)
		req->got += res;
	if (res == -EINTR || res == -EAGAIN || (res > 0 && req->got < req->len)) {
		prepare(r, req);
		return;
	}
	thaw_ring_finish(r, req, res < 0 ? -res : res == 0 && req->len ? ENODATA : 0, thread);
}

/* Returns how many completions were handled. *armed: the eventfd's read is still under way. */
static unsigned reap(struct thaw_ring *r, bool *armed, void *thread)
{
	struct io_uring_cqe *cqe;
	unsigned n = 0;

	while (!io_uring_peek_cqe(&r->uring, &cqe)) {
		struct thaw_ring_req *req = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&r->uring, cqe); /* first: done() may take long */
		n++;
		if (!req)
			*armed = false;
		else if ((void *)req != r) /* else: what cancel_wake() asked for */
			complete(r, req, res, thread);
	}
	return n;
}

static void enter(struct thaw_ring *r, bool wait)
{
	struct __kernel_timespec longest = { .tv_nsec = 250000000 };
	struct io_uring_cqe *cqe;
	int err = THAW_INJECT("ring.submit");

	if (!err)
		err = wait ? io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, &longest, NULL) : io_uring_submit(&r->uring);

	/* EINTR, EAGAIN and EBUSY pass once completions have been taken; anything else would be a mistake of ours. Both
	 * end in another try: the requests are never reported as read when they are not. */
	if (err < 0 && err != -EINTR && err != -ETIME)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/* Not by a write to it: that may fail, and this is the last that could wait for it. */
static void cancel_wake(struct thaw_ring *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	io_uring_prep_cancel(sqe, NULL, 0);
	io_uring_sqe_set_data(sqe, r);
}

int thaw_ring_uring_run(struct thaw_ring *r, void *thread)
{
	bool armed = false, stopping = false, idle = false;
	int err = make_ring(r);

	if (err)
		return err;
	for (;;) {
		bool any = start_waiting(r, idle, &stopping);

		if (stopping && !__atomic_load_n(&r->active, __ATOMIC_RELAXED))
			break; /* only this thread raises `active` */
		if (!armed) {
			prepare(r, NULL);
			armed = true;
		}
		/* Sleep only when the look at the queues just now said so: `asleep` is set and submitters wake us. */
		enter(r, !any && (idle || stopping));
		idle = !reap(r, &armed, thread) && !any;
	}
	if (armed) { /* the read of the eventfd lands in r: it has to end before r goes */
		cancel_wake(r);
		while (armed) {
			enter(r, true);
			reap(r, &armed, thread);
		}
	}
	io_uring_queue_exit(&r->uring);
	return 0;
}
