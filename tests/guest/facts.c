// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/guest/facts.c - what the running kernel does in the cases that thaw relies on, one line each: "case: what was seen".
 *
 * A reader thread writes down every message and answers faults with zeros. It holds a lock over {read, write down}, so whoever has
 * been let go by a read() finds the message in the notes; who wants a message to stay unread holds the lock. Pages are named by their
 * number in one arena, so the lines are the same wherever it lies. What differs between kernels is what the lines are for. */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_DONTNEED_LOCKED /* Linux 5.18 */
#define MADV_DONTNEED_LOCKED 24
#endif
#define EVENTS (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)
#define ARENA 1024 /* pages */
#define UNTOUCHED 0x7777

static int uffd, child_uffd = -1;
static char *arena, *content;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* notes, child_uffd, and who reads */
static char notes[4096];
static atomic_bool ends;

/* ---- notes --------------------------------------------------------------------------------------------------------------- */
static void __attribute__((format(printf, 1, 2))) note(const char *format, ...) /* lock held */
{
	size_t n = strlen(notes);
	va_list a;

	va_start(a, format);
	vsnprintf(notes + n, sizeof(notes) - n, format, a);
	va_end(a);
}

static bool first_line = true;

static void line(const char *what, const char *seen)
{
	while (*seen == ' ')
		seen++;
	if (hole.json)
		printf("%s\"%s\":\"%s\"", first_line ? "" : ",", what, *seen ? seen : "nothing");
	else
		printf("%s: %s\n", what, *seen ? seen : "nothing");
	first_line = false;
}

static void __attribute__((format(printf, 2, 3))) fact(const char *what, const char *format, ...)
{
	char text[512];
	va_list a;

	va_start(a, format);
	vsnprintf(text, sizeof(text), format, a);
	va_end(a);
	line(what, text);
}

/* The messages since the last time. */
static void messages(const char *what)
{
	pthread_mutex_lock(&lock);
	line(what, notes);
	notes[0] = 0;
	pthread_mutex_unlock(&lock);
}

static void forget(void)
{
	pthread_mutex_lock(&lock);
	notes[0] = 0;
	pthread_mutex_unlock(&lock);
}

static const char *name(int ret)
{
	return ret ? strerrorname_np(-ret) : "0";
}

static long number(uint64_t address)
{
	return ((long)address - (long)arena) / (long)hole.page;
}

static void note_message(const struct uffd_msg *m, const char *who)
{
	switch (m->event) {
	case UFFD_EVENT_PAGEFAULT: note(" %sfault(%ld)", who, number(m->arg.pagefault.address)); break;
	case UFFD_EVENT_FORK: note(" %sFORK", who); break;
	case UFFD_EVENT_REMAP:
		note(" %sREMAP(%ld->%ld, %ld)", who, number(m->arg.remap.from), number(m->arg.remap.to),
		     (long)(m->arg.remap.len / hole.page));
		break;
	case UFFD_EVENT_REMOVE: note(" %sREMOVE[%ld,%ld)", who, number(m->arg.remove.start), number(m->arg.remove.end)); break;
	case UFFD_EVENT_UNMAP: note(" %sUNMAP[%ld,%ld)", who, number(m->arg.remove.start), number(m->arg.remove.end)); break;
	default: note(" %smessage %u", who, m->event);
	}
}

static void zero_fault(int fd, const struct uffd_msg *m)
{
	char *at = (char *)(uintptr_t)(m->arg.pagefault.address & ~(hole.page - 1));
	struct uffd_msg next;
	int ret;

	/* Faults are read before events, and an event that is unread is in the way of every answer. */
	while ((ret = hole_zero(fd, at, hole.page, 0, NULL)) == -EAGAIN) {
		if (read(fd, &next, sizeof(next)) != sizeof(next)) {
			sched_yield();
			continue;
		}
		note_message(&next, "");
		if (next.event == UFFD_EVENT_PAGEFAULT)
			hole_wake(fd, (char *)(uintptr_t)(next.arg.pagefault.address & ~(hole.page - 1)), hole.page);
	}
	if (ret) {
		note("{%s}", name(ret));
		hole_wake(fd, at, hole.page);
	}
}

