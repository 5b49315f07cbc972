// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_api.c - every wrong argument is refused with the call's name, a reason and the errno that thaw.h names */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct thaw_range good = { LIVE_BASE, 16 * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };

/* The call must fail with this errno and a sentence that begins with its name and says this. */
#define REFUSED(call, code, says) \
	do { \
		if ((call) != -1) \
			LIVE_DIE("%s: did not fail", #call); \
		if (thaw_get_errno() != (code) || strncmp(thaw_get_error(), #call, strcspn(#call, "(")) || \
		    !strstr(thaw_get_error(), says)) \
			LIVE_DIE("%s: errno %d, \"%s\"", #call, thaw_get_errno(), thaw_get_error()); \
	} while (0)

struct attr { /* the kernel's struct sched_attr, its first form */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static struct attr attr_of(pid_t tid)
{
	struct attr a = { .size = sizeof(a) };

	LIVE_CHECK(syscall(SYS_sched_getattr, tid, &a, sizeof(a), 0) == 0);
	return a;
}

/* Copiers give way: nicer than who has started them, and with a longer slice than anybody else's (where the kernel has such). */
static void check_copiers(void)
{
	struct attr own = attr_of(0), a;
	DIR *d = opendir("/proc/self/task");
	char path[64], name[32];
	unsigned found = 0;
	struct dirent *e;
	FILE *f;

	LIVE_CHECK(d);
	while ((e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", e->d_name);
		f = fopen(path, "r");
		if (!f || !fgets(name, sizeof(name), f) || strcmp(name, "thaw-copier\n"))
			name[0] = '\0';
		if (f)
			fclose(f);
		if (!name[0])
			continue;
		found++;
		a = attr_of(atoi(e->d_name));
		if (own.policy != SCHED_OTHER || own.nice > 14)
			continue;
		if (a.nice != own.nice + 5 || (own.runtime && a.runtime <= own.runtime))
			LIVE_DIE("a copier is nice by %d with a slice of %llu ns, its starter by %d with %llu", a.nice,
				 (unsigned long long)a.runtime, own.nice, (unsigned long long)own.runtime);
	}
	closedir(d);
	LIVE_CHECK(found);
}

static void test_settings(void)
{
	struct thaw *h = thaw_create();

	REFUSED(thaw_set_copiers(NULL, 1), EINVAL, "NULL");
	REFUSED(thaw_set_copiers(h, 0), EINVAL, "1 to 64");
	REFUSED(thaw_set_copiers(h, 65), EINVAL, "1 to 64");
	LIVE_OK(thaw_set_copiers(h, 64));
	REFUSED(thaw_set_readers(h, 17), EINVAL, "1 to 16");
	REFUSED(thaw_set_chunk(h, 4095), EINVAL, "whole pages");
	REFUSED(thaw_set_chunk(h, 4096 * 65), EINVAL, "256 KiB");
	LIVE_OK(thaw_set_chunk(h, 4096));
	REFUSED(thaw_set_background(h, 7, 0), EINVAL, "policy");
	REFUSED(thaw_set_read_around(h, 65), EINVAL, "0 to 64");
	REFUSED(thaw_set_spin(h, 201), EINVAL, "0 to 200");
	REFUSED(thaw_set_io(h, 9), EINVAL, "I/O");
	REFUSED(thaw_set_failure(h, 9), EINVAL, "policy");
	REFUSED(thaw_set_log(h, NULL, NULL, 9), EINVAL, "level");
	REFUSED(thaw_set_holder(h, 1, 9999), EBADF, "9999");
	REFUSED(thaw_set_holder(h, 1, -7), EBADF, "log_fd");
	REFUSED(thaw_wait(h, 3, 0), ENOENT, "no space 3");
	REFUSED(thaw_wait(h, -3, 0), EINVAL, "id");
	REFUSED(thaw_stop(h), EINVAL, "not been started");
	LIVE_OK(thaw_wait(h, 0, 0)); /* nothing to wait for */
	thaw_close(h);
	thaw_close(NULL);
	thaw_source_close(NULL);
}

static int nothing(void *arg, int sock)
{
	return 0;
}

static int read_zero(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	memset(buf, 0, length);
	return 0;
}

/* One field wrong at a time. */
static void test_add(void)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_callback(read_zero, NULL);
	struct thaw_space d = { .size = sizeof(d), .pidfd = -1, .source = s, .ranges = &good, .n_ranges = 1 }, x;
	struct thaw_range r[2] = { good, good };
	struct live l;
	int null = open("/dev/null", O_RDWR), flags;

	live_start(&l, &good, 1, nothing, NULL);
	d.uffd = l.uffd;
	d.pidfd = l.pidfd;
	REFUSED(thaw_add_space(NULL, &d), EINVAL, "NULL");
	REFUSED(thaw_add_space(h, NULL), EINVAL, "NULL");
#define WITH(field, value, code, says) (x = d, x.field = (value), ({ REFUSED(thaw_add_space(h, &x), code, says); }))
	WITH(size, 3, EINVAL, "size");
	WITH(uffd, -1, EBADF, "not an open descriptor");
	WITH(uffd, null, EINVAL, "not a userfaultfd");
	WITH(pidfd, null, EINVAL, "not a pidfd");
	WITH(pidfd, 9999, EBADF, "9999");
	WITH(source, NULL, EINVAL, "source");
	WITH(ranges, NULL, EINVAL, "range");
	WITH(n_ranges, 0, EINVAL, "range");
	x = d;
	x.ranges = r;
#define WITH_RANGE(field, value, code, says) \
	(r[0] = good, r[0].field = (value), ({ REFUSED(thaw_add_space(h, &x), code, says); }))
	WITH_RANGE(address, LIVE_BASE + 1, EINVAL, "whole pages");
	WITH_RANGE(length, 0, EINVAL, "whole pages");
	WITH_RANGE(length, 77, EINVAL, "whole pages");
	WITH_RANGE(address, 1ULL << 60, EINVAL, "user memory");
	WITH_RANGE(length, 1ULL << 62, EINVAL, "user memory");
	WITH_RANGE(kind, THAW_KIND_SHMEM, ENOTSUP, "eagerly");
	WITH_RANGE(kind, THAW_KIND_HUGETLB, ENOTSUP, "eagerly");
	WITH_RANGE(kind, 9, EINVAL, "kind");
	WITH_RANGE(prot, 0x100, EINVAL, "protection");
	WITH_RANGE(flags, 0x80, EINVAL, "flags");
	r[0] = good;
	x.n_ranges = 2;
	REFUSED(thaw_add_space(h, &x), EINVAL, "overlap");
	x = d;
	x.register_ranges = 1;
	x.ranges = r;
	r[0].address += 1ULL << 35; /* nothing is mapped there */
	REFUSED(thaw_add_space(h, &x), EINVAL, "registered");
	flags = fcntl(l.uffd, F_GETFL);
	fcntl(l.uffd, F_SETFL, flags & ~O_NONBLOCK);
	REFUSED(thaw_add_space(h, &d), EINVAL, "O_NONBLOCK");
	fcntl(l.uffd, F_SETFL, flags);

	/* After all of that the good one works, and the refused ones have taken nothing. */
	LIVE_OK(thaw_add_space(h, &d));
	LIVE_OK(thaw_start(h));
	check_copiers();
	REFUSED(thaw_start(h), EBUSY, "before");
	REFUSED(thaw_set_copiers(h, 1), EBUSY, "started");
	REFUSED(thaw_set_holder(h, 0, -1), EBUSY, "started");
	live_go(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(5000)));
	LIVE_OK(thaw_stop(h));
	LIVE_OK(thaw_stop(h));
	x = d;
	REFUSED(thaw_add_space(h, &x), ECANCELED, "stopped");
	thaw_source_close(s);
	thaw_close(h);
	close(null);
}

static int touch_both(void *arg, int sock)
{
	return live_is_zero(LIVE_BASE, 16) && live_is_zero(LIVE_BASE + (1UL << 30), 16) ? 0 : 1;
}

static int register_it(int uffd, const struct thaw_range *r)
{
	struct uffdio_register reg = { .range = { r->address, r->length }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

/* A page that is placed in what is not registered is refused: ENOENT. */
static bool is_registered(int uffd, uint64_t address)
{
	struct uffdio_continue c = { .range = { address, LIVE_PAGE } };

	return ioctl(uffd, UFFDIO_CONTINUE, &c) == 0 || errno != ENOENT;
}

/* Bug: of ranges that cannot all be registered those before stayed so, and their process waited where nobody served it. But what its
 * caller has registered itself is left, and so is what another space has. */
static void test_registered_in_part(void)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_callback(read_zero, NULL);
	struct thaw_range r[3] = { good, good, good };
	struct thaw_space d = { .size = sizeof(d), .source = s, .ranges = r, .n_ranges = 3, .register_ranges = 1 };
	struct live l;

	r[1].address += 1UL << 30;
	r[2].address += 1UL << 35;
	live_start_unregistered(&l, r, 2, touch_both, NULL);
	d.uffd = l.uffd;
	d.pidfd = l.pidfd;
	LIVE_CHECK(!register_it(l.uffd, &r[1]));
	REFUSED(thaw_add_space(h, &d), EINVAL, "registered");
	LIVE_CHECK(!is_registered(l.uffd, r[0].address) && is_registered(l.uffd, r[1].address));
	d.n_ranges = 2;
	LIVE_OK(thaw_add_space(h, &d));
	REFUSED(thaw_add_space(h, &d), EEXIST, "space 1 already");
	d.n_ranges = 3;
	REFUSED(thaw_add_space(h, &d), EEXIST, "space 1 already");
	LIVE_CHECK(is_registered(l.uffd, r[0].address) && is_registered(l.uffd, r[1].address));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(5000)));
	thaw_source_close(s);
	thaw_close(h);
}

/* Bug: a userfaultfd that was added twice was read by two spaces and closed by both, and thaw_wait() for all never ended. */
static void test_twice(void)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_callback(read_zero, NULL);
	struct thaw_space d = { .size = sizeof(d), .source = s, .ranges = &good, .n_ranges = 1 };
	struct thaw_progress p = { .size = sizeof(p) };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), number, again;
	struct live l, m;

	live_start(&l, &good, 1, nothing, NULL);
	d.uffd = number = l.uffd;
	d.pidfd = l.pidfd;
	LIVE_OK(thaw_add_space(h, &d));
	REFUSED(thaw_add_space(h, &d), EEXIST, "space 1 already");
	d.uffd = again = fcntl(number, F_DUPFD_CLOEXEC, 0);
	REFUSED(thaw_add_space(h, &d), EEXIST, "space 1 already");
	LIVE_CHECK(fcntl(again, F_GETFD) == FD_CLOEXEC); /* still ours */
	close(again);
	d.uffd = number;
	LIVE_OK(thaw_start(h));
	live_go(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(5000)));

	/* The number is free now, and may be another's: kept for it while its other descriptors are made. The monitor itself
	 * may have got it; then any number will do. */
	again = fcntl(null, F_DUPFD_CLOEXEC, number);
	live_start(&m, &good, 1, nothing, NULL);
	d.uffd = m.uffd;
	if (again == number) {
		LIVE_CHECK(dup3(m.uffd, number, O_CLOEXEC) == number);
		close(m.uffd);
		d.uffd = number;
	} else {
		close(again);
	}
	close(null);
	d.pidfd = m.pidfd;
	LIVE_CHECK(thaw_add_space(h, &d) == 2);
	live_go(&m);
	LIVE_CHECK(live_end(&m) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(5000)));
	LIVE_OK(thaw_get_progress(h, 0, &p));
	LIVE_CHECK(p.spaces == 2 && p.spaces_done == 2);
	thaw_source_close(s);
	thaw_close(h);
}

