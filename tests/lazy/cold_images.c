// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/cold_images.c - each fault read one page from the disk; now what lies beside it comes in with the same read, the rest is read
 * ahead in long pieces, and every byte is right */
#include "config.h"
#include "lazy/restorer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define PAGES 8000UL

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

/* Whether the images really left the page cache: they cannot where they are in memory anyway. */
static bool make_cold(struct rest *r)
{
	static unsigned char in[PAGES];
	int fd = openat(r->dir.fd, "pages-1.img", O_RDONLY | O_CLOEXEC);
	void *map = mmap(NULL, PAGES * P, PROT_READ, MAP_SHARED, fd, 0);
	unsigned long there = 0;

	LIVE_CHECK(fd >= 0 && map != MAP_FAILED);
	fdatasync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	LIVE_CHECK(!mincore(map, PAGES * P, in));
	for (unsigned long i = 0; i < PAGES; i++)
		there += in[i] & 1;
	munmap(map, PAGES * P);
	close(fd);
	return there < PAGES / 10;
}

int main(void)
{
	const struct rest_task task = { .pid = 77, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1 };
	struct rest r;

	if (thaw_probe() < 0) {
		printf("cold_images: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	if (!getenv("TMPDIR"))
		setenv("TMPDIR", "/var/tmp", 1);
	for (unsigned i = 0; i < 3; i++) {
		bool cold;

		rest_begin(&r, &task, 1, true);
		LIVE_CHECK(rest_daemon(&r, "--stats", "stats", i ? "--stay-lazy" : NULL, i > 1 ? "--read-around" : NULL, "0", NULL));
		cold = make_cold(&r);
		rest_restore(&r);
		rest_ended(&r, 0, NULL);
		/* Some file systems wait in a read that is asked not to; then nothing shows. */
		if (cold && i == 1 && rest_number(&r, "stats", "bytes_read"))
			LIVE_CHECK(rest_number(&r, "stats", "pages_around") > rest_number(&r, "stats", "pages_fault"));
		if (i == 2)
			LIVE_CHECK(rest_number(&r, "stats", "pages_around") == 0);
		rest_end(&r);
	}
	return 0;
}
