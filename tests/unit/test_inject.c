// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_inject.c - fault points fail when they are told to, and only then */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/err.h"
#include "util/inject.h"

#ifdef THAW_DEBUG
static unsigned failures(const char *point, int code, unsigned calls)
{
	unsigned n = 0;

	for (unsigned i = 0; i < calls; i++) {
		int err = THAW_INJECT(point);

		cr_expect(err == 0 || err == code, "%d", err);
		n += err != 0;
	}
	return n;
}

Test(inject, nothing_by_default)
{
	cr_expect_eq(failures("uffd.copy", 0, 100), 0);
}

Test(inject, nth)
{
	cr_assert_eq(thaw_inject_arm("uffd.copy:EAGAIN:3,other:5:1"), 0);
	cr_expect_eq(THAW_INJECT("uffd.copy"), 0);
	cr_expect_eq(THAW_INJECT("uffd.wake"), 0);
	cr_expect_eq(THAW_INJECT("uffd.copy"), 0);
	cr_expect_eq(THAW_INJECT("uffd.copy"), -EAGAIN);
	cr_expect_eq(THAW_INJECT("uffd.copy"), 0);
	cr_expect_eq(THAW_INJECT("other"), -EIO);
	cr_expect_eq(thaw_inject_hits("uffd.copy"), 1);
}

Test(inject, onwards)
{
	cr_assert_eq(thaw_inject_arm("read:ENOSPC:4+"), 0);
	cr_expect_eq(failures("read", -ENOSPC, 10), 7);
	cr_assert_eq(thaw_inject_arm(NULL), 0);
	cr_expect_eq(failures("read", 0, 10), 0);
}

Test(inject, by_chance)
{
	unsigned n;

	cr_assert_eq(thaw_inject_arm("read:EIO:1/10"), 0);
	n = failures("read", -EIO, 10000);
	cr_expect(n > 800 && n < 1200, "%u of 10000 instead of about 1000", n);
}

Test(inject, rules_that_cannot_be_read)
{
	static const char *const bad[] = { "x", "x:EIO", "x:EIO:", "x:EIO:0", "x:EIO:2x", "x:EIO:1/0", "x:EIO:2/1",
					   "x:EWHAT:1", ":EIO:1", "x:EIO:-1", "x:short", "x:shorter:1", "x:delay:1",
					   "x:delay=:1", "x:delay=5:1", "x:delay=-5us:1", "x:delay=5min:1", "x:EIO:1,y", "x:0:1" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		thaw_err_clear();
		cr_expect_eq(thaw_inject_arm(bad[i]), -EINVAL, "%s", bad[i]);
		cr_expect(strstr(thaw_err_text(), bad[i]), "%s", thaw_err_text());
	}
	cr_expect_eq(failures("x", 0, 3), 0);
}

Test(inject, part_of_what_was_asked)
{
	bool less[9] = { 0 };

	cr_assert_eq(thaw_inject_arm("uffd.copy:short:2+,one:short:1+"), 0);
	cr_expect_eq(THAW_INJECT_SHORT("uffd.copy", 8 * 4096, 4096), 8 * 4096);
	for (unsigned i = 0; i < 500; i++) {
		size_t n = THAW_INJECT_SHORT("uffd.copy", 8 * 4096, 4096);

		cr_assert(n % 4096 == 0 && n >= 4096 && n < 8 * 4096, "%zu", n);
		less[n / 4096] = true;
	}
	for (unsigned i = 1; i < 8; i++)
		cr_expect(less[i], "never %u pages", i);
	cr_expect_eq(THAW_INJECT_SHORT("one", 4096, 4096), 4096, "there is no part of one");
	cr_expect_eq(THAW_INJECT_SHORT("other", 100, 1), 100);
	cr_expect_eq(thaw_inject_hits("uffd.copy"), 500);
	cr_expect_eq(THAW_INJECT("uffd.copy"), 0, "it is no failure");
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

Test(inject, delays)
{
	uint64_t before;

	cr_assert_eq(thaw_inject_arm("x:delay=20ms:2,x:delay=5000us:2,x:EIO:2,y:delay=0us:1+"), 0);
	cr_expect_eq(THAW_INJECT("x"), 0);
	before = now_us();
	cr_expect_eq(THAW_INJECT("x"), -EIO);
	cr_expect_geq(now_us() - before, 25000);
	cr_expect_eq(THAW_INJECT("y"), 0);
	cr_expect_eq(thaw_inject_hits("x"), 3);
	cr_expect_eq(thaw_inject_hits("y"), 1);
}

Test(inject, the_way_of_the_c_library)
{
	cr_assert_eq(thaw_inject_arm("x:EMFILE:2"), 0);
	errno = 0;
	cr_expect_eq(THAW_INJECT_ERRNO("x"), 0);
	cr_expect_eq(errno, 0);
	cr_expect_eq(THAW_INJECT_ERRNO("x"), -1);
	cr_expect_eq(errno, EMFILE);
}

Test(inject, from_the_environment)
{
	setenv("THAW_INJECT", "uffd.poison:EPERM:2", 1);
	cr_expect_eq(THAW_INJECT("uffd.poison"), 0);
	cr_expect_eq(THAW_INJECT("uffd.poison"), -EPERM);
}

Test(inject, bad_environment_ends_the_program, .signal = SIGABRT)
{
	setenv("THAW_INJECT", "uffd.copy", 1);
	THAW_INJECT("uffd.copy");
}

Test(inject, a_point_that_is_none_ends_the_program, .signal = SIGABRT)
{
	setenv("THAW_INJECT", "uffd.cpy:EAGAIN:1", 1);
	THAW_INJECT("uffd.copy");
}

Test(inject, list_ends_well, .exit_code = 0)
{
	setenv("THAW_INJECT", "list", 1);
	(void)THAW_INJECT("uffd.copy");
	_exit(9);
}
#else
Test(inject, release_builds_never_fail)
{
	setenv("THAW_INJECT", "env.point:EPERM:1+", 1);
	cr_expect_eq(THAW_INJECT("env.point"), 0);
	cr_expect_eq(THAW_INJECT_ERRNO("env.point"), 0);
	cr_expect_eq(THAW_INJECT_SHORT("env.point", 77, 1), 77);
}
#endif