static void test_reports(void)
{
	struct thaw *h = thaw_create();
	struct thaw_progress p = { .size = sizeof(p) };
	struct thaw_stats st = { .size = sizeof(st) };

	REFUSED(thaw_get_progress(NULL, 0, &p), EINVAL, "NULL");
	REFUSED(thaw_get_progress(h, 0, NULL), EINVAL, "NULL");
	REFUSED(thaw_get_progress(h, 5, &p), ENOENT, "no space 5");
	REFUSED(thaw_get_stats(h, 5, &st), ENOENT, "no space 5");
	REFUSED(thaw_get_stats(h, -5, &st), EINVAL, "id");
	st.size = 4;
	REFUSED(thaw_get_stats(h, 0, &st), EINVAL, "size");
	LIVE_OK(thaw_get_progress(h, 0, &p));
	LIVE_CHECK(p.bytes_total == 0 && p.left_ns == 0);
	thaw_close(h);
}

/* A struct of a later header: longer, with members that this library does not know. */
#define LATER(type) union { struct type s; unsigned char bytes[sizeof(struct type) + 64]; }

static void change(void *opaque, const struct thaw_change_info *changes, size_t n)
{
}

/* Programs older and newer than the library. A monitor serves what was added with a longer struct. */
static void test_sizes(void)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_callback(read_zero, NULL);
	LATER(thaw_space) d = { .s = { .size = sizeof(d), .pidfd = -1, .source = s, .ranges = &good, .n_ranges = 1 } };
	LATER(thaw_progress) p = { .s.size = sizeof(p) };
	LATER(thaw_stats) st = { .s.size = sizeof(st) };
	LATER(thaw_subscriber_ops) ops = { .s = { .size = sizeof(ops), .begin = change } };
	LATER(thaw_pageserver_options) o = { .s = { .size = sizeof(o), .socket = -1, .address = "localhost", .port = -1 } };
	struct thaw_progress first = { .size = sizeof(first) - 1 };
	struct live l;

	live_start(&l, &good, 1, nothing, NULL);
	d.s.uffd = l.uffd;
	d.s.pidfd = l.pidfd;
	/* what it asks for is not known */
	d.bytes[sizeof(d) - 1] = ops.bytes[sizeof(struct thaw_subscriber_ops)] = o.bytes[sizeof(o) - 1] = 1;
	REFUSED(thaw_add_space(h, &d.s), EINVAL, "later");
	LIVE_CHECK(!thaw_subscribe(h, 0, &ops.s, NULL) && thaw_get_errno() == EINVAL && strstr(thaw_get_error(), "later"));
	LIVE_CHECK(!thaw_pageserver_open(&o.s) && thaw_get_errno() == EINVAL && strstr(thaw_get_error(), "later"));
	d.bytes[sizeof(d) - 1] = ops.bytes[sizeof(struct thaw_subscriber_ops)] = o.bytes[sizeof(o) - 1] = 0;
	LIVE_CHECK(!thaw_pageserver_open(&o.s) && strstr(thaw_get_error(), "no port"));
	/* shorter than any, and longer than any */
	for (unsigned i = 0; i < 2; i++) {
		d.s.size = i ? 5000 : sizeof(d.s) - 1;
		REFUSED(thaw_add_space(h, &d.s), EINVAL, "size");
		ops.s.size = i ? 5000 : sizeof(ops.s) - 1;
		LIVE_CHECK(!thaw_subscribe(h, 0, &ops.s, NULL) && thaw_get_errno() == EINVAL && strstr(thaw_get_error(), "size"));
		o.s.size = i ? 5000 : sizeof(o.s) - 1;
		LIVE_CHECK(!thaw_pageserver_open(&o.s) && thaw_get_errno() == EINVAL && strstr(thaw_get_error(), "size"));
	}
	REFUSED(thaw_get_progress(h, 0, &first), EINVAL, "size");
	d.s.size = sizeof(d);
	ops.s.size = sizeof(ops);
	LIVE_OK(thaw_add_space(h, &d.s));
	LIVE_CHECK(thaw_subscribe(h, 0, &ops.s, NULL));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(5000)));
	/* filled as far as both know it, the rest 0 */
	memset(p.bytes + sizeof(size_t), 0xee, sizeof(p) - sizeof(size_t));
	memset(st.bytes + sizeof(size_t), 0xee, sizeof(st) - sizeof(size_t));
	LIVE_OK(thaw_get_progress(h, 0, &p.s));
	LIVE_OK(thaw_get_stats(h, 0, &st.s));
	LIVE_CHECK(p.s.size == sizeof(p) && p.s.spaces_done == 1 && p.s.left_ns == 0);
	LIVE_CHECK(st.s.size == sizeof(st) && st.s.events_fork == 0 && st.s.pages_found < 0xee);
	for (unsigned i = 0; i < 64; i++)
		LIVE_CHECK(!p.bytes[sizeof(struct thaw_progress) + i] && !st.bytes[sizeof(struct thaw_stats) + i]);
	thaw_source_close(s);
	thaw_close(h);
}

