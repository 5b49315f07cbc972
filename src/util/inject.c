// SPDX-License-Identifier: LGPL-2.1-or-later
/* util/inject.c - which named points fail, and when */
#include "config.h"
#include "util/inject.h"

#ifdef THAW_DEBUG
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/assert.h"
#include "util/err.h"

enum { MAX_RULES = 32, MAX_NAME = 48 };
enum what { FAIL, SHORT, DELAY };

struct rule {
	char point[MAX_NAME];
	enum what what;
	int code;           /* FAIL: positive errno */
	uint64_t delay_ns;  /* DELAY */
	uint64_t first;     /* the call that fails; 0: by chance */
	int onwards;        /* and every later one */
	uint32_t num, den;  /* chance */
	uint64_t calls;     /* atomic */
	uint64_t hits;      /* atomic */
};

static struct rule rules[MAX_RULES];
static unsigned n_rules;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t draws; /* atomic; the state of the generator */
static int told_fd = -1; /* written once */

static int read_errno(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (end != s && *end == '\0')
		return n > 0 && n < 4096 ? (int)n : -EINVAL;
	for (int e = 1; e < 256; e++) {
		const char *name = strerrorname_np(e);

		if (name && strcmp(name, s) == 0)
			return e;
	}
	return -EINVAL;
}

/* "200us", "3ms" or "1s" */
static int read_delay(struct rule *r, const char *s)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = { { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 } };
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	for (unsigned i = 0; *s >= '0' && *s <= '9' && n <= 100000 && i < 3; i++) {
		if (strcmp(end, units[i].unit) == 0) {
			r->delay_ns = n * units[i].ns;
			return 0;
		}
	}
	return -EINVAL;
}

static int read_what(struct rule *r, const char *s)
{
	if (strcmp(s, "short") == 0) {
		r->what = SHORT;
		return 0;
	}
	if (strncmp(s, "delay=", 6) == 0) {
		r->what = DELAY;
		return read_delay(r, s + 6);
	}
	r->code = read_errno(s);
	return r->code < 0 ? r->code : 0;
}

/* "3", "3+" or "1/100" */
static int read_count(struct rule *r, const char *s)
{
	char *end;
	unsigned long n;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	n = strtoul(s, &end, 10);
	if (*end == '/') {
		unsigned long den = strtoul(end + 1, &end, 10);

		if (*end != '\0' || den == 0 || den > UINT32_MAX || n > den)
			return -EINVAL;
		r->num = (uint32_t)n;
		r->den = (uint32_t)den;
		return 0;
	}
	r->onwards = *end == '+';
	if (n == 0 || end[r->onwards] != '\0')
		return -EINVAL;
	r->first = n;
	return 0;
}

static int read_rule(struct rule *r, char *text)
{
	char *code = strchr(text, ':'), *count = code ? strchr(code + 1, ':') : NULL;

	memset(r, 0, sizeof(*r));
	if (!count)
		return -EINVAL;
	*code++ = '\0';
	*count++ = '\0';
	if (text[0] == '\0' || strlen(text) >= sizeof(r->point))
		return -EINVAL;
	strcpy(r->point, text);
	return read_what(r, code) ? -EINVAL : read_count(r, count);
}

static int arm(const char *spec)
{
	char copy[2048], *save = NULL;

	n_rules = 0;
	if (!spec || !*spec)
		return 0;
	if (strlen(spec) >= sizeof(copy))
		return thaw_err_set(-EINVAL, "THAW_INJECT: longer than %zu bytes", sizeof(copy) - 1);
	strcpy(copy, spec);
	for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
		if (n_rules == MAX_RULES || read_rule(&rules[n_rules], one)) {
			n_rules = 0;
			return thaw_err_set(-EINVAL, "THAW_INJECT: cannot read '%s'; write POINT:ERRNO:N (or N+, N/M; or short, delay=100us)",
					    spec);
		}
		n_rules++;
	}
	return 0;
}

