// SPDX-License-Identifier: LGPL-2.1-or-later
/* lib/version.c - which release of libthaw is running */
#include "config.h"
#include "thaw.h"

THAW_PUBLIC const char *thaw_get_version(void)
{
	return PACKAGE_VERSION;
}
