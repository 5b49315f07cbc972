// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/guest/hole.c - see hole.h */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

struct hole hole;

void hole_die(const char *file, int line, const char *format, ...)
{
	va_list a;

	fprintf(stderr, "%s: %s:%d: ", hole.program, file, line);
	va_start(a, format);
	vfprintf(stderr, format, a);
	va_end(a);
	fputc('\n', stderr);
	exit(1);
}

void hole_skip(const char *format, ...)
{
	va_list a;

	printf("%s: SKIPPED: ", hole.program);
	va_start(a, format);
	vprintf(format, a);
	va_end(a);
	putchar('\n');
	exit(77);
}

double hole_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- options ------------------------------------------------------------------------------------------------------------- */
static const struct {
	char letter; /* of hole_options()'s `has`; 0: always */
	struct option o;
	const char *help;
} options[] = {
	{ 'r', { "rounds", required_argument, NULL, 'r' }, "--rounds N       end after N rounds" },
	{ 0, { "seconds", required_argument, NULL, 'S' }, "--seconds N      end after N seconds (fractions allowed)" },
	{ 'p', { "pages", required_argument, NULL, 'p' }, "--pages N        pages that are filled in one go" },
	{ 't', { "threads", required_argument, NULL, 't' }, "--threads N      threads at work" },
	{ 's', { "source", required_argument, NULL, 's' },
	  "--source KIND    resident, cold (in the page cache) or slow (one page arrives late)" },
	{ 'm', { "memory", required_argument, NULL, 'm' }, "--memory KIND    private (MADV_DONTNEED) or shared (MADV_REMOVE)" },
	{ 'u', { "rule", required_argument, NULL, 'u' },
	  "--rule RULE      of the monitor: none, gate (reading excludes filling) or number (patched kernels)" },
	{ 'o', { "replay", required_argument, NULL, 'o' },
	  "--replay ORDER   of events: read, paired (read, with the two halves of an mremap told apart) or number (patched kernels)" },
	{ 0, { "closed", no_argument, NULL, 'c' }, "--closed         exit with 1 if the hole shows" },
	{ 0, { "json", no_argument, NULL, 'j' }, "--json           one line of JSON" },
	{ 0, { "help", no_argument, NULL, 'h' }, "--help           this" },
};
#define N_OPTIONS (sizeof(options) / sizeof(options[0]))
static const char *const sources[] = { "resident", "cold", "slow" };
static const char *const rules[] = { "none", "gate", "number" };
static const char *const replays[] = { "read", "paired", "number" };

static void __attribute__((noreturn)) usage(const char *option, const char *value)
{
	fprintf(stderr, "%s: %s cannot be %s; %s --help tells what it can be\n", hole.program, option, value, hole.program);
	exit(2);
}

static int word(const char *option, const char *value, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(value, words[i]))
			return i;
	usage(option, value);
}

static double number(const char *option, const char *value, double most)
{
	char *end;
	double d = strtod(value, &end);

	if (end == value || *end || !(d > 0) || d > most)
		usage(option, value);
	return d;
}

static unsigned long whole(const char *option, const char *value, unsigned long most)
{
	double d = number(option, value, (double)most);

	if ((double)(unsigned long)d != d)
		usage(option, value);
	return (unsigned long)d;
}

