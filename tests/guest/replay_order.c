// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/guest/replay_order.c - threads move their buffers with mremap() at the same time; a monitor replays the messages.
 *
 * Messages are queued after the kernel has dropped mmap_lock, so they may be read in another order than that of the changes. A monitor that
 * applies them as they are read loses a buffer when the UNMAP of one move comes after the REMAP of another that has taken the same
 * addresses. Counted are buffers that are not where the monitor believes. */
#include "config.h"
#include "guest/hole.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST 64
#define STEPS 10 /* moves of each thread between two comparisons */

static int uffd;
static struct {
	uintptr_t truth; /* owned by its thread; read while all wait */
	size_t pages;
	uintptr_t belief; /* the reader's: where the first page is, 0 lost */
} buffers[MOST];
static pthread_barrier_t barrier;
static atomic_bool ends;
static atomic_bool busy; /* the reader: reads, or has read and not applied yet */

/* ---- the monitor's map --------------------------------------------------------------------------------------------------- */
static struct {
	uintptr_t start, end;
} halves[4096]; /* old ranges of moves whose UNMAP has not come */
static unsigned n_halves;
static unsigned long n_remaps, n_unmaps, n_early, n_unfinished;

static void apply(const struct uffd_msg *m)
{
	if (m->event == UFFD_EVENT_REMAP) {
		uintptr_t from = m->arg.remap.from, to = m->arg.remap.to, len = m->arg.remap.len;

		n_remaps++;
		for (unsigned i = 0; i < hole.threads; i++)
			if (buffers[i].belief >= from && buffers[i].belief < from + len)
				buffers[i].belief += to - from;
		if (n_halves < sizeof(halves) / sizeof(halves[0])) {
			halves[n_halves].start = from;
			halves[n_halves++].end = from + len;
		}
	} else {
		uintptr_t start = m->arg.remove.start, end = m->arg.remove.end;
		unsigned h = 0;

		n_unmaps++;
		while (h < n_halves && (halves[h].start != start || halves[h].end != end))
			h++;
		if (h < n_halves) {
			halves[h] = halves[--n_halves];
			if (hole.replay == HOLE_PAIRED)
				return; /* the second half of a move: whatever is there now came later */
		}
		for (unsigned i = 0; i < hole.threads; i++)
			if (buffers[i].belief >= start && buffers[i].belief < end)
				buffers[i].belief = 0;
	}
}

/* By number: what comes early is held back until those before it are there. */
static struct uffd_msg *held;
static size_t n_held, held_room;
static uint32_t next_number = 1;

static void apply_in_turn(const struct uffd_msg *m)
{
	if (HOLE_MSG_SEQ(m) != next_number) {
		n_early++;
		if (n_held == held_room) {
			held_room = held_room ? 2 * held_room : 256;
			held = realloc(held, held_room * sizeof(*held));
			if (!held)
				HOLE_DIE("no memory for %zu messages", held_room);
		}
		held[n_held++] = *m;
		return;
	}
	apply(m);
	next_number++;
	for (size_t i = 0; i < n_held;) {
		if (HOLE_MSG_SEQ(&held[i]) != next_number) {
			i++;
			continue;
		}
		apply(&held[i]);
		next_number++;
		held[i] = held[--n_held];
		i = 0;
	}
}

static void *reader_thread(void *arg)
{
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	struct uffd_msg m[16];

	(void)arg;
	while (!atomic_load(&ends)) {
		ssize_t n;

		if (poll(&p, 1, 20) <= 0)
			continue;
		atomic_store(&busy, true); /* before a message can be read */
		n = read(uffd, m, sizeof(m)) / (ssize_t)sizeof(m[0]);
		for (ssize_t i = 0; i < n; i++) {
			if (m[i].event == UFFD_EVENT_PAGEFAULT)
				hole_zero(uffd, (void *)(uintptr_t)(m[i].arg.pagefault.address & ~(hole.page - 1)), hole.page, 0, NULL);
			else if (hole.replay == HOLE_BY_NUMBER)
				apply_in_turn(&m[i]);
			else
				apply(&m[i]);
		}
		atomic_store(&busy, false);
	}
	return NULL;
}

