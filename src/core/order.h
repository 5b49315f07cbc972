/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* core/order.h - numbered messages put into the order of their numbers.
 *
 * A patched kernel gives each change of a space a number, under the lock under which it happens (a REMOVE when it is
 * announced, before it happens); the messages of several threads are queued in another order. A message is held back until
 * all before it have come. A number can be lost: its thread was killed before the message was read, or a fork that was
 * announced failed.
 *
 * Rule      a message that is put is taken once, in the order of the numbers; a number that was given up is passed over, and its
 *           message, should it come after all, is taken at once
 * Threads   caller excludes
 * Numbers   32 bits that wrap: of two that are less than 2^31 apart the later one is known
 * Errors    -ENOMEM (the message is the caller's still) */
#ifndef THAW_CORE_ORDER_H
#define THAW_CORE_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#define THAW_ORDER_MESSAGE 32 /* bytes of a message */

struct thaw_held {
	uint32_t number;
	unsigned char message[THAW_ORDER_MESSAGE];
};

struct thaw_order {
	uint32_t done; /* all up to this one have been taken or given up; 0 before the first */
	unsigned n, room;
	struct thaw_held *held; /* a heap: the earliest number first */
};

void thaw_order_init(struct thaw_order *o);
void thaw_order_free(struct thaw_order *o);

int thaw_order_put(struct thaw_order *o, uint32_t number, const void *message);
/* The next message, if it has come. */
bool thaw_order_take(struct thaw_order *o, void *message);
/* Messages wait for one that has not come. */
static inline bool thaw_order_has_gap(const struct thaw_order *o)
{
	return o->n;
}
/* What has not come up to `last` never will (and is not waited for). Returns how many numbers are given up before the next
 * message that is held (before `last` when there is none). To be called again until it returns 0, messages being taken in between. */
uint32_t thaw_order_give_up(struct thaw_order *o, uint32_t last);
/* The same of what has not come before the first message that is held, when nothing can come any more. 0: none is held. */
uint32_t thaw_order_give_up_gap(struct thaw_order *o);

#endif