void hole_options(int argc, char **argv, const char *about, const char *has)
{
	struct option o[N_OPTIONS + 1] = { 0 };
	double limit = 0;
	size_t n = 0;
	int c;

	hole.program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	hole.page = (size_t)sysconf(_SC_PAGESIZE);
	for (size_t i = 0; i < N_OPTIONS; i++)
		if (!options[i].letter || strchr(has, options[i].letter))
			o[n++] = options[i].o;
	while ((c = getopt_long(argc, argv, "", o, NULL)) != -1) {
		switch (c) {
		case 'r': hole.rounds = whole("--rounds", optarg, 1UL << 40); break;
		case 'S': limit = number("--seconds", optarg, 1e9); break;
		case 'p': hole.pages = whole("--pages", optarg, 1UL << 20); break;
		case 't': hole.threads = (unsigned)whole("--threads", optarg, 64); break;
		case 's': hole.source = (enum hole_source)word("--source", optarg, sources, 3); break;
		case 'm':
			if (strcmp(optarg, "private") && strcmp(optarg, "shared"))
				usage("--memory", optarg);
			hole.shared = !strcmp(optarg, "shared");
			break;
		case 'u': hole.rule = (enum hole_rule)word("--rule", optarg, rules, 3); break;
		case 'o': hole.replay = (enum hole_replay)word("--replay", optarg, replays, 3); break;
		case 'c': hole.closed = true; break;
		case 'j': hole.json = true; break;
		case 'h':
			printf("usage: %s [options]\n%s\n\n", hole.program, about);
			for (size_t i = 0; i < N_OPTIONS; i++)
				if (!options[i].letter || strchr(has, options[i].letter))
					printf("  %s\n", options[i].help);
			printf("\nExit status: 0 it ran (whatever it counted), 1 it could not, 2 usage, 77 not possible here.\n");
			exit(0);
		default: exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "%s: %s is no option; %s --help tells which there are\n", hole.program, argv[optind], hole.program);
		exit(2);
	}
	if (limit > 0 || hole.rounds)
		hole.seconds = limit;
	if (hole.source == HOLE_SLOW && hole.rule == HOLE_GATE) {
		fprintf(stderr, "%s: --rule gate with --source slow would wait for itself: the page comes after the event has been read, and the event\n"
			"is not read before the copy is over\n", hole.program);
		exit(2);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	hole.started = hole_now();
}

bool hole_over(unsigned long round)
{
	return (hole.rounds && round >= hole.rounds) || (hole.seconds > 0 && hole_now() - hole.started >= hole.seconds);
}

/* ---- userfaultfd --------------------------------------------------------------------------------------------------------- */
static int uffd_try(uint64_t features)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api)) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

bool hole_uffd_has(uint64_t features)
{
	int fd = uffd_try(features);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int hole_uffd(uint64_t features)
{
	int fd = uffd_try(features);

	if (fd == -EPERM || fd == -ENOSYS)
		hole_skip("userfaultfd with events is not allowed here: %s", strerror(-fd));
	if (fd == -EINVAL && (features & HOLE_FEATURE_EVENT_SEQ))
		hole_skip("this kernel does not number its events (see contrib/kernel)");
	if (fd < 0)
		HOLE_DIE("userfaultfd: %s", strerror(-fd));
	return fd;
}

void hole_register(int uffd, void *start, size_t len)
{
	struct uffdio_register r = { .range = { (uintptr_t)start, len }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (ioctl(uffd, UFFDIO_REGISTER, &r))
		HOLE_DIE("UFFDIO_REGISTER: %s", strerror(errno));
}

int hole_copy(int uffd, void *dst, const void *src, size_t len, uint64_t mode, int64_t *done)
{
	struct uffdio_copy c = { .dst = (uintptr_t)dst, .src = (uintptr_t)src, .len = len, .mode = mode };
	int ret = ioctl(uffd, UFFDIO_COPY, &c) ? -errno : 0;

	if (done)
		*done = c.copy;
	return ret;
}

int hole_zero(int uffd, void *dst, size_t len, uint64_t mode, int64_t *done)
{
	struct uffdio_zeropage z = { .range = { (uintptr_t)dst, len }, .mode = mode };
	int ret = ioctl(uffd, UFFDIO_ZEROPAGE, &z) ? -errno : 0;

	if (done)
		*done = z.zeropage;
	return ret;
}

void hole_wake(int uffd, void *dst, size_t len)
{
	struct uffdio_range r = { (uintptr_t)dst, len };

	if (ioctl(uffd, UFFDIO_WAKE, &r))
		HOLE_DIE("UFFDIO_WAKE: %s", strerror(errno));
}

/* ---- memory -------------------------------------------------------------------------------------------------------------- */
void *hole_map(size_t len, bool shared)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_NORESERVE | MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);

	if (p == MAP_FAILED)
		HOLE_DIE("mmap of %zu bytes: %s", len, strerror(errno));
	madvise(p, len, MADV_NOHUGEPAGE); /* EINVAL where there are none */
	return p;
}

bool hole_is_present(const void *page)
{
	return hole_count_present(page, 1) != 0;
}

unsigned long hole_count_present(const void *start, unsigned long pages)
{
	unsigned char v[1024];
	unsigned long n = 0;
	uintptr_t p = (uintptr_t)start;

	while (pages) {
		unsigned long some = pages < sizeof(v) ? pages : sizeof(v);

		if (mincore((void *)p, some * hole.page, v))
			HOLE_DIE("mincore: %s", strerror(errno));
		for (unsigned long i = 0; i < some; i++)
			n += v[i] & 1;
		p += some * hole.page;
		pages -= some;
	}
	return n;
}

