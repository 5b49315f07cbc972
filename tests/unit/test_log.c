// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_log.c - lines reach the sink whole, and nothing is made below the level */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

struct heard {
	int lines;
	enum thaw_log_level level;
	char last[2048];
};

static void hear(void *opaque, enum thaw_log_level level, const char *line)
{
	struct heard *h = opaque;

	h->lines++;
	h->level = level;
	strcpy(h->last, line);
	errno = EPIPE; /* a sink may spoil errno */
}

static int evaluated;

static int costly(void)
{
	return ++evaluated;
}

Test(log, level_and_text)
{
	struct heard h = { 0 };
	struct thaw_log log = { hear, &h, THAW_LOG_INFO };

	errno = ENOENT;
	thaw_log_warning(&log, "space %d: %s", 3, "slow");
	cr_expect_eq(errno, ENOENT);
	cr_expect_eq(h.level, THAW_LOG_WARNING);
	cr_expect_str_eq(h.last, "space 3: slow");
	thaw_log_debug(&log, "%d", costly());
	cr_expect_eq(h.lines, 1);
	cr_expect_eq(evaluated, 0, "a line below the level was formatted");
}

Test(log, nobody_listens)
{
	struct thaw_log log = { NULL, NULL, THAW_LOG_DEBUG };

	thaw_log_error(&log, "%d", costly());
	thaw_log_error(NULL, "%d", costly());
	cr_expect_eq(evaluated, 0);
}

Test(log, long_line_is_cut)
{
	struct heard h = { 0 };
	struct thaw_log log = { hear, &h, THAW_LOG_INFO };

	thaw_log_info(&log, "%3000s", "x");
	cr_expect_eq(strlen(h.last), 1023);
}

static size_t through_fd(enum thaw_log_level level, const char *line, char *out, size_t size)
{
	int p[2];
	ssize_t n;

	cr_assert_eq(pipe(p), 0);
	thaw_log_to_fd(&p[1], level, line);
	close(p[1]);
	n = read(p[0], out, size - 1);
	cr_assert_geq(n, 0);
	out[n] = '\0';
	close(p[0]);
	return (size_t)n;
}

Test(log, to_fd)
{
	char out[4096], big[3000];

	through_fd(THAW_LOG_ERROR, "space 1: gone", out, sizeof(out));
	cr_expect_str_eq(out, "thaw: error: space 1: gone\n");
	through_fd(THAW_LOG_INFO, "done", out, sizeof(out));
	cr_expect_str_eq(out, "thaw: done\n");
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	cr_expect_eq(out[through_fd(THAW_LOG_INFO, big, out, sizeof(out)) - 1], '\n');
}
