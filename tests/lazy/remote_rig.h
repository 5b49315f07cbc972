/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/lazy/remote_rig.h - a process with missing memory, its images, and a connection to where the pages are.
 *
 * The images have pagemap-PID.img only: lazy pages are at the page server. The worker checks every byte that it reads.
 *
 * Rule      a test makes a rig, changes what it wants to be otherwise, and runs it */
#ifndef TESTS_LAZY_REMOTE_RIG_H
#define TESTS_LAZY_REMOTE_RIG_H

#include "lazy/fake_server.h"
#include "support/imagedir.h"
#include "support/live.h"

#define RIG_PID 4711 /* of the images: nobody's here */
#define RIG_SEED 17
#define RIG_ENTRY 256 /* pages of a pagemap entry, as the dumper's pipes are long */

struct rig {
	struct scratch dir;
	struct thaw_range range;
	uint64_t pages;
	bool wide;
	unsigned flags; /* of the entries: 2 or 6 */
	struct live live;
	struct thaw *h;
	struct thaw_pageserver_options options;
	struct thaw_pageserver *ps;
	struct thaw_source *source;
	int64_t space;
};

/* What the connection's log and events said: of all rigs of a test. */
extern _Atomic unsigned rig_lost, rig_found, rig_failed, rig_errors;
extern char rig_line[512]; /* the last error line */

void rig_begin(struct rig *r, uint64_t pages, bool wide);
void rig_images(struct rig *r);                               /* writes them */
void rig_index(struct rig *r, unsigned tasks);                /* what a page server looks at first: inventory and process tree;
								 a second task has no pages */
void rig_pages_file(struct scratch *dir, uint64_t addr, uint64_t pages); /* pages-1.img with the content of [addr, ...) */
struct fake_options rig_fake(const struct rig *r);            /* a server that has its pages */
void rig_open(struct rig *r, int port);                       /* the connection and the source */
void rig_worker(struct rig *r, live_fn *fn, void *arg);       /* the process; before threads are made */
void rig_start(struct rig *r, unsigned copiers, enum thaw_background policy); /* the monitor */
void rig_end(struct rig *r, bool finish);                     /* all that is left; finish: must succeed */

/* Workers: all pages in a random order (arg: the rig), with some threads. 0: every byte is right. */
int rig_read_all(void *arg, int sock);
int rig_read_threads(void *arg, int sock);

/* Until it holds, at most a minute. */
#define RIG_AWAIT(cond) \
	do { \
		unsigned rig_tries = 0; \
		while (!(cond)) { \
			if (rig_tries++ == 60000) \
				LIVE_DIE("has not come to be within a minute: %s", #cond); \
			usleep(1000); \
		} \
	} while (0)

#endif
