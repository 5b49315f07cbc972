// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/test_hostile.c - image directories that are not what they should be: refused by name before anything is listened on */
#include "config.h"
#include "lazy/restorer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"

#define A LIVE_BASE
#define P LIVE_PAGE

static const struct rest_vma vmas[] = { { .addr = A, .pages = 500 } };
static const struct rest_run runs[] = { { A, 100, REST_LAZY }, { A + 200 * P, 50, REST_EAGER }, { A + 300 * P, 100, REST_LAZY } };
static const struct rest_run outside[] = { { A + 450 * P, 100, REST_LAZY } };
static const struct rest_run elsewhere[] = { { A + 600 * P, 1, REST_LAZY } };
static const struct rest_run left[] = { { A, 10, REST_REMOTE } };
static const struct rest_run back[] = { { A + 100 * P, 10, REST_LAZY }, { A, 10, REST_LAZY } };
static const struct rest_run twofold[] = { { A, 10, REST_LAZY }, { A + 9 * P, 10, REST_LAZY } };
static const struct rest_run flags8[] = { { A, 10, 8 } };
static const struct rest_run both[] = { { A, 10, REST_PARENT | REST_LAZY } };
static const struct rest_run none[] = { { A, 0, REST_LAZY } };
static const struct rest_run crooked[] = { { A + 5, 1, REST_LAZY } };
static const struct rest_run endless[] = { { A, 1ULL << 52, REST_REMOTE } };

#define DIR(r) ((r)->dir.fd)

static void link_to(struct rest *r, const char *name, const char *to)
{
	unlinkat(DIR(r), name, 0);
	LIVE_CHECK(!symlinkat(to, DIR(r), name));
}

static void cut(struct rest *r, const char *name, off_t less)
{
	struct stat st;
	int fd = openat(DIR(r), name, O_WRONLY);

	LIVE_CHECK(fd >= 0 && !fstat(fd, &st) && !ftruncate(fd, st.st_size - less));
	close(fd);
}

static void stretch(struct rest *r, const char *name, off_t size)
{
	int fd = openat(DIR(r), name, O_WRONLY);

	if (fd < 0 || ftruncate(fd, size))
		LIVE_DIE("%s: cannot be stretched: %s", name, strerror(errno));
	close(fd);
}

static void spoil(struct rest *r, const char *name, off_t at)
{
	int fd = openat(DIR(r), name, O_WRONLY);

	LIVE_CHECK(fd >= 0 && pwrite(fd, "\xff\xff\xff\xff", 4, at) == 4);
	close(fd);
}

static void no_inventory(struct rest *r) { unlinkat(DIR(r), "inventory.img", 0); }
static void no_pstree(struct rest *r) { unlinkat(DIR(r), "pstree.img", 0); }
static void no_mm(struct rest *r) { unlinkat(DIR(r), "mm-5.img", 0); }
static void no_pages(struct rest *r) { unlinkat(DIR(r), "pages-1.img", 0); }
static void linked_pagemap(struct rest *r) { link_to(r, "pagemap-5.img", "/etc/passwd"); }
static void linked_pages(struct rest *r) { link_to(r, "pages-1.img", "/dev/zero"); }
static void linked_mm(struct rest *r) { link_to(r, "mm-5.img", "pagemap-5.img"); }
static void linked_pstree(struct rest *r) { link_to(r, "pstree.img", "/dev/zero"); }
static void cut_pagemap(struct rest *r) { cut(r, "pagemap-5.img", 3); }
static void cut_pages(struct rest *r) { cut(r, "pages-1.img", 4096); }
static void long_pages(struct rest *r) { stretch(r, "pages-1.img", 1LL << 33); }
static void sparse_pagemap(struct rest *r) { stretch(r, "pagemap-5.img", 3LL << 30); }
static void sparse_pstree(struct rest *r) { stretch(r, "pstree.img", 3LL << 30); }
static void giant_mm(struct rest *r) { stretch(r, "mm-5.img", 1LL << 40); }
static void spoilt_length(struct rest *r) { spoil(r, "pagemap-5.img", 8); }
static void spoilt_magic(struct rest *r) { spoil(r, "pagemap-5.img", 4); }
static void spoilt_tree(struct rest *r) { spoil(r, "pstree.img", 12); }
static void open_directory(struct rest *r) { LIVE_CHECK(!fchmod(DIR(r), 0777)); }

static void swapped(struct rest *r)
{
	unlinkat(DIR(r), "mm-5.img", 0);
	LIVE_CHECK(!linkat(DIR(r), "pagemap-5.img", DIR(r), "mm-5.img", 0));
}

static void fifo_pages(struct rest *r)
{
	unlinkat(DIR(r), "pages-1.img", 0);
	LIVE_CHECK(!mkfifoat(DIR(r), "pages-1.img", 0600));
}

static void writable(struct rest *r)
{
	LIVE_CHECK(!fchmodat(DIR(r), "pages-1.img", 0666, 0));
}

static void socket_in_the_way(struct rest *r)
{
	int fd = openat(DIR(r), "lazy-pages.socket", O_WRONLY | O_CREAT, 0600);

	LIVE_CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	close(fd);
}

/* A pagemap whose entries have one more field, as compressed images of a newer CRIU do. */
static void one_field_more(struct rest *r)
{
	static struct bytes b;
	uint32_t len;
	size_t at;

	bytes_head(&b, 1);
	at = b.len;
	bytes_u32(&b, 0);
	bytes_field(&b, 1, A);
	bytes_field(&b, 2, 0);
	bytes_field(&b, 4, REST_LAZY);
	bytes_field(&b, 5, 100);
	bytes_field(&b, 6, 4711);
	len = (uint32_t)(b.len - at - 4);
	memcpy(b.at + at, &len, 4);
	scratch_put(&r->dir, "pagemap-5.img", b.at, b.len);
}

