/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* proto/gets.h - the client's side of a page-server connection: what is wanted, what has been asked for, what came.
 *
 * A want is up to 64 pages of one process, to be read into a buffer. A GET asks for a part of a want. Answers come in the order of the
 * GETs, each of them for the beginning of what was asked for, never more (the rest is asked for again). A page that
 * is on its way is not asked for a second time: it is handed to every want that has it. Urgent wants (somebody sleeps on
 * a page) are asked for before all others; the others may have no more bytes on the way than the window, which follows
 * what the connection can take, so that an urgent answer does not stand in a long queue.
 *
 * The protocol has no word for a page that cannot be read: a server ends the connection instead, and everything under way has to be
 * asked for again. So what was to be answered next when it was lost is asked for page by page from then on; and a page that has
 * lost it alone, and before in company, is shy: it is asked for last, seldom, and ever more seldom while that goes on.
 *
 * Rule      pure: no system call, no memory of its own. A want is the machine's from add until it comes out of pop
 * Threads   the caller serialises
 * Errors    -EPROTO with a sentence: the server's answer is not one to any question; nothing of it has been taken */
#ifndef THAW_PROTO_GETS_H
#define THAW_PROTO_GETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"

#define THAW_WANT_PAGES 64
#define THAW_GETS_MOST 256 /* under way at once */
#define THAW_GET_PAGES 32  /* of one that nobody sleeps on */

#define THAW_WINDOW_LEAST (256ULL << 10)
#define THAW_WINDOW_MOST (32ULL << 20)

struct thaw_want {
	uint64_t pid, addr;
	unsigned pages; /* 1..64 */
	bool urgent, soon; /* soon: asked for before the others that nobody sleeps on */
	unsigned char *buf;
	/* the machine's */
	uint64_t have, asked; /* a bit a page */
	uint64_t lost, shy;   /* in its turn when a connection was lost; twice */
	int error;            /* after pop: 0, or what thaw_gets_fail() was given */
	struct thaw_want *next, *prev;
};

struct thaw_get {
	struct thaw_want *want;
	uint64_t pid, addr;
	unsigned pages;
	bool urgent, limited; /* limited: the window was full when it was sent */
	uint64_t sent_ns;
};

struct thaw_wants {
	struct thaw_want *first, *last;
};

struct thaw_gets {
	struct thaw_wants urgent, background, done;
	unsigned n_wants;                    /* not done */
	struct thaw_get fifo[THAW_GETS_MOST];
	unsigned head, n;                    /* of fifo */
	uint64_t background_bytes;           /* of GETs under way that nobody sleeps on */
	uint64_t window;
	uint64_t base_ns, base_old_ns, base_since_ns; /* the quickest answer lately */
	bool any_shy;
	uint64_t shy_wait_ns, shy_next_ns;   /* between two GETs of shy pages; when there may be one */
	uint64_t reply_bytes, reply_got;     /* of the answer that is coming in; 0: none */
	/* figures */
	uint64_t rtt_ns;                     /* of urgent GETs (of all, while there was none): smoothed */
	bool rtt_urgent;
	uint64_t n_gets, n_short, n_shared, bytes;
};

void thaw_gets_init(struct thaw_gets *g);
void thaw_gets_add(struct thaw_gets *g, struct thaw_want *w);

/* What is to be sent now: true and *f, or false. */
bool thaw_gets_next(struct thaw_gets *g, uint64_t now_ns, struct thaw_frame *f);

/* The header of an answer. */
int thaw_gets_reply(struct thaw_gets *g, const struct thaw_frame *f);
static inline bool thaw_gets_in_reply(const struct thaw_gets *g)
{
	return g->reply_bytes;
}
/* Where its bytes go: *at, and how many there may be. */
size_t thaw_gets_room(const struct thaw_gets *g, unsigned char **at);
/* That many have been put there. */
void thaw_gets_filled(struct thaw_gets *g, size_t bytes, uint64_t now_ns);

/* The next want that is done, or NULL. */
struct thaw_want *thaw_gets_pop(struct thaw_gets *g);

/* The connection is lost: what was asked for has to be asked for again. Whole pages that came are kept. */
void thaw_gets_reset(struct thaw_gets *g, uint64_t now_ns);
/* Ends wants with an error: all of them, or the urgent ones only. None may be under way (reset comes first). */
void thaw_gets_fail(struct thaw_gets *g, int error, bool all);

uint64_t thaw_gets_missing(const struct thaw_gets *g); /* pages wanted that have not come */

#endif
