// SPDX-License-Identifier: LGPL-2.1-or-later
/* test_uffd.c - every answer of the establishing calls and every message, produced on purpose in another process */
#include "config.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "util/inject.h"
#include "support/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define PAGES 64
#define LEN (PAGES * PG)

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			failures++; \
		} \
	} while (0)

static int failures;

/* ---- the other process: does what it is told, one thing at a time ---------------------------------------- */

enum op { READ, WRITE, MADVISE, MPROTECT, MUNMAP, MREMAP, FORK, EXEC, QUIT };
struct order {
	enum op op;
	uint64_t a, b, c, d, e;
};
struct hello {
	uint64_t base;
	int fd;
};

static int64_t obey(const struct order *o)
{
	char *argv[] = { "sleep", "100", NULL };
	int status;
	pid_t pid;

	switch (o->op) {
	case READ:
		return *(volatile unsigned char *)o->a;
	case WRITE:
		*(volatile unsigned char *)o->a = o->b;
		return 0;
	case MADVISE:
		return madvise((void *)o->a, o->b, o->c) ? -errno : 0;
	case MPROTECT:
		return mprotect((void *)o->a, o->b, o->c) ? -errno : 0;
	case MUNMAP:
		return munmap((void *)o->a, o->b) ? -errno : 0;
	case MREMAP: {
		void *p = mremap((void *)o->a, o->b, o->c, o->d, (void *)o->e);

		return p == MAP_FAILED ? -errno : (int64_t)p;
	}
	case FORK:
		pid = fork();
		if (pid == 0)
			_exit(*(volatile unsigned char *)o->a);
		waitpid(pid, &status, 0);
		return status;
	case EXEC:
		execvp(argv[0], argv);
		return -errno;
	case QUIT:
		_exit(0);
	}
	return -EINVAL;
}

static void agent(int sock)
{
	struct hello h;
	struct order o;
	int64_t answer;
	char *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, SIG_DFL); /* a sanitizer's handler would end us another way */
	p = mmap(NULL, 4 * LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(p, 4 * LEN, MADV_NOHUGEPAGE);
	munmap(p + 2 * LEN, 2 * LEN); /* [base, 2 LEN) is there, what follows is free */
	h.base = (uintptr_t)p;
	h.fd = thaw_uffd_open_features(THAW_UFFD_EVENTS, NULL);
	if (h.fd < 0 || thaw_uffd_register(h.fd, h.base, LEN)) {
		fprintf(stderr, "%s\n", thaw_err_text());
		_exit(1);
	}
	if (write(sock, &h, sizeof(h)) != sizeof(h))
		_exit(1);
	while (read(sock, &o, sizeof(o)) == sizeof(o)) {
		if (h.fd >= 0) /* the first order comes when the other side has its duplicate */
			close(h.fd);
		h.fd = -1;
		answer = obey(&o);
		if (write(sock, &answer, sizeof(answer)) != sizeof(answer))
			_exit(1);
	}
	_exit(0);
}

struct other {
	pid_t pid;
	int sock, uffd;
	uint64_t base;
};

static void start(struct other *t)
{
	int socks[2], pidfd;
	struct hello h;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		exit(1);
	t->pid = fork();
	if (t->pid == 0) {
		close(socks[0]);
		agent(socks[1]);
	}
	close(socks[1]);
	t->sock = socks[0];
	if (read(t->sock, &h, sizeof(h)) != sizeof(h))
		exit(1);
	pidfd = thaw_sys_pidfd_open(t->pid);
	t->uffd = thaw_sys_pidfd_getfd(pidfd, h.fd);
	close(pidfd);
	if (t->uffd < 0)
		exit(1);
	t->base = h.base;
}

static void stop(struct other *t)
{
	if (t->pid > 0 &&
	    waitpid(t->pid, NULL, WNOHANG) == 0) { /* else it has been waited for: the number is not ours */
		kill(t->pid, SIGKILL);
		waitpid(t->pid, NULL, 0);
	}
	close(t->sock);
	close(t->uffd);
}

static void order(struct other *t, enum op op, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	struct order o = { op, a, b, c, d, e };

	if (write(t->sock, &o, sizeof(o)) != sizeof(o))
		exit(1);
}

static int64_t answer(struct other *t)
{
	int64_t a = -EIO;

	return read(t->sock, &a, sizeof(a)) == sizeof(a) ? a : -EPIPE;
}

