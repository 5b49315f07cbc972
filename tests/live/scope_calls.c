// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_calls.c - threads that wait in system calls: these go on, and end as if nothing had been */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

static int ends[2];
static uint32_t word;

static long futex(int op, uint32_t val, const struct timespec *t)
{
	return syscall(SYS_futex, &word, op, val, t, NULL, FUTEX_BITSET_MATCH_ANY);
}

/* Waits that something ends: the result of the call, or -errno. */
static long wait_read(void)
{
	char c;

	return read(ends[0], &c, 1);
}

static long wait_poll(void)
{
	struct pollfd p = { .fd = ends[0], .events = POLLIN };

	return poll(&p, 1, -1);
}

static long wait_poll_long(void)
{
	struct pollfd p = { .fd = ends[0], .events = POLLIN };

	return poll(&p, 1, 60000);
}

static long wait_ppoll(void)
{
	struct pollfd p = { .fd = ends[0], .events = POLLIN };
	struct timespec t = { .tv_sec = 60 };
	sigset_t mask;

	sigfillset(&mask);
	return ppoll(&p, 1, &t, &mask);
}

static long wait_select(void)
{
	struct timeval t = { .tv_sec = 60 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(ends[0], &set);
	return select(ends[0] + 1, &set, NULL, NULL, &t);
}

static long wait_pselect(void)
{
	sigset_t mask;
	fd_set set;

	sigfillset(&mask);
	FD_ZERO(&set);
	FD_SET(ends[0], &set);
	return pselect(ends[0] + 1, &set, NULL, NULL, NULL, &mask);
}

static long epoll(int timeout)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 0x123456789abcULL }, got;
	int ep = epoll_create1(0);
	long n;

	CHECK(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &e));
	n = epoll_wait(ep, &got, 1, timeout);
	CHECK(n != 1 || got.data.u64 == 0x123456789abcULL);
	return n;
}

static long wait_epoll(void)
{
	return epoll(-1);
}

static long wait_epoll_long(void)
{
	return epoll(60000);
}

static long wait_futex(void)
{
	return futex(FUTEX_WAIT_PRIVATE, 0, NULL) + 1;
}

static long wait_futex_long(void)
{
	struct timespec t = { .tv_sec = 60 };

	return futex(FUTEX_WAIT_PRIVATE, 0, &t) + 1;
}

static long wait_futex_until(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 60;
	return futex(FUTEX_WAIT_BITSET_PRIVATE, 0, &t) + 1;
}

static void *call(void *arg)
{
	long (*fn)(void) = (long (*)(void))arg;
	long n = fn();

	return (void *)(n < 0 ? -(long)errno : n);
}

/* Each of them returns 1 once its event has come, and not before. */
static void run_until_event(void)
{
	static long (*const calls[])(void) = { wait_read, wait_poll, wait_poll_long, wait_ppoll, wait_select, wait_pselect,
					       wait_epoll, wait_epoll_long, wait_futex, wait_futex_long, wait_futex_until };
	enum { N = sizeof(calls) / sizeof(calls[0]) };
	pthread_t t[N];
	void *result;

	CHECK(!pipe(ends));
	for (int i = 0; i < N; i++)
		t[i] = scope_blocked(call, (void *)calls[i]);
	scope_point();
	usleep(100000);
	for (int i = 0; i < N; i++) {
		if (pthread_tryjoin_np(t[i], &result) == EBUSY)
			continue;
		fprintf(stderr, "call %d ended with %ld\n", i, (long)result);
		CHECK(!"a call ended before its event");
	}
	__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
	futex(FUTEX_WAKE_PRIVATE, 100, NULL);
	CHECK(write(ends[1], "ab", 2) == 2); /* one for read, one that stays for the others to see */
	for (int i = 0; i < N; i++) {
		CHECK(!pthread_join(t[i], &result));
		if ((long)result != 1)
			fprintf(stderr, "call %d: ", i);
		CHECK_IS((long)result, 1);
	}
}

#define SLEEP 1.5

static long time_nanosleep(void)
{
	struct timespec t = { .tv_sec = 1, .tv_nsec = 500000000 };

	return nanosleep(&t, NULL);
}

static long time_nanosleep_rem(void)
{
	struct timespec t = { .tv_sec = 1, .tv_nsec = 500000000 }, rem;

	return nanosleep(&t, &rem);
}

static long time_clock_until(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 1;
	t.tv_nsec += 500000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static long time_poll(void)
{
	return poll(NULL, 0, 1500);
}

static long time_ppoll(void)
{
	struct timespec t = { .tv_sec = 1, .tv_nsec = 500000000 };

	return ppoll(NULL, 0, &t, NULL);
}

static long time_select(void)
{
	struct timeval t = { .tv_sec = 1, .tv_usec = 500000 };

	return select(0, NULL, NULL, NULL, &t);
}

static long time_epoll(void)
{
	struct epoll_event got;

	return epoll_wait(epoll_create1(0), &got, 1, 1500);
}

static long time_futex(void)
{
	struct timespec t = { .tv_sec = 1, .tv_nsec = 500000000 };
	long n = futex(FUTEX_WAIT_PRIVATE, 0, &t);

	return n < 0 && errno == ETIMEDOUT ? 0 : -1;
}

static long time_sigtimedwait(void)
{
	struct timespec t = { .tv_sec = 1, .tv_nsec = 500000000 };
	sigset_t set;
	long n;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 7);
	n = sigtimedwait(&set, NULL, &t);
	return n < 0 && errno == EAGAIN ? 0 : -1;
}

struct timed {
	long (*fn)(void);
	double took;
	long result;
};

