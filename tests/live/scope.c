// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope.c - the frame of the programs of scope.h: scope ITEM DIR; DIR/ready is made, DIR/go is waited for */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static int dir; /* open: an item may give up the right to go there by name */

_Noreturn void scope_fail(const char *file, int line, const char *what)
{
	const char *base = strrchr(file, '/');

	fprintf(stderr, "%s:%d: does not hold: %s\n", base ? base + 1 : file, line, what);
	_exit(1);
}

/* No stdio here, which would use the heap that an item may be about. */
void scope_point(void)
{
	int ready = openat(dir, "ready", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (ready < 0)
		scope_fail(__FILE__, __LINE__, "ready");
	close(ready);
	while (faccessat(dir, "go", F_OK, 0))
		usleep(2000);
}

void scope_without(const char *a, const char *b)
{
	int fd = openat(dir, "without", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

	CHECK(fd >= 0 && dprintf(fd, "%s%s\n", a, b) > 0);
	close(fd);
}

void scope_enter(void)
{
	CHECK(!mkdirat(dir, "files", 0700) && !fchdir(dir) && !chdir("files"));
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

void scope_fill(void *p, size_t len, uint64_t seed)
{
	uint64_t *v = p;

	for (size_t i = 0; i < len / 8; i++)
		v[i] = mix(seed ^ (uint64_t)&v[i]);
}

bool scope_is_filled(const void *p, size_t len, uint64_t seed)
{
	const uint64_t *v = p;

	for (size_t i = 0; i < len / 8; i++)
		if (v[i] != mix(seed ^ (uint64_t)&v[i])) {
			fprintf(stderr, "at %p: %016llx instead of %016llx\n", (const void *)&v[i], (unsigned long long)v[i],
				(unsigned long long)mix(seed ^ (uint64_t)&v[i]));
			return false;
		}
	return true;
}

bool scope_is_zero(const void *p, size_t len)
{
	const char *c = p;

	for (size_t i = 0; i < len; i++)
		if (c[i])
			return false;
	return true;
}

struct start {
	void *(*fn)(void *);
	void *arg;
	_Atomic pid_t tid;
};

static void *started(void *opaque)
{
	struct start *s = opaque;
	void *(*fn)(void *) = s->fn, *arg = s->arg;

	s->tid = (pid_t)syscall(SYS_gettid);
	return fn(arg);
}

void scope_until_blocked(pid_t tid)
{
	char path[64], line[512], *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	for (int calm = 0; calm < 3;) {
		usleep(5000);
		f = fopen(path, "r");
		CHECK(f && fgets(line, sizeof(line), f));
		fclose(f);
		state = strrchr(line, ')');
		calm = state && state[2] == 'S' ? calm + 1 : 0;
	}
}

pthread_t scope_blocked(void *(*fn)(void *), void *arg)
{
	struct start *s = calloc(1, sizeof(*s));
	pthread_t t;

	CHECK(s);
	s->fn = fn;
	s->arg = arg;
	CHECK(!pthread_create(&t, NULL, started, s));
	while (!s->tid)
		usleep(1000);
	scope_until_blocked(s->tid);
	return t;
}

double scope_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void scope_smaps(const void *addr, const char *field, char *buf, size_t size)
{
	char line[512], start[40];
	bool here = false;
	FILE *f = fopen("/proc/self/smaps", "r");

	CHECK(f);
	buf[0] = '\0';
	snprintf(start, sizeof(start), "%lx-", (unsigned long)addr);
	while (fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && strspn(line, "0123456789abcdef") == (size_t)(strchr(line, '-') - line))
			here = !strncmp(line, start, strlen(start));
		else if (here && !strncmp(line, field, strlen(field)))
			snprintf(buf, size, "%s", line);
	}
	fclose(f);
}

static sigjmp_buf back;

static void jump(int sig)
{
	siglongjmp(back, sig);
}

bool scope_faults(volatile char *p, bool write)
{
	struct sigaction a = { .sa_handler = jump }, old;
	volatile bool faulted = true;

	sigaction(SIGSEGV, &a, &old);
	if (!sigsetjmp(back, 1)) {
		if (write)
			*p = 1;
		else
			(void)*p;
		faulted = false;
	}
	sigaction(SIGSEGV, &old, NULL);
	return faulted;
}

static const struct scope_item *const tables[] = { scope_memory, scope_events, scope_signals, scope_calls, scope_timers,
						   scope_threads, scope_process, scope_files };

int main(int argc, char **argv)
{
	const char *table_names[] = { "memory", "events", "signals", "calls", "timers", "threads", "process", "files" };

	if (argc == 3 && !strcmp(argv[1], "list")) {
		for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
			for (const struct scope_item *i = tables[t]; i->name && !strcmp(table_names[t], argv[2]); i++)
				puts(i->name);
		return 0;
	}
	if (argc != 3)
		return 2;
	close_range(3, ~0U, 0); /* what whoever started the tests had open */
	dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0);
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct scope_item *i = tables[t]; i->name; i++)
			if (!strcmp(i->name, argv[1])) {
				i->run();
				puts("ok");
				return 0;
			}
	fprintf(stderr, "no item %s\n", argv[1]);
	return 2;
}
