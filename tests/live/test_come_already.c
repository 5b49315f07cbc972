// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_come_already.c - the background has brought a run, and its only copier is busy elsewhere: who needs a page of
 * the run gets it from there, at once, and the source is not asked for it again.
 *
 * Bug: what had come and waited for a copier was not looked at; the page went over the network a second time. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEED 41
#define RUN 64 /* pages the background asks for at once */
#define PAGES (3 * RUN)
#define NEEDED (LIVE_BASE + 5 * LIVE_PAGE)

/* ---- the source: the first run comes when the test says so, and the copier that asks for the next one is held up ------------------ */
static struct held {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct thaw_request *request;
	unsigned char *buf;
	size_t len;
	unsigned n_first; /* times that content of the first run was asked for */
	bool stuck, open;
} held = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void fill(uint64_t addr, size_t len, unsigned char *buf)
{
	for (size_t i = 0; i < len; i += LIVE_PAGE)
		live_fill(buf + i, SEED, addr + i, 0);
}

static int ask(void *opaque, uint64_t addr, size_t len, void *buf, struct thaw_request *request)
{
	bool later = false;

	pthread_mutex_lock(&held.lock);
	if (addr < LIVE_BASE + RUN * LIVE_PAGE) {
		later = !held.n_first++;
		if (later) {
			held.request = request;
			held.buf = buf;
			held.len = len;
		}
	} else if (!held.open) {
		held.stuck = true;
		pthread_cond_broadcast(&held.changed);
		while (!held.open)
			pthread_cond_wait(&held.changed, &held.lock);
	}
	pthread_mutex_unlock(&held.lock);
	if (later)
		return THAW_LATER;
	fill(addr, len, buf);
	return 0;
}

static int work(void *arg, int sock)
{
	char byte = 'd';

	if (!live_is(NEEDED, 1, SEED, 0))
		return 1;
	if (write(sock, &byte, 1) != 1 || read(sock, &byte, 1) != 1)
		return 2;
	return live_is(LIVE_BASE, PAGES, SEED, 0) ? 0 : 3;
}

int main(void)
{
	const struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	struct thaw_source *s;
	struct thaw *h;
	struct live l;
	char byte = 'g';
	int status;

	alarm(patience(60));
	if (thaw_probe() < 0) {
		printf("test_come_already: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	s = thaw_source_callback(ask, NULL);
	live_start(&l, &r, 1, work, NULL);
	live_add(h, &l, s, &r, 1);
	LIVE_OK(thaw_start(h));
	pthread_mutex_lock(&held.lock);
	while (!held.stuck)
		pthread_cond_wait(&held.changed, &held.lock);
	LIVE_CHECK(held.n_first == 1 && held.len == RUN * LIVE_PAGE);
	pthread_mutex_unlock(&held.lock);
	fill(LIVE_BASE, held.len, held.buf);
	thaw_complete(held.request, 0);
	live_go(&l);
	LIVE_CHECK(read(l.sock, &byte, 1) == 1 && byte == 'd'); /* while the copier stands */
	pthread_mutex_lock(&held.lock);
	if (held.n_first != 1)
		LIVE_DIE("the source was asked %u times for a page that had come", held.n_first);
	held.open = true;
	pthread_cond_broadcast(&held.changed);
	pthread_mutex_unlock(&held.lock);
	LIVE_CHECK(write(l.sock, "g", 1) == 1);
	status = live_end(&l);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	LIVE_CHECK(status == 0 && live_stats(h, 0).pages_fault >= 1);
	thaw_close(h);
	thaw_source_close(s);
	return 0;
}