static void *time_call(void *arg)
{
	struct timed *c = arg;
	double start = scope_now();

	errno = 0;
	c->result = c->fn();
	if (c->result < 0 && errno)
		c->result = -errno;
	c->took = scope_now() - start;
	return NULL;
}

/* Relative and absolute timeouts: none ends early, none with EINTR, and none starts all over long after. */
static void run_until_time(void)
{
	static struct timed calls[] = { { time_nanosleep }, { time_nanosleep_rem }, { time_clock_until }, { time_poll },
					{ time_ppoll }, { time_select }, { time_epoll }, { time_futex },
					{ time_sigtimedwait } };
	enum { N = sizeof(calls) / sizeof(calls[0]) };
	pthread_t t[N];

	for (int i = 0; i < N; i++)
		t[i] = scope_blocked(time_call, &calls[i]);
	scope_point();
	for (int i = 0; i < N; i++) {
		CHECK(!pthread_join(t[i], NULL));
		if (calls[i].result || calls[i].took < SLEEP - 0.001)
			fprintf(stderr, "call %d: result %ld after %.3f s\n", i, calls[i].result, calls[i].took);
		CHECK_IS(calls[i].result, 0);
		CHECK(calls[i].took >= SLEEP - 0.001);
	}
}

static void *lock_it(void *arg)
{
	return (void *)(long)(pthread_mutex_lock(arg) || pthread_mutex_unlock(arg));
}

static void *wait_semaphore(void *arg)
{
	return (void *)(long)sem_wait(arg);
}

/* What the C library makes of futexes. */
static void run_locks(void)
{
	static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	static sem_t sem;
	pthread_t a, b;
	void *result;

	CHECK(!sem_init(&sem, 0, 0) && !pthread_mutex_lock(&m));
	a = scope_blocked(lock_it, &m);
	b = scope_blocked(wait_semaphore, &sem);
	scope_point();
	CHECK(pthread_tryjoin_np(a, &result) == EBUSY);
	CHECK(!pthread_mutex_unlock(&m) && !sem_post(&sem));
	CHECK(!pthread_join(a, &result) && !result);
	CHECK(!pthread_join(b, &result) && !result);
}

/* Sockets with a time-out: their calls failed with EINTR when the process was stopped. */
static int streams[7][2], listener;

static void fill(int fd)
{
	char buf[4096] = { 0 };

	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	CHECK_IS(errno, EAGAIN);
}

static long sock_recv(void)
{
	char c;

	return recv(streams[0][0], &c, 1, 0);
}

static long sock_read(void)
{
	char c;

	return read(streams[1][0], &c, 1);
}

static long sock_recvmsg(void)
{
	char c;
	struct iovec v = { &c, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	return recvmsg(streams[2][0], &m, 0);
}

static long sock_recvmmsg(void)
{
	char c;
	struct iovec v = { &c, 1 };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &v, .msg_iovlen = 1 } };

	return recvmmsg(streams[3][0], &m, 1, 0, NULL);
}

static long sock_send(void)
{
	return send(streams[4][0], "x", 1, 0);
}

static long sock_write(void)
{
	return write(streams[5][0], "x", 1);
}

static long sock_writev(void)
{
	struct iovec v = { "x", 1 };

	return writev(streams[6][0], &v, 1);
}

static long sock_accept(void)
{
	return accept(listener, NULL, NULL) >= 0;
}

static void run_socket_timeouts(void)
{
	static long (*const calls[])(void) = { sock_recv, sock_read, sock_recvmsg, sock_recvmmsg, sock_send, sock_write, sock_writev,
					       sock_accept };
	enum { N = sizeof(calls) / sizeof(calls[0]), READERS = 4, STREAMS = 7 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const struct timeval minute = { .tv_sec = 60 };
	socklen_t len = sizeof(a.sun_family);
	char buf[4096];
	pthread_t t[N];
	void *result;

	for (int i = 0; i < STREAMS; i++) {
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, streams[i]));
		CHECK(!setsockopt(streams[i][0], SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof(minute)));
		CHECK(!setsockopt(streams[i][0], SOL_SOCKET, SO_SNDTIMEO, &minute, sizeof(minute)));
		if (i >= READERS)
			fill(streams[i][0]);
	}
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(!setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof(minute)));
	CHECK(!bind(listener, (void *)&a, len) && !listen(listener, 1)); /* a name that the kernel finds */
	len = sizeof(a);
	CHECK(!getsockname(listener, (void *)&a, &len));
	for (int i = 0; i < N; i++)
		t[i] = scope_blocked(call, (void *)calls[i]);
	scope_point();
	usleep(100000);
	for (int i = 0; i < N; i++) {
		if ((i >= READERS && i < STREAMS) || pthread_tryjoin_np(t[i], &result) == EBUSY)
			continue; /* a queue that was filled again may have a little more room */
		fprintf(stderr, "call %d ended with %ld\n", i, (long)result);
		CHECK(!"a call ended before its event");
	}
	for (int i = 0; i < READERS; i++)
		CHECK(write(streams[i][1], "x", 1) == 1);
	for (int i = READERS; i < STREAMS; i++)
		while (recv(streams[i][1], buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
	CHECK(!connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, len));
	for (int i = 0; i < N; i++) {
		CHECK(!pthread_join(t[i], &result));
		if ((long)result != 1)
			fprintf(stderr, "call %d: ", i);
		CHECK_IS((long)result, 1);
	}
}

const struct scope_item scope_calls[] = {
	{ "until-event", run_until_event },
	{ "until-time", run_until_time },
	{ "locks", run_locks },
	{ "socket-timeouts", run_socket_timeouts },
	{ 0 },
};