/* An answer that must not come yet: the process waits. */
static bool waits(struct other *t)
{
	struct pollfd p = { .fd = t->sock, .events = POLLIN };

	return poll(&p, 1, 20) == 0;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
}

/* The next message, of at most five seconds. */
static struct uffd_msg message(int uffd)
{
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	struct uffd_msg m = { 0 };

	if (poll(&p, 1, patience(5000)) == 1 && thaw_uffd_read(uffd, &m, 1) != sizeof(m))
		m.event = 0;
	return m;
}

static bool silent(int uffd)
{
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	struct uffd_msg m;

	return poll(&p, 1, 20) == 0 && thaw_uffd_read(uffd, &m, 1) == 0;
}

static char source[LEN];

static struct thaw_fill copy(struct other *t, unsigned page, unsigned n)
{
	return thaw_uffd_copy(t->uffd, t->base + page * PG, source + page * PG, n * PG, true);
}

/* Until the thread that was told about has run; bounded. */
static enum thaw_outcome copy_settled(int uffd, uint64_t dst, const void *src)
{
	enum thaw_outcome o = THAW_CHANGING;
	int i;

	for (i = 0; i < 20000 && o == THAW_CHANGING; i++) {
		o = thaw_uffd_copy(uffd, dst, src, PG, true).outcome;
		if (o == THAW_CHANGING)
			nap();
	}
	return o;
}

/* ---- answers --------------------------------------------------------------------------------------------- */

static void test_placed_partial_present(void)
{
	struct other t;
	struct thaw_fill f;

	start(&t);
	f = copy(&t, 0, 4);
	CHECK(f.outcome == THAW_PLACED && f.done == 4 * PG && !f.error);
	order(&t, READ, t.base + 3 * PG, 0, 0, 0, 0);
	CHECK(answer(&t) == (unsigned char)source[3 * PG]);
	CHECK(copy(&t, 10, 1).outcome == THAW_PLACED);
	f = copy(&t, 8, 6);
	CHECK(f.outcome == THAW_PARTIAL && f.done == 2 * PG);
	f = copy(&t, 10, 4);
	CHECK(f.outcome == THAW_PRESENT && f.done == 0 && f.error == EEXIST);
	/* A sleeper is not woken by PRESENT, and is by WAKE. */
	order(&t, READ, t.base + 20 * PG, 0, 0, 0, 0);
	CHECK(message(t.uffd).event == UFFD_EVENT_PAGEFAULT);
	CHECK(thaw_uffd_copy(t.uffd, t.base + 20 * PG, source + 20 * PG, PG, false).outcome == THAW_PLACED);
	CHECK(waits(&t));
	CHECK(copy(&t, 20, 1).outcome == THAW_PRESENT);
	CHECK(waits(&t));
	CHECK(thaw_uffd_wake(t.uffd, t.base + 20 * PG, PG) == 0);
	CHECK(answer(&t) == (unsigned char)source[20 * PG]);
	/* A missing page: the message names it, its content ends the wait. */
	order(&t, WRITE, t.base + 30 * PG + 5, 7, 0, 0, 0);
	{
		struct uffd_msg m = message(t.uffd);

		CHECK(m.event == UFFD_EVENT_PAGEFAULT && (m.arg.pagefault.address & ~(PG - 1)) == t.base + 30 * PG);
		CHECK(m.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE);
	}
	CHECK(copy(&t, 30, 1).outcome == THAW_PLACED && answer(&t) == 0);
	order(&t, READ, t.base + 30 * PG + 6, 0, 0, 0, 0);
	CHECK(answer(&t) == (unsigned char)source[30 * PG + 6]);
	stop(&t);
}

