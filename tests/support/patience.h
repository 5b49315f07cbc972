/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/support/patience.h - what a slow machine (an emulated one) changes in the tests: they wait longer for what has to
 * come, and repeat less. tests/support/functions.sh knows THAW_TEST_PATIENCE, a factor, too. */
#ifndef TESTS_SUPPORT_PATIENCE_H
#define TESTS_SUPPORT_PATIENCE_H

#include <stdlib.h>

static inline int patience(int time)
{
	const char *factor = getenv("THAW_TEST_PATIENCE");

	return factor && atoi(factor) > 1 ? time * atoi(factor) : time;
}

/* How often, or how long: the first figure, or the second where THAW_TEST_BRIEF asks for a short run. */
static inline int thorough(int usual, int brief)
{
	return getenv("THAW_TEST_BRIEF") ? brief : usual;
}

#endif
