// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/inject.c - what --inject says, checked before the library reads it: there a specification that cannot be read ends the program
 *
 * The format is that of util/inject.h: rules POINT:WHAT:COUNT, separated by commas. */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/inject.h"

#define LONGEST 2047 /* what the library has room for */
#define MOST_RULES 32
#define LONGEST_DELAY 100000

#define POINT(name, text) { name, text },
static const struct {
	const char *name, *text;
} points[] = { THAW_INJECT_POINTS(POINT) };
#define POINTS (sizeof(points) / sizeof(points[0]))

void thaw_stress_inject_list(FILE *f)
{
	for (size_t i = 0; i < POINTS; i++)
		fprintf(f, "%-18s %s\n", points[i].name, points[i].text);
}

/* The library writes the names of points that have failed to a file; a memory file, unless somebody else wants to read it as well. */
static int told_fd = -1;

void thaw_stress_inject_watch(void)
{
	const char *told = getenv("THAW_INJECT_TOLD");
	char path[64];

	if (told) {
		told_fd = open(told, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
		return;
	}
	told_fd = memfd_create("thaw-stress-told", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), told_fd);
	if (told_fd >= 0)
		setenv("THAW_INJECT_TOLD", path, 1);
}

bool thaw_stress_inject_met(const char *point)
{
	int fd = told_fd < 0 ? -1 : dup(told_fd);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char line[64];
	bool met = false;

	if (!f) {
		if (fd >= 0)
			close(fd);
		return true; /* nothing is known of it, then nothing is said */
	}
	rewind(f);
	while (!met && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		met = !strcmp(line, point);
	}
	fclose(f);
	return met;
}

static bool is_point(const char *name)
{
	for (size_t i = 0; i < POINTS; i++)
		if (!strcmp(name, points[i].name))
			return true;
	return false;
}

/* Digits and nothing else before *end. */
static bool digits(const char *text, uint64_t min, uint64_t max, uint64_t *value, const char **end)
{
	char *stop;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &stop, 10);
	*end = stop;
	return !errno && *value >= min && *value <= max;
}

static bool is_errno(const char *text)
{
	const char *end, *name;
	uint64_t n;

	if (digits(text, 1, 4095, &n, &end))
		return !*end;
	for (int e = 1; e < 256; e++)
		if ((name = strerrorname_np(e)) && !strcmp(name, text))
			return true;
	return false;
}

static bool is_delay(const char *text)
{
	const char *unit;
	uint64_t n;

	return !strncmp(text, "delay=", 6) && digits(text + 6, 0, LONGEST_DELAY, &n, &unit) &&
	       (!strcmp(unit, "us") || !strcmp(unit, "ms") || !strcmp(unit, "s"));
}

/* 3, 3+ or 1/100; not 0, with which nothing would ever fail. */
static bool is_count(const char *text)
{
	const char *end;
	uint64_t n, of;

	if (!digits(text, 1, UINT64_MAX, &n, &end))
		return false;
	if (*end == '/')
		return digits(end + 1, n, UINT32_MAX, &of, &end) && !*end;
	return !*end || !strcmp(end, "+");
}

/* Cuts the rule up. */
static bool check(char *rule, char *why, size_t size)
{
	char *what = strchr(rule, ':'), *count = what ? strchr(what + 1, ':') : NULL;

	if (!count) {
		snprintf(why, size, "'%s' is not POINT:WHAT:COUNT, like uffd.copy:EAGAIN:1/4", rule);
		return false;
	}
	*what++ = '\0';
	*count++ = '\0';
	if (!is_point(rule))
		snprintf(why, size, "'%s' is no point where anything can fail (--inject list tells them)", rule);
	else if (strcmp(what, "short") && !is_delay(what) && !is_errno(what))
		snprintf(why, size, "'%s' of %s is neither the name or number of an error, nor short, nor delay=N with us, ms or s", what, rule);
	else if (!is_count(count))
		snprintf(why, size, "'%s' of %s is no count: write N (the Nth call), N+ (and all after it) or N/M (N of M)", count, rule);
	else
		return true;
	return false;
}

int thaw_stress_inject_check(const char *spec, char *why, size_t size)
{
	char copy[LONGEST + 1], *next = copy;
	unsigned rules = 0;

	if (strlen(spec) > LONGEST) {
		snprintf(why, size, "the SPEC is longer than %d bytes", LONGEST);
		return -1;
	}
	strcpy(copy, spec);
	while (next) {
		if (!check(strsep(&next, ","), why, size))
			return -1;
		if (++rules > MOST_RULES) {
			snprintf(why, size, "the SPEC has more than %d rules", MOST_RULES);
			return -1;
		}
	}
	return 0;
}
