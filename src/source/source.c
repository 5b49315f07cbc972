// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/source.c - references to a source */
#include "config.h"
#include "source/source.h"

struct thaw_source *thaw_source_get(struct thaw_source *s)
{
	__atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED); /* the caller holds one, so it cannot be ending */
	return s;
}

void thaw_source_put(struct thaw_source *s)
{
	/* What every holder did with the source comes before the last one frees it. */
	if (s && __atomic_fetch_sub(&s->refs, 1, __ATOMIC_ACQ_REL) == 1)
		s->ops->free(s);
}

THAW_PUBLIC void thaw_source_close(struct thaw_source *s)
{
	if (!s)
		return;
	__atomic_store_n(&s->closed, true, __ATOMIC_RELAXED);
	if (s->ops->settle)
		s->ops->settle(s);
	thaw_source_put(s);
}