/* ---- the process --------------------------------------------------------------------------------------------------------- */
static void move(unsigned id, uint32_t x)
{
	uintptr_t at = buffers[id].truth;
	size_t pages = buffers[id].pages, more = pages < 48 ? pages + 1 + (x >> 8) % 8 : 4;
	char *guard = MAP_FAILED;
	void *to;

	if (more > pages) /* somebody sits behind it, so that growing has to move */
		guard = mmap((void *)(at + pages * hole.page), hole.page, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	to = mremap((void *)at, pages * hole.page, more * hole.page, MREMAP_MAYMOVE);
	if (to == MAP_FAILED)
		HOLE_DIE("mremap: %s", strerror(errno));
	if (guard != MAP_FAILED)
		munmap(guard, hole.page);
	buffers[id].truth = (uintptr_t)to;
	buffers[id].pages = more;
}

static void *worker_thread(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;
	uint32_t x = 777u + 3571u * id;

	while (!atomic_load(&ends)) {
		for (unsigned i = 0; i < STEPS; i++) {
			x = x * 1664525u + 1013904223u;
			move(id, x);
		}
		pthread_barrier_wait(&barrier); /* main compares */
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* All threads wait at the barrier, so every message has been read, since whoever raises one waits for that; when the kernel has noticed as
 * well, the reader is busy until it has applied what it has read, however long it is without a processor. */
static void settle(void)
{
	while (hole_zero(uffd, NULL, hole.page, 0, NULL) == -EAGAIN || atomic_load(&busy))
		usleep(500);
}

int main(int argc, char **argv)
{
	static const char *const replays[] = { "read", "paired", "number" };
	unsigned long rounds = 0, bad_rounds = 0, lost = 0;
	pthread_t reader, workers[MOST];

	hole.threads = 4;
	hole.seconds = 5;
	hole_options(argc, argv, "Counts buffers that a monitor loses when threads move theirs with mremap() at the same time.", "rto");
	uffd = hole_uffd(UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP |
			 (hole.replay == HOLE_BY_NUMBER ? HOLE_FEATURE_EVENT_SEQ : 0));
	pthread_barrier_init(&barrier, NULL, hole.threads + 1);
	for (unsigned i = 0; i < hole.threads; i++) {
		char *p = hole_map(4 * hole.page, false);

		hole_register(uffd, p, 4 * hole.page);
		buffers[i].truth = buffers[i].belief = (uintptr_t)p;
		buffers[i].pages = 4;
		/* keeps neighbours apart */
		mmap(NULL, hole.page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (pthread_create(&reader, NULL, reader_thread, NULL))
		HOLE_DIE("a thread could not be started");
	for (unsigned i = 0; i < hole.threads; i++)
		if (pthread_create(&workers[i], NULL, worker_thread, (void *)(uintptr_t)i))
			HOLE_DIE("a thread could not be started");
	for (bool over = false; !over;) {
		unsigned long lost_before = lost;

		pthread_barrier_wait(&barrier);
		settle();
		for (unsigned i = 0; i < hole.threads; i++) {
			lost += buffers[i].belief != buffers[i].truth;
			buffers[i].belief = buffers[i].truth;
		}
		bad_rounds += lost != lost_before;
		n_unfinished += n_halves;
		n_halves = 0;
		if (n_held)
			HOLE_DIE("%zu messages wait for number %u, which never came", n_held, next_number);
		over = hole_over(++rounds);
		if (over)
			atomic_store(&ends, true);
		pthread_barrier_wait(&barrier);
	}
	for (unsigned i = 0; i < hole.threads; i++)
		pthread_join(workers[i], NULL);
	pthread_join(reader, NULL);
	free(held);
	hole_text("replay", replays[hole.replay]);
	hole_count("threads", hole.threads);
	hole_count("remaps", n_remaps);
	hole_count("unmaps", n_unmaps);
	hole_count("read_early", n_early);
	hole_count("unpaired", n_unfinished);
	return hole_report(rounds, bad_rounds, "lost_buffers", lost);
}