#define ROW(name, text) { name, text },
static const struct {
	const char *name, *text;
} points[] = { THAW_INJECT_POINTS(ROW) };
enum { POINTS = sizeof(points) / sizeof(points[0]) };

static _Noreturn void list(void)
{
	for (unsigned i = 0; i < POINTS; i++)
		printf("%-18s %s\n", points[i].name, points[i].text);
	exit(fflush(stdout) ? 1 : 0);
}

static void check_names(void)
{
	for (unsigned i = 0, k; i < n_rules; i++) {
		for (k = 0; k < POINTS && strcmp(points[k].name, rules[i].point); k++)
			;
		if (k == POINTS)
			thaw_panic("THAW_INJECT: there is no point '%s'; THAW_INJECT=list shows them", rules[i].point);
	}
}

static void arm_from_environment(void)
{
	const char *seed = getenv("THAW_INJECT_SEED"), *spec = getenv("THAW_INJECT"), *told = getenv("THAW_INJECT_TOLD");

	if (spec && strcmp(spec, "list") == 0)
		list();
	if (told)
		told_fd = open(told, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (seed)
		draws = strtoull(seed, NULL, 0);
	if (arm(spec))
		thaw_panic("%s", thaw_err_text());
	check_names();
}

/* splitmix64: the counter advances atomically, the rest is a pure function of it */
static uint64_t draw(void)
{
	uint64_t z = __atomic_add_fetch(&draws, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int fires(struct rule *r)
{
	/* relaxed: the count only has to be exact, it orders nothing */
	uint64_t call = __atomic_add_fetch(&r->calls, 1, __ATOMIC_RELAXED);

	if (r->first == 0)
		return draw() % r->den < r->num;
	return call == r->first || (r->onwards && call > r->first);
}

static void delay(uint64_t ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };
	int saved = errno;

	nanosleep(&t, NULL); /* a signal may cut it short */
	errno = saved;
}

/* One write a line: several processes may share the file. */
static void tell(const struct rule *r)
{
	char line[MAX_NAME + 1];
	int n = snprintf(line, sizeof(line), "%s\n", r->point), saved = errno;

	if (told_fd >= 0 && write(told_fd, line, (size_t)n) < 0)
		told_fd = -1;
	errno = saved;
}

static int matches(struct rule *r, const char *point, int is_short)
{
	if ((r->what == SHORT) != is_short || strcmp(r->point, point) || !fires(r))
		return 0;
	if (__atomic_add_fetch(&r->hits, 1, __ATOMIC_RELAXED) == 1)
		tell(r);
	return 1;
}

int thaw_inject_fail(const char *point)
{
	pthread_once(&once, arm_from_environment);
	for (unsigned i = 0; i < n_rules; i++) {
		if (!matches(&rules[i], point, 0))
			continue;
		if (rules[i].what == FAIL)
			return -rules[i].code;
		delay(rules[i].delay_ns);
	}
	return 0;
}

int thaw_inject_errno(const char *point)
{
	int err = thaw_inject_fail(point);

	if (err)
		errno = -err;
	return err ? -1 : 0;
}

size_t thaw_inject_short(const char *point, size_t len, size_t unit)
{
	size_t units = len / unit;

	pthread_once(&once, arm_from_environment);
	for (unsigned i = 0; i < n_rules && units > 1; i++)
		if (matches(&rules[i], point, 1))
			return unit * (1 + draw() % (units - 1));
	return len;
}

int thaw_inject_arm(const char *spec)
{
	pthread_once(&once, arm_from_environment);
	return arm(spec);
}

uint64_t thaw_inject_hits(const char *point)
{
	uint64_t hits = 0;

	for (unsigned i = 0; i < n_rules; i++)
		if (strcmp(rules[i].point, point) == 0)
			hits += __atomic_load_n(&rules[i].hits, __ATOMIC_RELAXED);
	return hits;
}
#endif