static _Atomic int in_callback; /* 1: it runs; 2: it is over */

static int read_slowly(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	in_callback = 1;
	usleep(600000);
	memset(buf, 0, length);
	in_callback = 2;
	return 0;
}

static void *stop_it(void *h)
{
	LIVE_OK(thaw_stop(h));
	return NULL;
}

/* Bug: beside another thread's, thaw_stop() returned at once, and its caller freed what callbacks were still using. */
static void test_stop_twice(void)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_callback(read_slowly, NULL);
	struct thaw_space d = { .size = sizeof(d), .uffd = -1, .pidfd = -1, .source = s, .ranges = &good, .n_ranges = 1 };
	pthread_t other;
	struct live l;

	live_start(&l, &good, 1, nothing, NULL);
	live_add(h, &l, s, &good, 1);
	LIVE_OK(thaw_start(h));
	while (in_callback != 1)
		usleep(1000);
	LIVE_CHECK(!pthread_create(&other, NULL, stop_it, h));
	while (thaw_space_registered(h, 0) == 0 || thaw_get_errno() != ECANCELED)
		usleep(1000); /* until it is there */
	REFUSED(thaw_add_space(h, &d), ECANCELED, "stopped");
	REFUSED(thaw_space_registered(h, 0), ECANCELED, "stopped");
	LIVE_OK(thaw_stop(h));
	LIVE_CHECK(in_callback == 2);
	pthread_join(other, NULL);
	live_kill(&l);
	live_end(&l);
	thaw_source_close(s);
	thaw_close(h);
}

