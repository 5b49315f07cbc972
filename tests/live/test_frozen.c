// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_frozen.c - a change that cannot be followed (no memory) stops the space: its process waits, reads no wrong byte,
 * and its end is seen. Debug builds only. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PAGES 64
#define SEED 61

static int work(void *arg, int sock)
{
	if (madvise((void *)LIVE_BASE, 8 * LIVE_PAGE, MADV_DONTNEED))
		return 2;
	/* Neither the old content nor a zero for what is absent: it waits. */
	return write(sock, live_is(LIVE_BASE + 20 * LIVE_PAGE, 1, SEED, 0) ? "y" : "n", 1) != 1;
}

static _Atomic unsigned said, gone;

static void hear(void *opaque, enum thaw_log_level level, const char *line)
{
	said += strstr(line, "could not be followed") != NULL;
}

static void on_event(void *opaque, const struct thaw_event_info *info)
{
	gone += info->event == THAW_EVENT_GONE;
}

int main(void)
{
	struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	struct timeval tv = { 0, 400000 };
	struct thaw_memfile_range at;
	struct thaw_source *s;
	struct live l;
	struct thaw *h;
	char c;
	int fd;

#ifndef THAW_DEBUG
	return 77; /* nothing can be injected */
#endif
	alarm(patience(30));
	setenv("THAW_INJECT", "engine.apply:ENOMEM:1", 1);
	h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	LIVE_OK(thaw_set_log(h, hear, NULL, THAW_LOG_ERROR));
	LIVE_OK(thaw_set_event(h, on_event, NULL));
	live_start(&l, &r, 1, work, NULL);
	fd = live_file(false, SEED, &r, 1, &at);
	s = thaw_source_memfile(fd, &at, 1);
	live_add(h, &l, s, &r, 1);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	setsockopt(l.sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	LIVE_CHECK(read(l.sock, &c, 1) == -1);
	LIVE_CHECK(said == 1);
	LIVE_CHECK(thaw_wait(h, 0, 10) == -1 && thaw_get_errno() == ETIMEDOUT);
	live_kill(&l);
	LIVE_CHECK(live_end(&l) == 128 + 9);
	LIVE_OK(thaw_wait(h, 0, patience(3000)));
	LIVE_CHECK(gone == 1);
	thaw_close(h);
	close(fd);
	return 0;
}