static void *reader_thread(void *arg)
{
	struct uffd_msg m;

	(void)arg;
	while (!atomic_load(&ends)) {
		struct pollfd p[2] = { { .fd = uffd, .events = POLLIN }, { .fd = child_uffd, .events = POLLIN } };

		if (poll(p, 2, 10) <= 0)
			continue;
		pthread_mutex_lock(&lock);
		for (int i = 0; i < 2; i++) {
			if (p[i].fd < 0 || read(p[i].fd, &m, sizeof(m)) != sizeof(m))
				continue;
			note_message(&m, i ? "child's " : "");
			if (m.event == UFFD_EVENT_FORK)
				child_uffd = (int)m.arg.fork.ufd;
			if (m.event == UFFD_EVENT_PAGEFAULT)
				zero_fault(p[i].fd, &m);
		}
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

/* ---- memory -------------------------------------------------------------------------------------------------------------- */
static char *at(long page)
{
	return arena + page * (long)hole.page;
}

/* `pages` registered, missing, private pages at a place of the arena */
static char *fresh(long page, long pages)
{
	size_t len = (size_t)pages * hole.page;

	if (mmap(at(page), len, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	madvise(at(page), len, MADV_NOHUGEPAGE);
	hole_register(uffd, at(page), len);
	forget();
	return at(page);
}

static void clear(void)
{
	if (mmap(arena, ARENA * hole.page, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	forget();
}

static unsigned touch(const char *page)
{
	return *(const volatile unsigned char *)page;
}

/* Fills until no event is in the way any more. */
static int copy(char *dst, long pages, int64_t *done)
{
	int ret;

	while ((ret = hole_copy(uffd, dst, content, (size_t)pages * hole.page, 0, done)) == -EAGAIN && (!done || *done <= 0))
		sched_yield();
	return ret;
}

static void *discard_thread(void *page)
{
	madvise(page, 4 * hole.page, MADV_DONTNEED);
	return NULL;
}

static void *touch_thread(void *page)
{
	touch(page);
	return NULL;
}

static pthread_t in_thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg))
		HOLE_DIE("a thread could not be started");
	return t;
}

static void wait_for_message(void)
{
	struct pollfd p = { .fd = uffd, .events = POLLIN };

	if (poll(&p, 1, 60000) != 1)
		HOLE_DIE("a message did not come");
}

/* ---- the end of a process ------------------------------------------------------------------------------------------------ */
static void send_fd(int sock, int fd)
{
	char byte = 0;
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec v = { &byte, 1 };
	struct msghdr h = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (sendmsg(sock, &h, 0) != 1)
		HOLE_DIE("sendmsg: %s", strerror(errno));
}

static int receive_fd(int sock)
{
	char byte;
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec v = { &byte, 1 };
	struct msghdr h = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room),
	};
	int fd;

	if (recvmsg(sock, &h, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&h))
		HOLE_DIE("recvmsg: %s", strerror(errno));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(int));
	return fd;
}

static void gone(const char *what, int fd, char *page)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct uffdio_copy c = { .dst = (uintptr_t)page, .src = (uintptr_t)content, .len = hole.page, .copy = UNTOUCHED };
	struct uffdio_range w = { (uintptr_t)page, hole.page };
	struct uffd_msg m;
	int polled = poll(&p, 1, 0);
	int seen = (int)read(fd, &m, sizeof(m)) < 0 ? -errno : 0;
	int copied = ioctl(fd, UFFDIO_COPY, &c) ? -errno : 0;
	int woken = ioctl(fd, UFFDIO_WAKE, &w) ? -errno : 0;

	fact(what, "poll %d (%#x), read %s, COPY %s (field %s), WAKE %s", polled, (unsigned)p.revents, name(seen), name(copied),
	     c.copy == UNTOUCHED ? "untouched" : "written", name(woken));
}

static void ends_of_processes(void)
{
	for (int exec = 0; exec < 2; exec++) {
		int sv[2], fd;
		siginfo_t info;
		char text[16];
		pid_t pid;

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
			HOLE_DIE("socketpair: %s", strerror(errno));
		pid = fork();
		if (!pid) {
			fd = hole_uffd(EVENTS);
			if (mprotect(arena, 4 * hole.page, PROT_READ | PROT_WRITE))
				_exit(1);
			hole_register(fd, arena, 4 * hole.page);
			send_fd(sv[1], fd);
			snprintf(text, sizeof(text), "%d", sv[1]);
			if (exec)
				execl("/proc/self/exe", "facts", "--here", text, (char *)NULL);
			_exit(0);
		}
		fd = receive_fd(sv[0]);
		if (exec) { /* the new program says that it is there */
			if (read(sv[0], text, 1) != 1)
				HOLE_DIE("the new program did not start");
		} else {
			waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
		}
		gone(exec ? "exec'd" : "exited", fd, arena);
		close(sv[0]);
		close(sv[1]);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(fd);
	}
}

