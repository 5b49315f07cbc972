// SPDX-License-Identifier: LGPL-2.1-or-later
/* util/sabotage.c - which rule is broken: read from the environment once */
#include "config.h"
#include "util/sabotage.h"

#ifdef THAW_DEBUG
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/assert.h"

#define ROW(id, name, text) { name, text },
static const struct {
	const char *name, *text;
} rules[] = { THAW_SABOTAGES(ROW) };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum thaw_sabotage chosen; /* written in choose() only; pthread_once orders it before every look */

static _Noreturn void list(void)
{
	for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		printf("%-24s %s\n", rules[i].name, rules[i].text);
	exit(fflush(stdout) ? 1 : 0);
}

static void choose(void)
{
	const char *name = secure_getenv("THAW_SABOTAGE");

	if (!name || !*name)
		return;
	if (strcmp(name, "list") == 0)
		list();
	for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (strcmp(rules[i].name, name) == 0)
			chosen = (enum thaw_sabotage)(i + 1);
	if (!chosen)
		thaw_panic("THAW_SABOTAGE: there is no rule '%s' to break; THAW_SABOTAGE=list shows the names", name);
}

enum thaw_sabotage thaw_sabotage_chosen(void)
{
	pthread_once(&once, choose);
	return chosen;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void thaw_sabotage_pause(unsigned us)
{
	/* Without a system call: it is used under every filter. */
	for (uint64_t end = now_ns() + us * 1000ULL; now_ns() < end;)
		__builtin_ia32_pause();
}
#endif
