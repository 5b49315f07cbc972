// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/line.c - the progress line on standard error: bytes in, rate, faults, time left.
//
// The process writes on the same terminal whenever it likes. Where its standard output is that terminal, the line has
// the bottom row to itself (the scrolling region ends above it), so that no output of the process meets it; else it
// stands where the cursor is and is erased by itself.
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/restore.h"

#define DRAW_EVERY_NS  100000000ull
#define PRINT_EVERY_NS 1000000000ull
#define LEAST_ROWS 4

static void put(const char *text, size_t len)
{
	/* A progress line that cannot be shown is no reason to disturb the process. */
	if (write(STDERR_FILENO, text, len) < 0)
		return;
}

static bool process_writes_here(void)
{
	struct stat out, err;

	return !fstat(STDOUT_FILENO, &out) && !fstat(STDERR_FILENO, &err) && S_ISCHR(out.st_mode) &&
	       out.st_rdev == err.st_rdev;
}

static bool is_capable(void)
{
	const char *term = getenv("TERM");

	return term && *term && strcmp(term, "dumb") != 0;
}

void thaw_line_open(struct thaw_line *l, enum thaw_line_mode mode)
{
	*l = (struct thaw_line){ .how = THAW_LINE_OFF };
	if (mode == THAW_LINE_NEVER || (mode == THAW_LINE_AUTO && thaw_cli.quiet))
		return;
	if (isatty(STDERR_FILENO) && is_capable())
		l->how = process_writes_here() ? THAW_LINE_BOTTOM : THAW_LINE_HERE;
	else if (mode == THAW_LINE_ALWAYS)
		l->how = THAW_LINE_PLAIN;
	l->next_ns = thaw_now_ns() + DRAW_EVERY_NS;
}

static int text(char *buf, size_t len, const struct thaw_progress *p)
{
	char in[32], total[32], rate[32], left[32];
	uint64_t there = p->bytes_placed + p->bytes_gone;
	unsigned percent = p->bytes_total ? there * 100.0 / p->bytes_total : 100;
	int n = snprintf(buf, len, "thaw: %s of %s in (%u%%), %s/s, %llu faults", thaw_say_bytes(in, sizeof(in), there),
			 thaw_say_bytes(total, sizeof(total), p->bytes_total), percent > 100 ? 100 : percent,
			 thaw_say_bytes(rate, sizeof(rate), p->rate), (unsigned long long)p->faults);

	if (p->left_ns != UINT64_MAX && n < (int)len)
		n += snprintf(buf + n, len - n, ", %s left", thaw_say_time(left, sizeof(left), p->left_ns));
	return n < (int)len ? n : (int)len - 1;
}

/* A program that set the terminal to raw mode draws for itself. */
static bool terminal_is_cooked(void)
{
	struct termios t;

	return !tcgetattr(STDERR_FILENO, &t) && (t.c_lflag & ICANON);
}

/* Takes the bottom row: what stands there scrolls up first, the cursor stays with the text it was in. */
static bool take_bottom(struct thaw_line *l)
{
	struct winsize w;
	char seq[64];

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_row < LEAST_ROWS)
		return false;
	l->rows = w.ws_row;
	put(seq, snprintf(seq, sizeof(seq), "\033D\033[A\0337\033[1;%ur\0338", l->rows - 1));
	return true;
}

static void draw(struct thaw_line *l, const char *line, int len)
{
	char out[512];
	int n;

	if (l->how == THAW_LINE_BOTTOM && !l->shown && !take_bottom(l)) {
		l->how = THAW_LINE_OFF;
		return;
	}
	if (l->how == THAW_LINE_BOTTOM)
		n = snprintf(out, sizeof(out), "\0337\033[%u;1H\033[K%.*s\0338", l->rows, len, line);
	else
		n = snprintf(out, sizeof(out), "\r\033[K%.*s", len, line);
	put(out, n);
	if (!l->shown && l->how == THAW_LINE_HERE)
		thaw_say_erase("\r\033[K");
	l->shown = true;
}

static unsigned columns(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_col ? 80 : w.ws_col;
}

void thaw_line_update(struct thaw_line *l, const struct thaw_progress *p, bool allowed)
{
	char line[256];
	uint64_t now = thaw_now_ns();

	if (l->how == THAW_LINE_OFF || now < l->next_ns)
		return;
	int len = text(line, sizeof(line), p);
	if (l->how == THAW_LINE_PLAIN) {
		l->next_ns = now + PRINT_EVERY_NS;
		line[len++] = '\n';
		put(line, len);
		return;
	}
	l->next_ns = now + DRAW_EVERY_NS;
	if (!allowed || !terminal_is_cooked()) {
		thaw_line_hide(l);
		return;
	}
	if (len > (int)columns() - 1)
		len = columns() - 1;
	draw(l, line, len);
}

void thaw_line_hide(struct thaw_line *l)
{
	char seq[64];

	if (!l->shown)
		return;
	if (l->how == THAW_LINE_BOTTOM)
		put(seq, snprintf(seq, sizeof(seq), "\0337\033[r\033[%u;1H\033[K\0338", l->rows));
	else
		put("\r\033[K", 4);
	thaw_say_erase("");
	l->shown = false;
}

void thaw_line_close(struct thaw_line *l, const struct thaw_arrival *a)
{
	char bytes[32], took[32];

	thaw_line_hide(l);
	thaw_say_bytes(bytes, sizeof(bytes), a->final.bytes_placed);
	thaw_say_time(took, sizeof(took), a->end_ns - a->start_ns);
	if (l->how != THAW_LINE_PLAIN && !thaw_cli.verbose)
		;
	else if (a->cmd->core.eager)
		thaw_say(0, "%s in after %s, before the process ran", bytes, took);
	else
		thaw_say(0, "%s in after %s, %llu faults", bytes, took, (unsigned long long)a->final.faults);
	l->how = THAW_LINE_OFF;
}