/* ---- facts --------------------------------------------------------------------------------------------------------------- */
static void pending(void)
{
	struct uffdio_copy c = { .src = (uintptr_t)content, .len = hole.page, .copy = UNTOUCHED };
	struct uffdio_zeropage z = { .range.len = hole.page, .zeropage = UNTOUCHED };
	char *p = fresh(0, 8);
	pthread_t t, u;
	int r1, r2;

	c.dst = z.range.start = (uintptr_t)p + 6 * hole.page;
	pthread_mutex_lock(&lock);
	t = in_thread(discard_thread, p);
	wait_for_message();
	r1 = ioctl(uffd, UFFDIO_COPY, &c) ? -errno : 0;
	r2 = ioctl(uffd, UFFDIO_ZEROPAGE, &z) ? -errno : 0;
	pthread_mutex_unlock(&lock);
	pthread_join(t, NULL);
	fact("event unread", "COPY %s (field %s), ZEROPAGE %s (field %s)", name(r1), c.copy == UNTOUCHED ? "untouched" : name((int)c.copy),
	     name(r2), z.zeropage == UNTOUCHED ? "untouched" : name((int)z.zeropage));
	messages("event unread, then read");

	p = fresh(0, 8);
	pthread_mutex_lock(&lock);
	t = in_thread(discard_thread, p);
	wait_for_message();
	u = in_thread(touch_thread, p + 6 * hole.page);
	/* the fault is there when fdinfo counts it; it is read first whichever came first */
	for (unsigned long faults = 0; !faults;) {
		char path[64], text[128];
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
		f = fopen(path, "r");
		while (f && fgets(text, sizeof(text), f))
			if (sscanf(text, "pending: %lu", &faults) == 1)
				break;
		if (!f)
			HOLE_DIE("%s: %s", path, strerror(errno));
		fclose(f);
		sched_yield();
	}
	pthread_mutex_unlock(&lock);
	pthread_join(t, NULL);
	pthread_join(u, NULL);
	messages("event, then fault, in which order");
}

static void answers(void)
{
	struct uffdio_copy c = { .src = (uintptr_t)content, .len = hole.page, .copy = UNTOUCHED };
	char *p = fresh(0, 8), *dead = hole_map(hole.page, false);
	int64_t done = 0;
	int ret;

	copy(p + 2 * hole.page, 1, &done);
	ret = copy(p, 4, &done);
	fact("COPY of 4, the 3rd is present", "%s, %ld pages", name(ret), (long)done / (long)hole.page);
	fact("COPY, present", "%s", name(copy(p + 2 * hole.page, 1, &done)));
	fact("COPY, beyond the end of a mapping", "%s", name(copy(p + 6 * hole.page, 4, &done)));
	mprotect(p + 5 * hole.page, hole.page, PROT_READ);
	fact("COPY, across a border that mprotect made", "%s", name(copy(p + 4 * hole.page, 4, &done)));
	fact("COPY, read-only", "%s", name(copy(p + 5 * hole.page, 1, &done)));
	mprotect(p + 6 * hole.page, hole.page, PROT_NONE);
	fact("COPY, no access", "%s", name(copy(p + 6 * hole.page, 1, &done)));
	fact("COPY, not registered", "%s", name(copy(at(100), 1, &done)));
	munmap(dead, hole.page);
	fact("COPY, source is not mapped", "%s", name(hole_copy(uffd, p + 3 * hole.page, dead, hole.page, 0, &done)));
	c.dst = (uintptr_t)p + 3 * hole.page + 1;
	ret = ioctl(uffd, UFFDIO_COPY, &c) ? -errno : 0;
	fact("COPY, not aligned", "%s (field %s)", name(ret), c.copy == UNTOUCHED ? "untouched" : "written");
	messages("mprotect");
}

static char *late; /* a page that its own userfaultfd has not filled in yet */

static void *late_thread(void *to)
{
	static int ret;

	ret = hole_copy(uffd, to, late, hole.page, 0, NULL);
	return &ret;
}