void hole_tag(void *start, unsigned long pages)
{
	uint64_t *w = start;

	for (size_t i = 0; i < pages * hole.page / sizeof(*w); i++)
		w[i] = HOLE_TAG;
}

bool hole_is_tagged(const void *page)
{
	return *(const volatile uint64_t *)page == HOLE_TAG;
}

/* ---- sources ------------------------------------------------------------------------------------------------------------- */
/* The slow page is missing in a userfaultfd of its own, whose thread fills it in when it is told to. */
static int slow_uffd = -1;
static char *slow_page, *slow_content;
static atomic_bool slow_may_come;

static void *slow_thread(void *arg)
{
	struct pollfd p = { .fd = slow_uffd, .events = POLLIN };
	struct uffd_msg m;

	(void)arg;
	for (;;) {
		if (poll(&p, 1, -1) <= 0 || read(slow_uffd, &m, sizeof(m)) != sizeof(m))
			continue;
		while (!atomic_load(&slow_may_come))
			sched_yield();
		if (hole_copy(slow_uffd, slow_page, slow_content, hole.page, 0, NULL))
			hole_wake(slow_uffd, slow_page, hole.page);
	}
	return NULL;
}

static char *memory_file(size_t len)
{
	int fd = memfd_create("hole", MFD_CLOEXEC);
	char *p;

	if (fd < 0 || ftruncate(fd, (off_t)len))
		HOLE_DIE("memfd of %zu bytes: %s", len, strerror(errno));
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		HOLE_DIE("mmap of a memfd: %s", strerror(errno));
	close(fd);
	return p;
}

char *hole_source_make(void)
{
	size_t len = hole.pages * hole.page;
	char *s = hole.source == HOLE_COLD ? memory_file(len) : hole_map(len, false);
	pthread_t t;

	hole_tag(s, hole.pages);
	if (hole.source != HOLE_SLOW)
		return s;
	slow_page = s + hole.pages / 2 * hole.page;
	slow_content = hole_map(hole.page, false);
	hole_tag(slow_content, 1);
	slow_uffd = hole_uffd(0);
	hole_register(slow_uffd, slow_page, hole.page);
	if (pthread_create(&t, NULL, slow_thread, NULL) || pthread_detach(t))
		HOLE_DIE("a thread could not be started");
	return s;
}

void hole_source_reset(char *source)
{
	int ret = 0;

	atomic_store(&slow_may_come, false);
	if (hole.source == HOLE_COLD)
		ret = madvise(source, hole.pages * hole.page, MADV_DONTNEED); /* the content stays in the page cache */
	else if (hole.source == HOLE_SLOW)
		ret = madvise(slow_page, hole.page, MADV_DONTNEED);
	if (ret)
		HOLE_DIE("madvise of the source: %s", strerror(errno));
}

void hole_source_release(void)
{
	atomic_store(&slow_may_come, true);
}

/* ---- monitor ------------------------------------------------------------------------------------------------------------- */
static int monitor_uffd;
static pthread_rwlock_t gate;
static pthread_t reader, copier;
static atomic_bool monitor_ends, copy_wanted, copy_done;
static char *copy_dst, *copy_src;
static int copy_ret;
static int64_t copy_bytes;
static _Atomic uint32_t applied; /* the number of the last event that was read */

static void read_messages(void)
{
	struct uffd_msg m[16];
	ssize_t n;

	if (hole.rule == HOLE_GATE)
		pthread_rwlock_wrlock(&gate);
	n = read(monitor_uffd, m, sizeof(m));
	if (hole.rule == HOLE_GATE)
		pthread_rwlock_unlock(&gate);
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(m[0]); i++) {
		char *at = (char *)(uintptr_t)(m[i].arg.pagefault.address & ~(hole.page - 1));

		if (m[i].event == UFFD_EVENT_FORK)
			close((int)m[i].arg.fork.ufd);
		if (m[i].event != UFFD_EVENT_PAGEFAULT) {
			atomic_store(&applied, HOLE_MSG_SEQ(&m[i]));
			continue;
		}
		if (hole_zero(monitor_uffd, at, hole.page, 0, NULL))
			hole_wake(monitor_uffd, at, hole.page); /* it will ask again, after the event that is in the way */
	}
}