static void newer_version(struct rest *r)
{
	static struct bytes b;

	bytes_magic(&b, THAW_IMAGE_INVENTORY_MAGIC);
	bytes_u32(&b, 2);
	bytes_field(&b, 1, 3);
	scratch_put(&r->dir, "inventory.img", b.at, b.len);
}

#define RUNS(list) list, sizeof(list) / sizeof(*(list))
static const struct {
	const char *words;
	void (*spoil)(struct rest *r);
	const struct rest_run *run;
	unsigned n_runs;
} hostile[] = {
	{ "inventory.img: no such file", no_inventory, RUNS(runs) },
	{ "pstree.img: no such file", no_pstree, RUNS(runs) },
	{ "mm-5.img: no such file", no_mm, RUNS(runs) },
	{ "pages-1.img: no such file", no_pages, RUNS(runs) },
	{ "pagemap-5.img: is a symbolic link", linked_pagemap, RUNS(runs) },
	{ "pages-1.img: is a symbolic link", linked_pages, RUNS(runs) },
	{ "mm-5.img: is a symbolic link", linked_mm, RUNS(runs) },
	{ "pstree.img: is a symbolic link", linked_pstree, RUNS(runs) },
	{ "pagemap-5.img: truncated", cut_pagemap, RUNS(runs) },
	{ "truncated: ends at byte", cut_pages, RUNS(runs) },
	{ "behind the last page of its pagemap", long_pages, RUNS(runs) },
	{ "hardly any are on the disk", sparse_pagemap, RUNS(runs) },
	{ "hardly any are on the disk", sparse_pstree, RUNS(runs) },
	{ "mm-5.img: 1099511627776 bytes are more", giant_mm, RUNS(runs) },
	{ "pagemap-5.img: corrupt: a record of 4294967295 bytes", spoilt_length, RUNS(runs) },
	{ "pagemap-5.img: is another kind of image", spoilt_magic, RUNS(runs) },
	{ "pstree.img: corrupt", spoilt_tree, RUNS(runs) },
	{ "others can write it (mode 0777)", open_directory, RUNS(runs) },
	{ "mm-5.img: is another kind of image", swapped, RUNS(runs) },
	{ "pages-1.img: is not a regular file", fifo_pages, RUNS(runs) },
	{ "pages-1.img: others can write it", writable, RUNS(runs) },
	{ "exists in the work directory and is no socket", socket_in_the_way, RUNS(runs) },
	{ "has the field 6, which is not known here: pages of newer images may be compressed", one_field_more, RUNS(runs) },
	{ "inventory.img: image version 3", newer_version, RUNS(runs) },
	{ "lies in no mapping of mm-5.img", NULL, RUNS(outside) },
	{ "lies in no mapping of mm-5.img", NULL, RUNS(elsewhere) },
	{ "was left with the dump (--lazy-pages)", NULL, RUNS(left) },
	{ "before the end of the entry in front of it", NULL, RUNS(back) },
	{ "before the end of the entry in front of it", NULL, RUNS(twofold) },
	{ "impossible flags", NULL, RUNS(flags8) },
	{ "impossible flags", NULL, RUNS(both) },
	{ "an impossible number of pages", NULL, RUNS(none) },
	{ "an address that is not a page's", NULL, RUNS(crooked) },
	{ "an impossible number of pages", NULL, RUNS(endless) },
};

/* Images of the user who has become root with sudo; of any other, and whatever else the word may be, they are another's. */
static void of_the_caller(const char *sudo_uid, bool accepted)
{
	const struct rest_task task = { .pid = 5, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = sizeof(runs) / sizeof(*runs) };
	char command[256];
	struct rest r;

	rest_begin(&r, &task, 1, true);
	snprintf(command, sizeof(command), "chown -R 65534 '%s'", r.dir.path);
	LIVE_CHECK(!system(command));
	setenv("SUDO_UID", sudo_uid, 1);
	LIVE_CHECK(rest_daemon(&r, NULL) == accepted);
	unsetenv("SUDO_UID");
	if (!accepted)
		rest_ended(&r, 1, "belongs to user 65534: only your own images, or root's, are read; chown it");
	rest_end(&r);
}

int main(void)
{
	/* What is read into memory is bounded, whatever a file says of itself. (A sanitizer's shadow is larger than that.) */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	struct rlimit room = { 1UL << 30, 1UL << 30 };

	setrlimit(RLIMIT_DATA, &room);
#endif
	for (unsigned i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
		struct rest_task task = { .pid = 5, .vma = vmas, .n_vmas = 1, .run = hostile[i].run, .n_runs = hostile[i].n_runs };
		struct rest r;

		rest_begin(&r, &task, 1, true);
		if (hostile[i].spoil)
			hostile[i].spoil(&r);
		LIVE_CHECK(!rest_daemon(&r, NULL));
		rest_ended(&r, 1, hostile[i].words);
		if (strncmp(r.said, "thaw: ", 6) || strchr(r.said, '\n') != r.said + strlen(r.said) - 1)
			LIVE_DIE("not one sentence: %s", r.said);
		LIVE_CHECK(faccessat(DIR(&r), "lazy-pages.socket", F_OK, 0) || hostile[i].spoil == socket_in_the_way);
		rest_end(&r);
	}
	if (geteuid()) {
		printf("test_hostile: without images of another user: not root\n");
		return 0;
	}
	of_the_caller("65534", true);
	of_the_caller("65533", false);
	of_the_caller("", false);
	of_the_caller("65534x", false);
	of_the_caller("-1", false);
	of_the_caller("4295032830", false); /* 65534 + 2^32 */
	of_the_caller("99999999999999999999", false);
	return 0;
}
