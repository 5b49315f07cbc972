// SPDX-License-Identifier: LGPL-2.1-or-later
/* lib/api.c - the public calls: check, hand down, report */
#include "config.h"
#include "thaw.h"
#include "util/err.h"

THAW_PUBLIC const char *thaw_get_error(void)
{
	return thaw_err_text();
}

THAW_PUBLIC int thaw_get_errno(void)
{
	return -thaw_err_code();
}
