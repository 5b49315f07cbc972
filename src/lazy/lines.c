// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/lines.c - a measure for each kind of line */
#include "config.h"
#include "lazy/lines.h"

#include <stdio.h>

#include "kern/sys.h"

/* Lines a second in the long run, and at once at most: a storm of them is no use to anybody and fills a disk. */
#define LINES_A_SECOND 20
#define LINES_AT_ONCE 400
#define TELL_NS 1000000000ULL

static const enum thaw_log_level level_of[THAW_LINES_KINDS] = { THAW_LOG_ERROR, THAW_LOG_WARNING, THAW_LOG_INFO };
static const char *const name_of[THAW_LINES_KINDS] = { " of errors", " of warnings", "" };

void thaw_lines_init(struct thaw_lines *l)
{
	uint64_t now = thaw_sys_now_ns();

	pthread_mutex_init(&l->lock, NULL);
	for (unsigned i = 0; i < THAW_LINES_KINDS; i++) {
		l->kind[i].tokens = LINES_AT_ONCE;
		l->kind[i].refilled_ns = now;
		l->kind[i].left_out = 0;
	}
}

void thaw_lines_destroy(struct thaw_lines *l)
{
	pthread_mutex_destroy(&l->lock);
}

static void tell(struct thaw_lines *l, unsigned kind, uint64_t left_out)
{
	char text[160];

	if (!left_out || !l->out)
		return;
	snprintf(text, sizeof(text), "%llu lines%s were left out here: more than %d a second come", (unsigned long long)left_out,
		 name_of[kind], LINES_A_SECOND);
	l->out(l->opaque, level_of[kind], text);
}

static unsigned kind_of(enum thaw_log_level level)
{
	return level == THAW_LOG_ERROR ? 0 : level == THAW_LOG_WARNING ? 1 : 2;
}

bool thaw_lines_may(struct thaw_lines *l, enum thaw_log_level level)
{
	unsigned k = kind_of(level);
	uint64_t now = thaw_sys_now_ns(), more, left_out = 0;
	bool may;

	if (!l->out)
		return false;
	pthread_mutex_lock(&l->lock);
	more = (now - l->kind[k].refilled_ns) * LINES_A_SECOND / 1000000000ULL;
	if (more) {
		l->kind[k].tokens = l->kind[k].tokens + more > LINES_AT_ONCE ? LINES_AT_ONCE : l->kind[k].tokens + more;
		l->kind[k].refilled_ns = now;
	}
	may = l->kind[k].tokens;
	if (may) {
		l->kind[k].tokens--;
		left_out = l->kind[k].left_out;
		l->kind[k].left_out = 0;
	} else if (!l->kind[k].left_out++) {
		l->kind[k].since_ns = now;
		l->rouse(l->rouse_opaque);
	}
	pthread_mutex_unlock(&l->lock);
	tell(l, k, left_out);
	return may;
}

void thaw_lines_say(struct thaw_lines *l, enum thaw_log_level level, const char *line)
{
	if (thaw_lines_may(l, level))
		l->out(l->opaque, level, line);
}

int thaw_lines_due(struct thaw_lines *l)
{
	uint64_t now = thaw_sys_now_ns();
	int ms = -1;

	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < THAW_LINES_KINDS; i++) {
		uint64_t at = l->kind[i].since_ns + TELL_NS;
		int left = at > now ? (int)((at - now) / 1000000 + 1) : 0;

		if (l->kind[i].left_out && (ms < 0 || left < ms))
			ms = left;
	}
	pthread_mutex_unlock(&l->lock);
	return ms;
}

void thaw_lines_tell(struct thaw_lines *l, bool all)
{
	uint64_t now = thaw_sys_now_ns();

	for (unsigned i = 0; i < THAW_LINES_KINDS; i++) {
		uint64_t left_out = 0;

		pthread_mutex_lock(&l->lock);
		if (all || now >= l->kind[i].since_ns + TELL_NS) {
			left_out = l->kind[i].left_out;
			l->kind[i].left_out = 0;
		}
		pthread_mutex_unlock(&l->lock);
		tell(l, i, left_out);
	}
}