static void test_zero_poison(void)
{
	uint64_t features = 0;
	struct other t;
	struct thaw_fill f;
	int fd, status;

	start(&t);
	f = thaw_uffd_zero(t.uffd, t.base, 2 * PG);
	CHECK(f.outcome == THAW_PLACED && f.done == 2 * PG);
	CHECK(thaw_uffd_zero(t.uffd, t.base + PG, PG).outcome == THAW_PRESENT);
	order(&t, READ, t.base + PG, 0, 0, 0, 0);
	CHECK(answer(&t) == 0);
#ifdef THAW_DEBUG
	thaw_inject_arm("uffd.poison:EAGAIN:1,uffd.unregister:ENOMEM:1");
	CHECK(thaw_uffd_poison(t.uffd, t.base + 4 * PG, PG).outcome == THAW_CHANGING);
	CHECK(thaw_uffd_unregister(t.uffd, t.base, PAGES * PG) == -ENOMEM);
	thaw_inject_arm(NULL);
#endif
	fd = thaw_uffd_open_features(0, &features);
	close(fd);
	if (features & UFFD_FEATURE_POISON) {
		f = thaw_uffd_poison(t.uffd, t.base + 5 * PG, PG);
		CHECK(f.outcome == THAW_PLACED && f.done == PG);
		order(&t, READ, t.base + 5 * PG, 0, 0, 0, 0);
		CHECK(waitpid(t.pid, &status, 0) == t.pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	}
	stop(&t);
}

static void test_changing(void)
{
	struct other t;
	struct thaw_fill f;
	struct uffd_msg m;

	start(&t);
	CHECK(copy(&t, 0, 8).outcome == THAW_PLACED);
	CHECK(thaw_uffd_probe(t.uffd) == THAW_NO_VMA);
	order(&t, MADVISE, t.base, 4 * PG, MADV_DONTNEED, 0, 0);
	CHECK(waits(&t)); /* for its message to be read */
	f = copy(&t, 20, 4);
	CHECK(f.outcome == THAW_CHANGING && f.done == 0 && f.error == EAGAIN);
	CHECK(thaw_uffd_zero(t.uffd, t.base + 20 * PG, PG).outcome == THAW_CHANGING);
	CHECK(thaw_uffd_probe(t.uffd) == THAW_CHANGING);
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_REMOVE && m.arg.remove.start == t.base && m.arg.remove.end == t.base + 4 * PG);
	CHECK(answer(&t) == 0);
	CHECK(copy_settled(t.uffd, t.base + 20 * PG, source + 20 * PG) == THAW_PLACED);
	CHECK(copy(&t, 0, 1).outcome == THAW_PLACED); /* it had been zapped */
	CHECK(copy(&t, 5, 1).outcome == THAW_PRESENT);
	stop(&t);
}

static void test_no_vma(void)
{
	struct other t;

	start(&t);
	CHECK(copy(&t, PAGES + 1, 1).outcome == THAW_NO_VMA); /* mapped, not registered */
	CHECK(thaw_uffd_copy(t.uffd, t.base + 3 * LEN, source, PG, true).outcome == THAW_NO_VMA);
	order(&t, MPROTECT, t.base + 10 * PG, 2 * PG, PROT_NONE, 0, 0);
	CHECK(answer(&t) == 0);
	CHECK(silent(t.uffd)); /* mprotect splits and tells nobody */
	CHECK(copy(&t, 8, 8).outcome == THAW_NO_VMA);
	CHECK(copy(&t, 8, 2).outcome == THAW_PLACED);
	CHECK(copy(&t, 10, 2).outcome == THAW_PLACED); /* protection does not matter */
	CHECK(copy(&t, 12, 4).outcome == THAW_PLACED);
	order(&t, MPROTECT, t.base + 10 * PG, 2 * PG, PROT_READ, 0, 0);
	CHECK(answer(&t) == 0);
	order(&t, READ, t.base + 11 * PG, 0, 0, 0, 0);
	CHECK(answer(&t) == (unsigned char)source[11 * PG]);
	stop(&t);
}

static void test_dead(void)
{
	struct other t;
	int i;

	start(&t);
	CHECK(thaw_uffd_probe(t.uffd) == THAW_NO_VMA);
	order(&t, EXEC, 0, 0, 0, 0, 0);
	for (i = 0; i < 5000 && thaw_uffd_probe(t.uffd) != THAW_DEAD; i++)
		nap();
	CHECK(thaw_uffd_probe(t.uffd) == THAW_DEAD);
	CHECK(silent(t.uffd)); /* exec tells nobody */
	CHECK(copy(&t, 0, 1).outcome == THAW_DEAD && copy(&t, 0, 1).error == ESRCH);
	stop(&t);
	start(&t);
	kill(t.pid, SIGKILL);
	waitpid(t.pid, NULL, 0);
	CHECK(copy(&t, 0, 1).outcome == THAW_DEAD && thaw_uffd_zero(t.uffd, t.base, PG).outcome == THAW_DEAD);
	CHECK(silent(t.uffd) && thaw_uffd_wake(t.uffd, t.base, PG) == 0);
	close(t.sock);
	close(t.uffd);
}