static void *reader_thread(void *arg)
{
	struct pollfd p = { .fd = monitor_uffd, .events = POLLIN };

	(void)arg;
	while (!atomic_load(&monitor_ends))
		if (poll(&p, 1, 20) > 0)
			read_messages();
	return NULL;
}

static void *copier_thread(void *arg)
{
	(void)arg;
	while (!atomic_load(&monitor_ends)) {
		uint64_t mode = 0;

		if (!atomic_load(&copy_wanted)) {
			sched_yield();
			continue;
		}
		if (hole.rule == HOLE_GATE)
			pthread_rwlock_rdlock(&gate);
		if (hole.rule == HOLE_NUMBER)
			mode = HOLE_MATCH_SEQ | HOLE_SEQ(atomic_load(&applied));
		copy_ret = hole_copy(monitor_uffd, copy_dst, copy_src, hole.pages * hole.page, mode, &copy_bytes);
		if (hole.rule == HOLE_GATE)
			pthread_rwlock_unlock(&gate);
		atomic_store(&copy_wanted, false);
		atomic_store(&copy_done, true);
	}
	return NULL;
}

void hole_monitor_start(int uffd)
{
	pthread_rwlockattr_t a;

	monitor_uffd = uffd;
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&gate, &a);
	pthread_rwlockattr_destroy(&a);
	if (pthread_create(&reader, NULL, reader_thread, NULL) || pthread_create(&copier, NULL, copier_thread, NULL))
		HOLE_DIE("a thread could not be started");
}

void hole_copy_start(char *dst, char *src)
{
	copy_dst = dst;
	copy_src = src;
	atomic_store(&copy_done, false);
	atomic_store(&copy_wanted, true);
	while (!hole_is_present(dst)) {
		if (!atomic_load(&copy_done) || hole_is_present(dst)) {
			sched_yield();
			continue;
		}
		if (copy_ret != -EAGAIN)
			HOLE_DIE("UFFDIO_COPY: %s", strerror(-copy_ret));
		/* the round before has not come to an end: again */
		atomic_store(&copy_done, false);
		atomic_store(&copy_wanted, true);
	}
}

bool hole_copy_is_over(void)
{
	return atomic_load(&copy_done);
}

int hole_copy_wait(int64_t *done)
{
	while (!atomic_load(&copy_done))
		sched_yield();
	if (done)
		*done = copy_bytes;
	return copy_ret;
}

void hole_monitor_stop(void)
{
	atomic_store(&monitor_ends, true);
	pthread_join(reader, NULL);
	pthread_join(copier, NULL);
}

/* ---- report -------------------------------------------------------------------------------------------------------------- */
static struct {
	const char *name;
	char value[64];
	bool text;
} fields[24];
static unsigned n_fields;

static void field(const char *name, const char *value, bool text)
{
	if (n_fields == sizeof(fields) / sizeof(fields[0]))
		HOLE_DIE("too many counts");
	fields[n_fields].name = name;
	fields[n_fields].text = text;
	snprintf(fields[n_fields++].value, sizeof(fields[0].value), "%s", value);
}

void hole_count(const char *name, unsigned long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", n);
	field(name, text, false);
}

void hole_text(const char *name, const char *value)
{
	field(name, value, true);
}

int hole_report(unsigned long rounds, unsigned long bad_rounds, const char *bad_name, unsigned long bad)
{
	double took = hole_now() - hole.started;
	struct utsname u;

	uname(&u);
	if (hole.json) {
		printf("{\"program\":\"%s\",\"kernel\":\"%s\"", hole.program, u.release);
		for (unsigned i = 0; i < n_fields; i++)
			printf(fields[i].text ? ",\"%s\":\"%s\"" : ",\"%s\":%s", fields[i].name, fields[i].value);
		printf(",\"rounds\":%lu,\"bad_rounds\":%lu,\"%s\":%lu,\"seconds\":%.2f}\n", rounds, bad_rounds, bad_name, bad, took);
	} else {
		printf("%s on %s:", hole.program, u.release);
		for (unsigned i = 0; i < n_fields; i++)
			printf(" %s %s,", fields[i].name, fields[i].value);
		printf(" %lu rounds in %.2f s: %lu bad, %s %lu\n", rounds, took, bad_rounds, bad_name, bad);
	}
	if (!rounds)
		HOLE_DIE("not one round came to an end");
	return hole.closed && (bad || bad_rounds);
}
