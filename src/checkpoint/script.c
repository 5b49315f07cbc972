// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/script.c - named system calls, gathered into batches and run by a stopped thread */
#include "config.h"
#include "checkpoint/script.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "util/err.h"

void thaw_script_init(struct thaw_script *s, struct thaw_batch *b, pid_t tid, pid_t name)
{
	s->batch = b;
	s->tid = tid;
	s->name = name;
	s->err = 0;
	s->n = 0;
	thaw_batch_reset(b);
}

static int fail(const struct thaw_script *s, const struct thaw_step *st, int64_t result)
{
	char what[160];

	/* `what` is one of our own literals; a format without a conversion ignores the argument. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
	snprintf(what, sizeof(what), st->what, (unsigned long)st->at);
#pragma GCC diagnostic pop
	return thaw_err_set((int)result, "restoring process %d: %s: %s%s%s", (int)s->name, what, strerror((int)-result),
			    st->remedy && result == -EPERM ? ": " : "", st->remedy && result == -EPERM ? st->remedy : "");
}

static int flush(struct thaw_script *s)
{
	int failed = -1, err;

	if (!s->n)
		return 0;
	err = thaw_batch_run(s->batch, s->tid, &failed);
	if (err) {
		thaw_err_wrap("restoring process %d", (int)s->name);
		return err;
	}
	if (failed >= 0)
		return fail(s, &s->steps[failed], thaw_batch_result(s->batch, failed));
	s->n = 0;
	thaw_batch_reset(s->batch);
	return 0;
}

/* Returns the remote address, 0 when the work area is full. */
static uint64_t put_data(struct thaw_script *s, const struct thaw_step *st)
{
	uint64_t base = thaw_batch_data(s->batch, NULL, 0), inner; /* where the next data will be */
	unsigned char copy[2048];

	if (!st->pointer || !base)
		return base ? thaw_batch_data(s->batch, st->data, st->len) : 0;
	if (st->len > sizeof(copy))
		return 0;
	memcpy(copy, st->data, st->len);
	memcpy(&inner, copy + st->pointer, sizeof(inner));
	inner += base;
	memcpy(copy + st->pointer, &inner, sizeof(inner));
	return thaw_batch_data(s->batch, copy, st->len);
}

/* False: the work area is full. */
static bool put(struct thaw_script *s, const struct thaw_step *st)
{
	uint64_t a[6], base = 0;
	int index;

	if (s->n == THAW_SCRIPT_STEPS)
		return false;
	if (st->len) {
		base = put_data(s, st);
		if (!base)
			return false;
	}
	for (int i = 0; i < 6; i++)
		a[i] = st->args[i] + (st->data_args & (1u << i) ? base : 0);
	index = thaw_batch_call(s->batch, st->may_fail ? 0 : THAW_CALL_STOP, st->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (index < 0)
		return false;
	s->steps[index] = *st;
	s->n = (unsigned)index + 1;
	return true;
}

void thaw_script_add(struct thaw_script *s, const struct thaw_step *step)
{
	if (s->err || put(s, step))
		return;
	s->err = flush(s);
	if (!s->err && !put(s, step))
		s->err = thaw_err_set(-E2BIG, "restoring process %d: a step of %zu bytes does not fit the work area",
				      (int)s->name, step->len);
}

int thaw_script_run(struct thaw_script *s)
{
	if (!s->err)
		s->err = flush(s);
	return s->err;
}