static void test_broken(void)
{
	struct thaw_fill f;
	struct other t;
	char *nothing = mmap(NULL, PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	start(&t);
	f = thaw_uffd_copy(t.uffd, t.base + 1, source, PG, true);
	CHECK(f.outcome == THAW_BROKEN && f.error == EINVAL && f.done == 0);
	f = thaw_uffd_copy(t.uffd, t.base, nothing, PG, true);
	CHECK(f.outcome == THAW_BROKEN && f.error == EFAULT && f.done == 0);
	f = thaw_uffd_copy(-1, t.base, source, PG, true);
	CHECK(f.outcome == THAW_BROKEN && f.error == EBADF);
	CHECK(thaw_uffd_register(t.uffd, t.base + 3 * LEN, PG) == -EINVAL);
	CHECK(copy(&t, 0, 1).outcome == THAW_PLACED); /* and afterwards all is well */
	stop(&t);
	munmap(nothing, PG);
}

#define MEMCG "/sys/fs/cgroup/memory"

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* A limited memory cgroup (version 1) without its killer; false where that cannot be had. */
static bool limit_memory(struct other *t, const char *dir)
{
	char path[256], pid[16];

	if (mkdir(dir, 0700))
		return false;
	snprintf(pid, sizeof(pid), "%d", t->pid);
	snprintf(path, sizeof(path), "%s/memory.oom_control", dir);
	if (!put(path, "1"))
		return false;
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	if (!put(path, pid))
		return false;
	snprintf(path, sizeof(path), "%s/memory.limit_in_bytes", dir);
	return put(path, "65536");
}

static void test_no_memory(void)
{
	struct thaw_fill f = { 0 };
	char dir[96];
	struct other t;
	unsigned i;

	start(&t);
	snprintf(dir, sizeof(dir), MEMCG "/thaw-test-%d", (int)getpid());
	if (limit_memory(&t, dir)) {
		for (i = 0; i < PAGES && (f = copy(&t, i, 1)).outcome == THAW_PLACED; i++)
			;
		CHECK(f.outcome == THAW_NO_MEMORY && f.error == ENOMEM);
	} else {
#ifdef THAW_DEBUG
		thaw_inject_arm("uffd.copy:ENOMEM:1");
		f = copy(&t, 0, 1);
		thaw_inject_arm(NULL);
		CHECK(f.outcome == THAW_NO_MEMORY && f.error == ENOMEM);
		CHECK(copy(&t, 0, 1).outcome == THAW_PLACED);
#else
		fprintf(stderr, "no memory: left out, there is no memory cgroup of version 1\n");
#endif
	}
	stop(&t);
	for (i = 0; i < 1000 && rmdir(dir) && errno == EBUSY; i++)
		nap();
}

/* ---- messages -------------------------------------------------------------------------------------------- */

static void test_fork(void)
{
	struct uffd_msg m;
	struct other t;
	int child;

	start(&t);
	CHECK(copy(&t, 0, 1).outcome == THAW_PLACED);
	order(&t, FORK, t.base + 9 * PG, 0, 0, 0, 0); /* the child ends with the byte that it reads there */
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_FORK);
	child = m.arg.fork.ufd;
	m = message(child);
	CHECK(m.event == UFFD_EVENT_PAGEFAULT && (m.arg.pagefault.address & ~(PG - 1)) == t.base + 9 * PG);
	CHECK(thaw_uffd_copy(child, t.base, source, PG, true).outcome ==
	      THAW_PRESENT); /* the parent's page is the child's too */
	CHECK(copy_settled(child, t.base + 9 * PG, source + 9 * PG) == THAW_PLACED);
	CHECK(answer(&t) == (unsigned char)source[9 * PG] << 8);
	CHECK(copy_settled(t.uffd, t.base + 9 * PG, source + 9 * PG) ==
	      THAW_PLACED); /* the child's page is not the parent's */
	CHECK(thaw_uffd_probe(child) == THAW_DEAD);
	close(child);
	stop(&t);
}