/* A COPY has dropped its locks to read its source, and then its destination goes. */
static void gap(void)
{
	int fd = hole_uffd(0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char *to = fresh(0, 4);
	pthread_t t;
	void *ret;

	late = hole_map(hole.page, false);
	hole_register(fd, late, hole.page);
	t = in_thread(late_thread, to);
	if (poll(&p, 1, 60000) != 1)
		HOLE_DIE("COPY does not ask for its source");
	munmap(to, 4 * hole.page);
	hole_copy(fd, late, content, hole.page, 0, NULL);
	pthread_join(t, &ret);
	fact("COPY, unmapped while it waits for its source", "%s", name(*(int *)ret));
	munmap(late, hole.page);
	close(fd);
	clear();
}

static void *move(char *from, long old, long new, int flags, char *to)
{
	void *p = mremap(from, (size_t)old * hole.page, (size_t)new * hole.page, flags, to);

	if (p == MAP_FAILED)
		HOLE_DIE("mremap: %s", strerror(errno));
	return p;
}

static void moves(void)
{
	const int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
	struct uffdio_range r;
	char *p, *q;

	clear();
	move(fresh(0, 8), 4, 4, fixed, at(32));
	messages("mremap, first 4 of 8");
	touch(at(33));
	messages("mremap, touch what moved");
	move(fresh(0, 8) + 2 * hole.page, 4, 4, fixed, at(64));
	messages("mremap, middle 4 of 8");
	p = fresh(0, 4);
	q = fresh(16, 4);
	move(p, 4, 4, fixed, q);
	messages("mremap onto registered memory");
	clear();
	p = fresh(0, 4);
	munmap(at(4), 8 * hole.page);
	forget();
	move(p, 4, 6, 0, NULL);
	messages("mremap, grown in place");
	touch(p + 5 * hole.page);
	messages("mremap, touch the new end");
	move(p, 6, 3, 0, NULL);
	messages("mremap, shrunk to 3");
	clear();
	move(fresh(0, 4), 4, 8, fixed, at(200));
	messages("mremap, moved and grown");
	touch(at(206));
	messages("mremap, touch the grown end");
	clear();
	move(fresh(0, 10), 10, 4, fixed, at(200));
	messages("mremap, moved and shrunk to 4 of 10");
	clear();
	p = fresh(0, 4);
	move(p, 4, 4, fixed | MREMAP_DONTUNMAP, at(300));
	messages("mremap DONTUNMAP");
	touch(p + hole.page);
	messages("mremap DONTUNMAP, touch the old place");
	touch(at(301));
	messages("mremap DONTUNMAP, touch the new place");
	clear();
	p = fresh(0, 8);
	r = (struct uffdio_range){ (uintptr_t)p, 2 * hole.page };
	if (ioctl(uffd, UFFDIO_UNREGISTER, &r))
		HOLE_DIE("UFFDIO_UNREGISTER: %s", strerror(errno));
	q = mremap(p, 8 * hole.page, 8 * hole.page, fixed, at(400));
	fact("mremap over a part that was unregistered", "%s", q == MAP_FAILED ? strerrorname_np(errno) : "0");
	clear();
}

static void unmaps(void)
{
	char *p;

	fresh(0, 4);
	if (mmap(at(4), 4 * hole.page, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	fresh(8, 4);
	munmap(at(2), 8 * hole.page);
	messages("munmap of registered, foreign, registered");
	clear();
	p = fresh(0, 8);
	if (mmap(p + 2 * hole.page, 2 * hole.page, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	messages("mmap over the middle");
	clear();
}

static int advise(char *p, long pages, int advice)
{
	return madvise(p, (size_t)pages * hole.page, advice) ? -errno : 0;
}

static void advices(void)
{
	char *p = fresh(0, 8);

	copy(p, 4, NULL);
	fact("MADV_FREE answers", "%s", name(advise(p, 8, MADV_FREE)));
	messages("MADV_FREE");
	touch(p + 6 * hole.page);
	messages("MADV_FREE, touch a page that was missing");
	fact("MADV_DONTNEED_LOCKED answers", "%s", name(advise(p, 8, MADV_DONTNEED_LOCKED)));
	messages("MADV_DONTNEED_LOCKED");
	copy(p, 4, NULL);
	advise(p, 4, MADV_PAGEOUT);
	messages("MADV_PAGEOUT");
	fact("MADV_PAGEOUT, then read", "%s", touch(p) == (unsigned char)HOLE_TAG ? "the content" : "something else");
	messages("MADV_PAGEOUT, messages of that");
	advise(p, 8, MADV_DONTNEED);
	messages("MADV_DONTNEED");
	fact("MADV_POPULATE_READ answers", "%s", name(advise(p, 3, MADV_POPULATE_READ)));
	messages("MADV_POPULATE_READ of 3");
	advise(p, 8, MADV_COLD);
	messages("MADV_COLD");
	p = fresh(0, 2);
	if (mlock(p, 2 * hole.page)) {
		fact("mlock", "%s", strerrorname_np(errno));
	} else {
		messages("mlock of 2");
		fact("MADV_DONTNEED of locked memory", "%s", name(advise(p, 2, MADV_DONTNEED)));
		munlock(p, 2 * hole.page);
	}
	clear();
}

static void shared(void)
{
	int file = memfd_create("facts", MFD_CLOEXEC);
	int64_t done = 0;
	char *p = at(0);

	if (file < 0 || ftruncate(file, (off_t)(8 * hole.page)) ||
	    mmap(p, 8 * hole.page, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, file, 0) == MAP_FAILED)
		HOLE_DIE("shared memory: %s", strerror(errno));
	hole_register(uffd, p, 8 * hole.page);
	copy(p, 8, NULL);
	forget();
	advise(p, 2, MADV_REMOVE);
	messages("shared: MADV_REMOVE");
	copy(p, 2, NULL);
	if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)(2 * hole.page)))
		HOLE_DIE("fallocate: %s", strerror(errno));
	messages("shared: a hole is punched");
	touch(p);
	messages("shared: touch the hole");
	advise(p, 8, MADV_DONTNEED);
	messages("shared: MADV_DONTNEED");
	fact("shared: MADV_DONTNEED, then read", "%s",
	     touch(p + 3 * hole.page) == (unsigned char)HOLE_TAG ? "the content" : "something else");
	messages("shared: MADV_DONTNEED, messages of that");
	if (ftruncate(file, (off_t)(4 * hole.page)))
		HOLE_DIE("ftruncate: %s", strerror(errno));
	messages("shared: truncated");
	fact("shared: COPY beyond the end of the file", "%s", name(copy(p + 6 * hole.page, 1, &done)));
	close(file);
	clear();
}

static void kernel_reads(void)
{
	struct iovec into = { content, 1 }, from, page;
	char *p = fresh(0, 8);
	int ends_of_pipe[2], mem;
	char byte;

	if (pipe(ends_of_pipe))
		HOLE_DIE("pipe: %s", strerror(errno));
	fact("write() of a missing page", "%s", write(ends_of_pipe[1], p, 1) == 1 ? "0" : strerrorname_np(errno));
	messages("write() of a missing page, messages");
	from = (struct iovec){ p + hole.page, 1 };
	fact("process_vm_readv", "%s", process_vm_readv(getpid(), &into, 1, &from, 1, 0) == 1 ? "0" : strerrorname_np(errno));
	messages("process_vm_readv, messages");
	page = (struct iovec){ p + 2 * hole.page, hole.page };
	fact("vmsplice", "%s", vmsplice(ends_of_pipe[1], &page, 1, 0) > 0 ? "0" : strerrorname_np(errno));
	messages("vmsplice, messages");
	mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	fact("/proc/self/mem", "%s", pread(mem, &byte, 1, (off_t)(uintptr_t)(p + 3 * hole.page)) == 1 ? "0" : strerrorname_np(errno));
	messages("/proc/self/mem, messages");
	hole_tag(content, 1); /* its first byte was read into */
	close(mem);
	close(ends_of_pipe[0]);
	close(ends_of_pipe[1]);
	clear();
}

static void on_signal(int sig)
{
	(void)sig;
}

static void signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	char *p = fresh(0, 8);
	struct uffd_msg m;
	unsigned n = 0;
	pthread_t t;

	sigaction(SIGUSR1, &sa, NULL);
	pthread_mutex_lock(&lock);
	t = in_thread(touch_thread, p);
	while (n < 3) {
		wait_for_message();
		if (read(uffd, &m, sizeof(m)) != sizeof(m))
			continue; /* it was taken back */
		n++;
		if (n < 3)
			pthread_kill(t, SIGUSR1);
	}
	zero_fault(uffd, &m);
	pthread_mutex_unlock(&lock);
	pthread_join(t, NULL);
	fact("messages of one access with two signals", "%u", n);
	clear();
}

static void forks(void)
{
	struct seen {
		int present, missing, wiped, left_out, wiped_reads;
	} *seen = mmap(NULL, hole.page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *p = fresh(0, 8), *wipe, *out;
	pid_t pid;
	int fd;

	if (seen == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	copy(p, 2, NULL);
	wipe = fresh(16, 4);
	copy(wipe, 1, NULL);
	advise(wipe, 4, MADV_WIPEONFORK);
	out = fresh(24, 4);
	advise(out, 4, MADV_DONTFORK);
	forget();
	pid = fork();
	if (!pid) {
		unsigned char v[8];

		mincore(p, 8 * hole.page, v);
		seen->present = v[0] & 1;
		seen->missing = v[3] & 1;
		mincore(wipe, 4 * hole.page, v);
		seen->wiped = v[0] & 1;
		seen->left_out = mincore(out, hole.page, v) ? errno : 0;
		touch(p + 3 * hole.page);
		seen->wiped_reads = (int)touch(wipe);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	messages("fork, the child touches a missing and a wiped page");
	fact("fork, the child's pages", "present %d, missing %d, wiped %d (reads %d), left out %s", seen->present, seen->missing, seen->wiped,
	     seen->wiped_reads, seen->left_out ? strerrorname_np(seen->left_out) : "mapped");
	pthread_mutex_lock(&lock);
	fd = child_uffd;
	child_uffd = -1;
	pthread_mutex_unlock(&lock);
	if (fd >= 0)
		gone("child's userfaultfd after its exit", fd, p);
	munmap(seen, hole.page);
	clear();
}

/* A fork that fails when the registered page has been looked at already: two mappings, each of which may be had, are one that may not. */
static void failed_fork(void)
{
	struct sysinfo s;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t part, len;
	char *p;
	pid_t pid;
	int fd;

	sysinfo(&s);
	part = ((size_t)s.totalram + s.totalswap) * s.mem_unit / 10 * 6 / hole.page * hole.page;
	len = hole.page + 2 * part;
	p = mmap(NULL, len, PROT_NONE, flags | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED || mmap(p, hole.page, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap(p + hole.page, part, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap(p + hole.page + part, part, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0) == MAP_FAILED) {
		fact("fork that fails", "not to be had: %s", strerrorname_np(errno));
	} else {
		hole_register(uffd, p, hole.page);
		pid = fork();
		if (!pid)
			_exit(0);
		fact("fork that fails", "%s", pid < 0 ? strerrorname_np(errno) : "it does not");
		if (pid > 0)
			waitpid(pid, NULL, 0);
		messages("fork that fails, messages");
		fact("fork that fails, then COPY", "%s", name(hole_copy(uffd, p, content, hole.page, 0, NULL)));
	}
	if (p != MAP_FAILED)
		munmap(p, len);
	pthread_mutex_lock(&lock);
	fd = child_uffd;
	child_uffd = -1;
	pthread_mutex_unlock(&lock);
	if (fd >= 0)
		close(fd);
	clear();
}

int main(int argc, char **argv)
{
	pthread_t reader;

	if (argc == 3 && !strcmp(argv[1], "--here")) { /* the new program of ends_of_processes() */
		if (write(atoi(argv[2]), "x", 1) == 1)
			pause();
		return 1;
	}
	hole_options(argc, argv, "Prints what this kernel does in the cases that thaw relies on.", "");
	arena = mmap(NULL, ARENA * hole.page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	content = hole_map(16 * hole.page, false);
	if (arena == MAP_FAILED)
		HOLE_DIE("mmap: %s", strerror(errno));
	hole_tag(content, 16);
	uffd = hole_uffd(EVENTS);
	if (hole.json)
		printf("{");
	fact("numbers events", "%s", hole_uffd_has(HOLE_FEATURE_EVENT_SEQ) ? "yes" : "no");
	ends_of_processes();
	reader = in_thread(reader_thread, NULL);
	pending();
	answers();
	gap();
	moves();
	unmaps();
	advices();
	shared();
	kernel_reads();
	signals();
	forks();
	failed_fork();
	atomic_store(&ends, true);
	pthread_join(reader, NULL);
	if (hole.json)
		printf("}\n");
	return 0;
}
