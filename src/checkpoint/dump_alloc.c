// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/dump_alloc.c - memory for the messages that a checkpoint is built of */
#include "config.h"
#include "checkpoint/dump.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"

/* The state of a process is kilobytes. A worker that cannot have them dies like one that is killed: the kernel lets the
 * process go on, and who started the worker removes what it has written. */
void *thaw_dump_alloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p)
		abort();
	return p;
}

char *thaw_dump_strdup(const char *s)
{
	char *copy = strdup(s);

	if (!copy)
		abort();
	return copy;
}

/* Grows by doubling: a list of n elements has room for the next power of two. */
void *thaw_dump_grow(void *list, size_t n, size_t size)
{
	if (n & (n - 1))
		return list;
	list = realloc(list, (n ? 2 * n : 1) * size);
	if (!list)
		abort();
	return list;
}

ProtobufCBinaryData thaw_dump_bytes(const void *data, size_t len)
{
	ProtobufCBinaryData b = { len, thaw_dump_alloc(len) };

	memcpy(b.data, data, len);
	return b;
}

char *thaw_dump_readlink(const char *fmt, ...)
{
	char path[128], target[8192];
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return NULL;
	target[n] = '\0';
	return thaw_dump_strdup(target);
}

int thaw_dump_abandoned(const struct thaw_dumper *d)
{
	struct pollfd p = { d->abandon_fd, POLLIN, 0 };

	/* Relaxed, here and below: the caller looks at nothing else that it would order. */
	atomic_fetch_add_explicit(&d->pulse->beat, 1, memory_order_relaxed);
	if (d->abandon_fd < 0 || poll(&p, 1, 0) <= 0)
		return 0;
	return thaw_err_set(-ECANCELED, "given up: process %d runs on", d->pid);
}

void thaw_dump_phase(const struct thaw_dumper *d, enum thaw_dump_phase phase)
{
	atomic_store_explicit(&d->pulse->phase, phase, memory_order_relaxed);
	atomic_fetch_add_explicit(&d->pulse->beat, 1, memory_order_relaxed);
}