/* A monitor that is stopped and closed with memory absent does not let its process read zeros. */
static int touch(void *arg, int sock)
{
	return live_is(LIVE_BASE, 1, 1, 0) ? 0 : 1;
}

static int read_never(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request)
{
	return -EIO;
}

static _Atomic unsigned said;

static void hear(void *opaque, enum thaw_log_level level, const char *line)
{
	said += strstr(line, "closed while") != NULL;
}

static void test_close_with_absent(void)
{
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	struct thaw_source *s = thaw_source_callback(read_never, NULL);
	struct live l;

	LIVE_OK(thaw_set_log(h, hear, NULL, THAW_LOG_ERROR));
	LIVE_OK(thaw_set_holder(h, 0, -1));
	live_start(&l, &good, 1, touch, NULL);
	live_add(h, &l, s, &good, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	usleep(100000);
	REFUSED(thaw_wait(h, 0, 1), ETIMEDOUT, "1 ms");
	LIVE_OK(thaw_stop(h));
	REFUSED(thaw_wait(h, 0, -1), ECANCELED, "stopped");
	thaw_close(h);
	LIVE_CHECK(said == 1);
	usleep(100000);
	live_kill(&l);
	LIVE_CHECK(live_end(&l) == 128 + 9); /* it was still waiting: not 1 for a page of zeros */
	close(l.uffd);
}

int main(void)
{
	alarm(patience(60));
	LIVE_CHECK(thaw_probe() == 0);
	test_settings();
	test_add();
	test_registered_in_part();
	test_twice();
	test_reports();
	test_sizes();
	test_stop_twice();
	test_close_with_absent();
	return 0;
}