static void test_remap(void)
{
	struct uffd_msg m;
	struct other t;
	uint64_t to;

	start(&t);
	to = t.base + 2 * LEN;
	CHECK(copy(&t, 1, 1).outcome == THAW_PLACED);
	order(&t, MREMAP, t.base, 16 * PG, 16 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_REMAP && m.arg.remap.from == t.base && m.arg.remap.to == to &&
	      m.arg.remap.len == 16 * PG);
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_UNMAP && m.arg.remove.start == t.base && m.arg.remove.end == t.base + 16 * PG);
	CHECK((uint64_t)answer(&t) == to);
	CHECK(copy_settled(t.uffd, to + PG, source + PG) == THAW_PRESENT); /* moved with it */
	CHECK(copy_settled(t.uffd, to + 2 * PG, source + 2 * PG) == THAW_PLACED);
	CHECK(copy_settled(t.uffd, t.base + 2 * PG, source + 2 * PG) == THAW_NO_VMA);
	/* Growing in place says nothing; the new pages are registered. */
	order(&t, MREMAP, to, 16 * PG, 20 * PG, 0, 0);
	CHECK((uint64_t)answer(&t) == to && silent(t.uffd));
	CHECK(copy_settled(t.uffd, to + 18 * PG, source) == THAW_PLACED);
	/* Shrinking is an UNMAP of the tail. */
	order(&t, MREMAP, to, 20 * PG, 8 * PG, 0, 0);
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_UNMAP && m.arg.remove.start == to + 8 * PG && m.arg.remove.end == to + 20 * PG);
	CHECK((uint64_t)answer(&t) == to);
	stop(&t);
}

static void test_dontunmap(void)
{
	struct uffd_msg m;
	struct other t;
	uint64_t to;

	start(&t);
	to = t.base + 2 * LEN;
	CHECK(copy(&t, 1, 1).outcome == THAW_PLACED);
	order(&t, MREMAP, t.base, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED | 4 /* MREMAP_DONTUNMAP */, to);
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_REMAP && m.arg.remap.from == t.base && m.arg.remap.to == to &&
	      m.arg.remap.len == LEN);
	CHECK((uint64_t)answer(&t) == to && silent(t.uffd)); /* no UNMAP */
	order(&t, READ, t.base + PG, 0, 0, 0, 0); /* the old range is registered still, and empty */
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_PAGEFAULT && (m.arg.pagefault.address & ~(PG - 1)) == t.base + PG);
	CHECK(thaw_uffd_zero(t.uffd, t.base + PG, PG).outcome == THAW_PLACED && answer(&t) == 0);
	stop(&t);
}

static void test_unmap_free(void)
{
	struct uffd_msg m;
	struct other t;

	start(&t);
	order(&t, MUNMAP, t.base + 4 * PG, 8 * PG, 0, 0, 0);
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_UNMAP && m.arg.remove.start == t.base + 4 * PG &&
	      m.arg.remove.end == t.base + 12 * PG);
	CHECK(answer(&t) == 0);
	CHECK(copy_settled(t.uffd, t.base + 4 * PG, source) == THAW_NO_VMA);
	CHECK(copy_settled(t.uffd, t.base + 3 * PG, source) == THAW_PLACED);
	order(&t, MADVISE, t.base, 2 * PG, MADV_FREE, 0, 0);
	m = message(t.uffd);
	CHECK(m.event == UFFD_EVENT_REMOVE && m.arg.remove.start == t.base && m.arg.remove.end == t.base + 2 * PG);
	CHECK(answer(&t) == 0);
	order(&t, QUIT, 0, 0, 0, 0, 0);
	CHECK(waitpid(t.pid, NULL, 0) == t.pid && silent(t.uffd)); /* exit tells nobody */
	stop(&t);
}

int main(void)
{
	unsigned i;
	int fd;

	alarm(patience(120));
	fd = thaw_uffd_open_features(THAW_UFFD_EVENTS, NULL);
	if (fd < 0) {
		fprintf(stderr, "%s\n", thaw_err_text());
		return 77;
	}
	close(fd);
	for (i = 0; i < LEN; i++)
		source[i] = i / PG + 3 * i + 1;
	test_placed_partial_present();
	test_zero_poison();
	test_changing();
	test_no_vma();
	test_dead();
	test_broken();
	test_no_memory();
	test_fork();
	test_remap();
	test_dontunmap();
	test_unmap_free();
	return failures ? 1 : 0;
}
