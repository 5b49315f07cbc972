// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_state.c - thaw.img is read back as it was written, and nothing else is read at all */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/state.h"
#include "util/crc32.h"
#include "util/err.h"

struct fixture {
	char dir[32];
	int dirfd;
	unsigned char buf[4096];
	size_t len;
};

static void setup(struct fixture *f)
{
	ThawState__FileId id = THAW_STATE__FILE_ID__INIT;
	ThawState__Process p = THAW_STATE__PROCESS__INIT;
	ThawState__Head h = THAW_STATE__HEAD__INIT;
	int fd;

	strcpy(f->dir, "/tmp/thaw-state-XXXXXX");
	cr_assert(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	h.version = THAW_STATE_VERSION;
	h.kernel = h.boot_id = p.cwd = p.root = p.exe = "text";
	p.exe_id = &id;
	p.pid = 4711;
	fd = thaw_state_write(f->dirfd, &h, &p);
	cr_assert(fd >= 0, "%s", thaw_err_text());
	close(fd);
	fd = openat(f->dirfd, THAW_STATE_FILE, O_RDONLY);
	f->len = (size_t)read(fd, f->buf, sizeof(f->buf));
	close(fd);
}

static void teardown(struct fixture *f)
{
	unlinkat(f->dirfd, THAW_STATE_FILE, 0);
	rmdir(f->dir);
	close(f->dirfd);
}

Test(state, crc32)
{
	cr_assert_eq(thaw_crc32(0, "123456789", 9), 0xcbf43926);
	cr_assert_eq(thaw_crc32(thaw_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
}

Test(state, round_trip)
{
	ThawState__Process *p;
	ThawState__Head *h;
	struct fixture f;

	setup(&f);
	cr_expect_eq(thaw_state_load(f.dirfd, &h, &p), 0, "%s", thaw_err_text());
	cr_expect_eq(p->pid, 4711);
	cr_expect_str_eq(h->kernel, "text");
	thaw_state_free(h, p);
	teardown(&f);
}

Test(state, others_could_write_it)
{
	ThawState__Process *p;
	ThawState__Head *h;
	struct fixture f;

	setup(&f);
	fchmodat(f.dirfd, THAW_STATE_FILE, 0620, 0);
	cr_expect_eq(thaw_state_load(f.dirfd, &h, &p), -EPERM);
	fchmodat(f.dirfd, THAW_STATE_FILE, 0600, 0);
	fchmod(f.dirfd, 0777);
	cr_expect_eq(thaw_state_load(f.dirfd, &h, &p), -EPERM);
	fchmod(f.dirfd, 0700);
	cr_expect_eq(thaw_state_load(f.dirfd, &h, &p), 0);
	thaw_state_free(h, p);
	teardown(&f);
}

/* Of version 1 nothing tells whether its memory is right. */
Test(state, without_checksums)
{
	ThawState__Process *p, one = THAW_STATE__PROCESS__INIT;
	ThawState__Head *h, old = THAW_STATE__HEAD__INIT;
	ThawState__FileId id = THAW_STATE__FILE_ID__INIT;
	struct fixture f;
	int fd;

	setup(&f);
	unlinkat(f.dirfd, THAW_STATE_FILE, 0);
	old.version = 1;
	old.kernel = old.boot_id = one.cwd = one.root = one.exe = "text";
	one.exe_id = &id;
	fd = thaw_state_write(f.dirfd, &old, &one);
	cr_assert(fd >= 0, "%s", thaw_err_text());
	close(fd);
	cr_expect_eq(thaw_state_load(f.dirfd, &h, &p), -ENOTSUP);
	cr_expect(strstr(thaw_err_text(), "thaw.img: version 1") && strstr(thaw_err_text(), "anew"), "%s", thaw_err_text());
	teardown(&f);
}

/* Every length that is too short, every byte changed, one byte more: refused with a sentence, never read as something. */
Test(state, damaged)
{
	ThawState__Process *p;
	ThawState__Head *h;
	struct fixture f;
	size_t i;

	setup(&f);
	for (i = 0; i < f.len; i++)
		cr_assert_eq(thaw_state_parse(f.buf, i, &h, &p), -EBADMSG, "length %zu", i);
	cr_assert_eq(thaw_state_parse(f.buf, f.len + 1, &h, &p), -EBADMSG);
	for (i = 0; i < f.len; i++) {
		f.buf[i] ^= 0x10;
		cr_assert_eq(thaw_state_parse(f.buf, f.len, &h, &p), -EBADMSG, "byte %zu", i);
		cr_assert(!h && !p && strstr(thaw_err_text(), THAW_STATE_FILE));
		f.buf[i] ^= 0x10;
	}
	teardown(&f);
}
