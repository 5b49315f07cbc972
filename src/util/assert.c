// SPDX-License-Identifier: LGPL-2.1-or-later
/* util/assert.c - the last words of a debug build */
#include "config.h"
#include "util/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void thaw_panic(const char *fmt, ...)
{
	char line[512] = "thaw: ";
	size_t used = strlen(line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
	va_end(ap);
	strcat(line, "\n");
	if (write(STDERR_FILENO, line, strlen(line)) < 0) {
		/* nobody is left who could be told */
	}
	abort();
}
