/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/lazy/fake_server.h - a page server that does what it is told: right answers, late, short, wrong ones, and ends at every point.
 *
 * It speaks the protocol from its description alone and shares no code with the library. It is a process of its own that serves one
 * connection at a time; pages are a function of (seed, address), see tests/support/live.h, and only those of `ranges` of process
 * `pid` exist: a request for any other is a bad one, is counted, and ends the connection as CRIU would.
 *
 * Lifetime  ends with the test (PR_SET_PDEATHSIG), or fake_stop() */
#ifndef TESTS_LAZY_FAKE_SERVER_H
#define TESTS_LAZY_FAKE_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum fake_wrong {
	FAKE_RIGHT,
	FAKE_WRONG_ADDRESS,
	FAKE_WRONG_PID,
	FAKE_TOO_MANY,
	FAKE_NO_PAGES,   /* an answer with 0 pages */
	FAKE_WRONG_FLAGS,
	FAKE_WRONG_COMMAND,
	FAKE_UNASKED     /* the same answer twice */
};

enum fake_cut {
	FAKE_WHOLE,
	FAKE_CUT_BEFORE,    /* the answer */
	FAKE_CUT_HEADER,    /* within its header */
	FAKE_CUT_DATA,      /* between header and pages */
	FAKE_CUT_PAGE,      /* within its first page */
	FAKE_CUT_PAGES,     /* between two pages */
	FAKE_CUT_BEHIND     /* the answer */
};

struct fake_range {
	uint64_t address, length;
};

#define FAKE_RANGES 16

struct fake_options {
	int layout; /* 24 or 32 */
	uint64_t pid, seed;
	struct fake_range ranges[FAKE_RANGES];
	unsigned n_ranges;
	unsigned most;         /* pages of an answer; 0: all */
	unsigned delay_us;     /* from a request to its answer: a long way, however many are on it */
	enum fake_wrong wrong;
	enum fake_cut cut;
	unsigned at;           /* the answer that is wrong or cut: 1 is the first, of every connection */
	bool once;             /* ... of the first connection only */
	bool reset;            /* cut by a reset, not an end of stream */
	unsigned stall_at;     /* this answer never comes */
	unsigned connections;  /* that many are accepted, then no more; 0: no end */
	const char *tls_ca, *tls_cert, *tls_key; /* TLS, client certificates required */
};

enum fake_end { FAKE_OPEN, FAKE_EOF, FAKE_RESET, FAKE_CLOSED, FAKE_OURS }; /* CLOSED: CLOSE came first; OURS: cut or stopped */

/* Shared between the test and the server. */
struct fake_stats {
	_Atomic unsigned connections, gets, bad, closes, forced, turns; /* turns: it had to wait for the client with nothing to do */
	_Atomic unsigned most_waiting;      /* requests read and not answered yet */
	_Atomic unsigned largest;           /* pages of one request */
	_Atomic unsigned long pages, twice; /* twice: pages sent a second time within one connection */
	_Atomic int end;                    /* enum fake_end, of the last connection */
	_Atomic bool open;                  /* a client is there */
};

struct fake {
	pid_t pid;
	int port;
	struct fake_stats *stats;
};

void fake_start(struct fake *f, const struct fake_options *o);
/* The same at a given port (one that an earlier fake has left). */
void fake_start_at(struct fake *f, const struct fake_options *o, int port);
void fake_stop(struct fake *f); /* kills it: its connections are reset */

/* For a program of its own: serves on a listening socket until it is ended. */
void fake_serve(int listener, const struct fake_options *o, struct fake_stats *s);
int fake_listen(int *port);

#endif
