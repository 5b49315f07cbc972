// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_inject.c - fault points fail when they are told to, and only then */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

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
					   "x:EWHAT:1", ":EIO:1", "x:EIO:-1", "x:EIO:1,y", "x:0:1" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		thaw_err_clear();
		cr_expect_eq(thaw_inject_arm(bad[i]), -EINVAL, "%s", bad[i]);
		cr_expect(strstr(thaw_err_text(), bad[i]), "%s", thaw_err_text());
	}
	cr_expect_eq(failures("x", 0, 3), 0);
}

Test(inject, from_the_environment)
{
	setenv("THAW_INJECT", "env.point:EPERM:2", 1);
	cr_expect_eq(THAW_INJECT("env.point"), 0);
	cr_expect_eq(THAW_INJECT("env.point"), -EPERM);
}

Test(inject, bad_environment_ends_the_program, .signal = SIGABRT)
{
	setenv("THAW_INJECT", "env.point", 1);
	THAW_INJECT("env.point");
}
#else
Test(inject, release_builds_never_fail)
{
	setenv("THAW_INJECT", "env.point:EPERM:1+", 1);
	cr_expect_eq(THAW_INJECT("env.point"), 0);
}
#endif
