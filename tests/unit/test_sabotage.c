// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_sabotage.c - the rule that is broken is the one that was named, or none */
#include "config.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/sabotage.h"

#ifdef THAW_DEBUG
Test(sabotage, nothing_by_default)
{
	unsetenv("THAW_SABOTAGE");
	cr_expect_not(THAW_SABOTAGE(NO_GATE));
	cr_expect_not(THAW_SABOTAGE(LENGTH_32));
}

Test(sabotage, the_one_that_was_named)
{
	setenv("THAW_SABOTAGE", "length-32", 1);
	cr_expect(THAW_SABOTAGE(LENGTH_32));
	cr_expect_not(THAW_SABOTAGE(NO_GATE));
	setenv("THAW_SABOTAGE", "no-gate", 1); /* read once */
	cr_expect(THAW_SABOTAGE(LENGTH_32));
}

Test(sabotage, unknown_name_ends_the_program, .signal = SIGABRT)
{
	setenv("THAW_SABOTAGE", "no-gates", 1);
	(void)THAW_SABOTAGE(NO_GATE);
}

Test(sabotage, list_ends_well, .exit_code = 0)
{
	setenv("THAW_SABOTAGE", "list", 1);
	(void)THAW_SABOTAGE(NO_GATE);
	_exit(9);
}
#else
Test(sabotage, release_builds_break_nothing)
{
	setenv("THAW_SABOTAGE", "no-gate", 1);
	cr_expect_not(THAW_SABOTAGE(NO_GATE));
}
#endif
