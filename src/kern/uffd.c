// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/uffd.c - userfaultfd: opening one, and the establishing calls with their answers sorted */
#include "config.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NODE "/dev/userfaultfd"

int thaw_uffd_open_node(void)
{
	int fd, node, err = THAW_INJECT("uffd.node");

	if (err)
		return err;
	node = open(NODE, O_RDWR | O_CLOEXEC);
	if (node < 0)
		return -errno;
	fd = ioctl(node, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	err = fd < 0 ? -errno : fd;
	close(node);
	return err;
}

int thaw_uffd_open_call(void)
{
	int fd, err = THAW_INJECT("uffd.call");

	if (err)
		return err;
	/* Not UFFD_USER_MODE_ONLY: the process's own system calls on absent memory would fail with EFAULT. */
	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static bool release(unsigned *major, unsigned *minor)
{
	struct utsname u;

	return !uname(&u) && sscanf(u.release, "%u.%u", major, minor) == 2;
}

bool thaw_uffd_close_can_spin(void)
{
	unsigned major, minor;

	return release(&major, &minor) && (major < 6 || (major == 6 && minor < 15)); /* fe4cdc2c4e24 */
}

int thaw_uffd_check_release(void)
{
	unsigned major, minor;

	if (!release(&major, &minor))
		return 0; /* a name that we cannot read is no reason to refuse: the calls themselves will tell */
	if (major > 6 || (major == 6 && minor >= 1))
		return 0;
	return thaw_err_set(
		-EOPNOTSUPP,
		"userfaultfd: Linux %u.%u is too old: before 6.1 the kernel may report a change of the memory "
		"map as over while another is going on; use Linux 6.1 or later",
		major, minor);
}

/* Both ways failed: one sentence that names both causes, and what to do about the nearer one. */
static int open_failed(int node, int call)
{
	const char *why_node;

	if (call == -EMFILE || call == -ENFILE)
		return thaw_err_set(call, "userfaultfd: no descriptor is free (%s); raise the limit (ulimit -n)",
				    strerror(-call));
	if (call == -ENOSYS)
		return thaw_err_set(call, "userfaultfd: the kernel has no such system call, or a container's filter "
					  "hides it; use a kernel "
					  "with CONFIG_USERFAULTFD, or a seccomp profile that allows userfaultfd");
	if (node == -ENOENT || node == -ENXIO || node == -ENODEV)
		why_node = "there is no " NODE " (Linux 6.1; in a container it has to be passed in)";
	else if (node == -EACCES || node == -EPERM)
		why_node = NODE " may not be opened by this user";
	else
		why_node = NODE " failed";
	if (call == -EPERM)
		return thaw_err_set(call,
				    "userfaultfd: not permitted: %s (%s), and the system call needs CAP_SYS_PTRACE; "
				    "give access to " NODE
				    ", or the capability, or set the sysctl vm.unprivileged_userfaultfd=1",
				    why_node, strerror(-node));
	return thaw_err_set(call, "userfaultfd: %s (%s), and the system call failed: %s", why_node, strerror(-node),
			    strerror(-call));
}

static const struct {
	uint64_t bit;
	const char *name;
} feature_names[] = {
	{ UFFD_FEATURE_EVENT_FORK, "EVENT_FORK" },	   { UFFD_FEATURE_EVENT_REMAP, "EVENT_REMAP" },
	{ UFFD_FEATURE_EVENT_REMOVE, "EVENT_REMOVE" },	   { UFFD_FEATURE_EVENT_UNMAP, "EVENT_UNMAP" },
	{ UFFD_FEATURE_THREAD_ID, "THREAD_ID" },	   { UFFD_FEATURE_EXACT_ADDRESS, "EXACT_ADDRESS" },
	{ UFFD_FEATURE_MISSING_SHMEM, "MISSING_SHMEM" },   { UFFD_FEATURE_MISSING_HUGETLBFS, "MISSING_HUGETLBFS" },
	{ UFFD_FEATURE_POISON, "POISON (Linux 6.6)" },
};

static int features_missing(uint64_t missing)
{
	char list[160] = "";
	size_t i, at = 0;

	for (i = 0; i < sizeof(feature_names) / sizeof(feature_names[0]); i++)
		if (missing & feature_names[i].bit && at < sizeof(list))
			at += snprintf(list + at, sizeof(list) - at, "%s%s", at ? ", " : "", feature_names[i].name);
	return thaw_err_set(-EOPNOTSUPP, "userfaultfd: this kernel lacks %s (0x%llx); use a newer kernel",
			    at ? list : "features", (unsigned long long)missing);
}

/* UFFDIO_API; a failed one leaves the descriptor uninitialised, so it can be asked again without wishes. */
static int handshake(int fd, uint64_t features, uint64_t *kernel_features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int err = THAW_INJECT("uffd.api");

	if (!err && !ioctl(fd, UFFDIO_API, &api)) {
		if (kernel_features)
			*kernel_features = api.features;
		return (features & ~api.features) ? features_missing(features & ~api.features) : 0;
	}
	if (!err)
		err = -errno;
	if (err == -EPERM && features & UFFD_FEATURE_EVENT_FORK)
		return thaw_err_set(
			err, "userfaultfd: EVENT_FORK is not permitted: without CAP_SYS_PTRACE a child of the restored "
			     "process would read zeros; give the capability (setcap cap_sys_ptrace+ep)");
	api = (struct uffdio_api){ .api = UFFD_API };
	if (err == -EINVAL && !ioctl(fd, UFFDIO_API, &api) && features & ~api.features)
		return features_missing(features & ~api.features);
	return thaw_err_set(err, "userfaultfd: UFFDIO_API failed: %s", strerror(-err));
}

int thaw_uffd_open_features(uint64_t features, uint64_t *kernel_features)
{
	int err = thaw_uffd_check_release();
	int node, fd;

	if (err)
		return err;
	fd = node = thaw_uffd_open_node();
	if (fd < 0)
		fd = thaw_uffd_open_call();
	if (fd < 0)
		return open_failed(node, fd);
	err = handshake(fd, features, kernel_features);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

int thaw_uffd_register(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_register reg = { .range = { addr, len }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int err = THAW_INJECT("uffd.register");

	if (err)
		return err;
	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int thaw_uffd_watch_writes(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_register reg = { .range = { addr, len }, .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP };
	int err = THAW_INJECT("uffd.watch");

	if (err)
		return err;
	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

bool thaw_uffd_is_one(int fd)
{
	static const char want[] = "anon_inode:[userfaultfd]";
	char path[48], link[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link));
	return n == sizeof(want) - 1 && !memcmp(link, want, n);
}

/* `field` is the kernel's out field, which we set to 0 before: on an early refusal some kernels do not touch it. */
static struct thaw_fill sort(int err, int64_t field)
{
	struct thaw_fill f = { .error = err, .done = field > 0 ? (uint64_t)field : 0 };

	if (f.done && err) {
		/* "Partial" has one errno, EAGAIN, whatever ended it; the caller learns the reason behind the part
		 * done. */
		f.outcome = THAW_PARTIAL;
		return f;
	}
	switch (err) {
	case 0:
		f.outcome = THAW_PLACED;
		break;
	case EAGAIN:
		f.outcome = THAW_CHANGING;
		break;
	case EEXIST:
		f.outcome = THAW_PRESENT;
		break;
	case ENOENT:
		f.outcome = THAW_NO_VMA;
		break;
	case ESRCH:
		f.outcome = THAW_DEAD;
		break;
	case ENOMEM:
	case EINTR: /* a signal ends us; should it not, this says nothing of the page either: later */
		f.outcome = THAW_NO_MEMORY;
		break;
	default:
		f.outcome = THAW_BROKEN;
	}
	return f;
}

static int copy(int uffd, struct uffdio_copy *c)
{
	return ioctl(uffd, UFFDIO_COPY, c) ? errno : 0;
}

/* The answer that a copy is to give by order, 0: none. Never a lie about the process: see util/inject.h. */
static int injected_copy(int uffd, const struct uffdio_copy *c)
{
	int err = -THAW_INJECT("uffd.copy");

	if (err == ESRCH || (err == ENOENT && c->len == 4096))
		err = 0;
	if (err == EEXIST) {
		struct uffdio_copy first = *c;

		first.len = 4096;
		first.copy = 0;
		if (copy(uffd, &first) && errno != EEXIST)
			err = 0; /* then the whole is asked for, and answers that itself */
	}
	return err ? err : c->len == 4096 ? -THAW_INJECT("uffd.copy.page") : 0;
}

struct thaw_fill thaw_uffd_copy(int uffd, uint64_t dst, const void *src, uint64_t len, bool wake)
{
	return thaw_uffd_copy_match(uffd, dst, src, len, wake, 0);
}

struct thaw_fill thaw_uffd_copy_match(int uffd, uint64_t dst, const void *src, uint64_t len, bool wake, uint64_t match)
{
	struct uffdio_copy c = {
		.dst = dst,
		.src = (uintptr_t)src,
		.len = len,
		.mode = match | (wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE),
	};
	int err = injected_copy(uffd, &c);

	if (err)
		return sort(err, 0);
	c.len = THAW_INJECT_SHORT("uffd.copy", len, 4096);
	err = copy(uffd, &c);
	return sort(!err && c.len < len ? EAGAIN : err, c.copy); /* what a fill looks like that was cut short */
}

struct thaw_fill thaw_uffd_zero(int uffd, uint64_t dst, uint64_t len)
{
	return thaw_uffd_zero_match(uffd, dst, len, 0);
}

struct thaw_fill thaw_uffd_zero_match(int uffd, uint64_t dst, uint64_t len, uint64_t match)
{
	struct uffdio_zeropage z = { .range = { dst, len }, .mode = match };
	int err = -THAW_INJECT("uffd.zero");

	if (err && err != ESRCH && err != ENOENT)
		return sort(err, 0);
	z.range.len = THAW_INJECT_SHORT("uffd.zero", len, 4096);
	err = ioctl(uffd, UFFDIO_ZEROPAGE, &z) ? errno : 0;
	return sort(!err && z.range.len < len ? EAGAIN : err, z.zeropage);
}

struct thaw_fill thaw_uffd_poison(int uffd, uint64_t dst, uint64_t len)
{
	struct uffdio_poison p = { .range = { dst, len } };
	int err = -THAW_INJECT("uffd.poison");

	if (err && err != ESRCH && err != ENOENT)
		return sort(err, 0);
	err = ioctl(uffd, UFFDIO_POISON, &p) ? errno : 0;
	return sort(err, p.updated);
}

int thaw_uffd_unregister(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range r = { addr, len };
	int err = THAW_INJECT("uffd.unregister");

	if (err)
		return err;
	return ioctl(uffd, UFFDIO_UNREGISTER, &r) ? -errno : 0;
}

int thaw_uffd_wake(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range r = { addr, len };

	(void)THAW_INJECT("uffd.wake");
	return ioctl(uffd, UFFDIO_WAKE, &r) ? -errno : 0;
}

int thaw_uffd_read(int uffd, struct uffd_msg *msgs, unsigned n)
{
	int err = THAW_INJECT("uffd.read");
	ssize_t got;

	if (err)
		return err;
	got = read(uffd, msgs, THAW_INJECT_SHORT("uffd.read", n * sizeof(*msgs), sizeof(*msgs)));
	if (got >= 0)
		return got;
	return errno == EAGAIN ? 0 : -errno;
}

enum thaw_outcome thaw_uffd_is_registered(int uffd, uint64_t addr)
{
	/* CONTINUE maps a page of a file; private anonymous memory has none, and the kernel says EINVAL, but only after
	 * it has found the mapping to be registered. */
	struct uffdio_continue c = { .range = { addr, 4096 } };
	enum thaw_outcome out;

	if (THAW_INJECT("uffd.registered") == -EAGAIN)
		return THAW_CHANGING;
	out = sort(ioctl(uffd, UFFDIO_CONTINUE, &c) ? errno : 0, c.mapped).outcome;

	return out == THAW_NO_VMA || out == THAW_CHANGING || out == THAW_DEAD ? out : THAW_PRESENT;
}

enum thaw_outcome thaw_uffd_probe(int uffd)
{
	return thaw_uffd_probe_match(uffd, 0);
}

enum thaw_outcome thaw_uffd_probe_match(int uffd, uint64_t match)
{
	/* Page 0 is never within a registered range (mmap_min_addr; a process that maps it is refused at checkpoint),
	 * so this places nothing. Kernels look at the mm first, then at mmap_changing, then for the VMA. */
	struct uffdio_zeropage z = { .range = { 0, 4096 }, .mode = match };

	if (THAW_INJECT("uffd.probe") == -EAGAIN)
		return THAW_CHANGING;
	return sort(ioctl(uffd, UFFDIO_ZEROPAGE, &z) ? errno : 0, z.zeropage).outcome;
}

/* ---- numbered messages ------------------------------------------------------------------------------------------ */
uint32_t thaw_uffd_number(const struct uffd_msg *msg)
{
	uint32_t number;

	memcpy(&number, (const char *)msg + 4, sizeof(number)); /* a reserved member in older headers */
	return number;
}

int thaw_uffd_events(int uffd, uint32_t *last, unsigned *raised, unsigned *queued)
{
	char path[48], buf[1024], *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
	fd = THAW_INJECT_ERRNO("procfs.open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	at = strstr(buf, "\nevents:");
	return at && sscanf(at, " events: %u %u %u", last, raised, queued) == 3 ? 0 : -ENODATA;
}

static bool has_numbers;

/* By what it does, not by its bit alone: a later kernel may give that to something else. */
static void try_numbers(void)
{
	uint64_t features = 0;
	int fd = thaw_uffd_open_features(0, &features);

	if (fd >= 0)
		close(fd);
	if (fd < 0 || !(features & UFFD_FEATURE_EVENT_SEQ))
		return;
	fd = thaw_uffd_open_features(UFFD_FEATURE_EVENT_SEQ, NULL);
	if (fd < 0)
		return;
	has_numbers = thaw_uffd_probe_match(fd, thaw_uffd_match(12345)) == THAW_CHANGING &&
		      thaw_uffd_probe_match(fd, thaw_uffd_match(0)) == THAW_NO_VMA;
	close(fd);
}

bool thaw_uffd_has_numbers(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, try_numbers);
	return has_numbers;
}

/* ---- the length of a move that shrinks -------------------------------------------------------------------------- */
static bool tells_old_length;

struct shrinker {
	char *from, *to;
	bool moved;
	_Atomic bool over;
};

static void *shrink(void *arg)
{
	struct shrinker *s = arg;

	s->moved = mremap(s->from, 2 * 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, s->to) != MAP_FAILED;
	atomic_store(&s->over, true);
	return NULL;
}

/* The call waits for its messages to be read, so it is another thread's. Returns how many of the four pages at the front are
 * not ours any more: the two that have been moved away from, where another thread may have something by then; all, where
 * nobody knows. */
static unsigned watch_shrinking(int fd, char *at)
{
	struct shrinker s = { .from = at, .to = at + 3 * 4096 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg;
	sigset_t all, old;
	pthread_t thread;
	int err;

	if (thaw_uffd_register(fd, (uintptr_t)at, 2 * 4096))
		return 0;
	sigfillset(&all); /* the caller's signals are not for it */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, NULL, shrink, &s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return 0;
	while (!atomic_load(&s.over)) {
		if (poll(&p, 1, 1) > 0 && read(fd, &msg, sizeof(msg)) == (ssize_t)sizeof(msg) && msg.event == UFFD_EVENT_REMAP)
			tells_old_length = msg.arg.remap.len == 2 * 4096;
	}
	pthread_join(thread, NULL);
	return s.moved ? 2 : 4;
}

static void try_length(void)
{
	int fd = thaw_uffd_open_features(UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP, NULL);
	char *at = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned major, minor, gone = 0;

	/* Who may not open a userfaultfd, and serves one that it was given, cannot try it. */
	tells_old_length = release(&major, &minor) && major == 6 && minor < 15;
	if (fd >= 0 && at != MAP_FAILED)
		gone = watch_shrinking(fd, at);
	if (fd >= 0) /* before what is registered with it: nobody would read of that */
		close(fd);
	if (at != MAP_FAILED && gone < 4)
		munmap(at + gone * 4096, (4 - gone) * 4096);
}

bool thaw_uffd_tells_old_length(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, try_length);
	return tells_old_length;
}
