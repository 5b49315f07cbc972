// SPDX-License-Identifier: LGPL-2.1-or-later
/* util/err.c - the thread's last error: a sentence and a code */
#include "config.h"
#include "util/err.h"

#include <stdio.h>
#include <string.h>

static _Thread_local char text[sizeof(((struct thaw_err *)0)->text)];
static _Thread_local int last_code;

int thaw_err_set(int code, const char *fmt, ...)
{
	char fresh[sizeof(text)]; /* an argument may be the old sentence itself */
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(fresh, sizeof(fresh), fmt, ap);
	va_end(ap);
	memcpy(text, fresh, sizeof(text));
	last_code = code;
	return code;
}

int thaw_err_wrap(const char *fmt, ...)
{
	char context[256], fresh[sizeof(text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	/* A sentence too long for the store loses its end; the context in front matters more. */
	if (snprintf(fresh, sizeof(fresh), "%s: %s", context, text) < 0)
		return last_code;
	memcpy(text, fresh, sizeof(text));
	return last_code;
}

void thaw_err_save(struct thaw_err *e)
{
	memcpy(e->text, text, sizeof(text));
	e->code = last_code;
}

void thaw_err_restore(const struct thaw_err *e)
{
	memcpy(text, e->text, sizeof(text));
	last_code = e->code;
}

void thaw_err_clear(void)
{
	text[0] = '\0';
	last_code = 0;
}

const char *thaw_err_text(void)
{
	return text;
}

int thaw_err_code(void)
{
	return last_code;
}
