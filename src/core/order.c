// SPDX-License-Identifier: LGPL-2.1-or-later
/* core/order.c - messages held back until their number is next */
#include "config.h"
#include "core/order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

static bool is_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

void thaw_order_init(struct thaw_order *o)
{
	*o = (struct thaw_order){ 0 };
}

void thaw_order_free(struct thaw_order *o)
{
	free(o->held);
	*o = (struct thaw_order){ 0 };
}

static int make_room(struct thaw_order *o)
{
	unsigned room = o->room ? o->room * 2 : 64;
	struct thaw_held *more;

	if (o->n < o->room)
		return 0;
	more = thaw_core_alloc(room * sizeof(*more));
	if (!more)
		return -ENOMEM;
	if (o->n)
		memcpy(more, o->held, o->n * sizeof(*more));
	free(o->held);
	o->held = more;
	o->room = room;
	return 0;
}

int thaw_order_put(struct thaw_order *o, uint32_t number, const void *message)
{
	unsigned i;

	if (make_room(o))
		return -ENOMEM;
	for (i = o->n++; i && is_before(number, o->held[(i - 1) / 2].number); i = (i - 1) / 2)
		o->held[i] = o->held[(i - 1) / 2];
	o->held[i].number = number;
	memcpy(o->held[i].message, message, THAW_ORDER_MESSAGE);
	return 0;
}

static void remove_first(struct thaw_order *o)
{
	struct thaw_held last = o->held[--o->n];
	unsigned i = 0, child;

	while ((child = 2 * i + 1) < o->n) {
		if (child + 1 < o->n && is_before(o->held[child + 1].number, o->held[child].number))
			child++;
		if (!is_before(o->held[child].number, last.number))
			break;
		o->held[i] = o->held[child];
		i = child;
	}
	if (o->n)
		o->held[i] = last;
}

bool thaw_order_take(struct thaw_order *o, void *message)
{
	if (!o->n || is_before(o->done + 1, o->held[0].number))
		return false;
	memcpy(message, o->held[0].message, THAW_ORDER_MESSAGE);
	if (o->held[0].number == o->done + 1) /* else it had been given up */
		o->done++;
	remove_first(o);
	return true;
}

uint32_t thaw_order_give_up_gap(struct thaw_order *o)
{
	return o->n ? thaw_order_give_up(o, o->held[0].number - 1) : 0;
}

uint32_t thaw_order_give_up(struct thaw_order *o, uint32_t last)
{
	uint32_t upto = last, n;

	if (o->n && !is_before(last, o->held[0].number))
		upto = o->held[0].number - 1;
	if (!is_before(o->done, upto))
		return 0;
	n = upto - o->done;
	o->done = upto;
	return n;
}
