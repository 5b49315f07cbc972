// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_overtaken.c - ENOENT while a move is unread is no proof that a page is gone.
 *
 * From Linux 6.9 on COPY may answer ENOENT at the old address of a mapping that has just moved (the window is too short to be
 * met by chance, so the answer is injected). The page was marked gone, the REMAP carried the mark along, and the
 * process read zeros at the new address. Debug builds only. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/fill.h"
#include "engine/serve.h"
#include "util/inject.h"

#define PAGES 4
#define SEED 9
#define TO (LIVE_BASE + (1ULL << 30))

#ifdef THAW_DEBUG
static int work(void *arg, int sock)
{
	if (mremap((void *)(uintptr_t)LIVE_BASE, PAGES * LIVE_PAGE, PAGES * LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   (void *)(uintptr_t)TO) == MAP_FAILED)
		return 2;
	return !live_moved_is(TO, LIVE_BASE, PAGES, SEED, 0);
}

/* Until the worker sleeps in mremap(), its message queued. */
static void wait_for_event(int uffd)
{
	struct uffdio_zeropage z;

	do {
		usleep(1000);
		z = (struct uffdio_zeropage){ .range = { 0, LIVE_PAGE } };
	} while (!ioctl(uffd, UFFDIO_ZEROPAGE, &z) || errno != EAGAIN);
}

int main(void)
{
	struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	struct thaw_memfile_range at;
	struct thaw *m = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	static unsigned char content[PAGES * LIVE_PAGE];
	struct thaw_worker *w = calloc(1, sizeof(*w) + 64);
	struct thaw_mm *mm, *born[THAW_BATCH];
	enum thaw_mm_state ended;
	struct thaw_window win;
	struct thaw_source *s;
	struct thaw_step step;
	unsigned n_born;
	struct live l;
	int fd;

	alarm(patience(30));
	live_start(&l, &r, 1, work, NULL);
	fd = live_file(false, SEED, &r, 1, &at);
	s = thaw_source_memfile(fd, &at, 1);
	live_add(m, &l, s, &r, 1);
	thaw_source_close(s);
	/* No thread runs: this one is copier and owner in turn. */
	mm = m->spaces;
	w->m = m;
	LIVE_CHECK(!thaw_gate_init(&m->gate, 1));
	LIVE_CHECK(pread(fd, content, sizeof(content), 0) == sizeof(content));
	win = (struct thaw_window){ mm->content, 0, 0, sizeof(content), content };
	live_go(&l);
	wait_for_event(l.uffd);

	thaw_inject_arm("uffd.copy.page:ENOENT:1+");
	step = thaw_fill_step(w, mm, false, LIVE_BASE, LIVE_BASE + LIVE_PAGE, 1, &win, THAW_COUNT_PAGES_BACKGROUND);
	LIVE_CHECK(thaw_inject_hits("uffd.copy.page") == 1);
	LIVE_CHECK(step.kind == THAW_STEP_CHANGING);
	LIVE_CHECK(thaw_pagemap_absent(mm->pm) == PAGES);
	thaw_inject_arm(NULL);

	/* The REMAP, then the UNMAP of the old place that the same call sends. */
	for (unsigned seen = 0; seen < 2;) {
		int n = thaw_serve_exclusive(w, mm, born, &n_born, &ended);

		LIVE_CHECK(n >= 0);
		seen += n;
	}
	LIVE_CHECK(thaw_pagemap_absent(mm->pm) == PAGES);
	do { /* the last event's thread may have to run first */
		step = thaw_fill_step(w, mm, false, TO, TO + PAGES * LIVE_PAGE, PAGES, &win, THAW_COUNT_PAGES_BACKGROUND);
	} while (step.kind == THAW_STEP_CHANGING);
	LIVE_CHECK(step.kind == THAW_STEP_PLACED && !thaw_pagemap_absent(mm->pm));
	LIVE_CHECK(live_end(&l) == 0);
	thaw_close(m);
	close(fd);
	free(w);
	return 0;
}
#else
int main(void)
{
	return 77; /* nothing can be injected */
}
#endif
