// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/watch.c - does every track go on? One that stands still for too long waits for a fault that nobody answers.
 *
 * Time is counted in ticks of the watcher itself: when the machine stops, or is too busy to run us, it does not pass. */
#include "config.h"
#include "stress/stress.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define HASTY_MS 3000
#define FAILING_MS 45000 /* content that failed is tried again 1 to 16 seconds later */
#define TICK_MS 100

struct stress_watch {
	const struct stress_shared *s;
	uint64_t patience, last;
	struct { uint64_t beat, still; } *track;
};

uint64_t thaw_stress_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

uint64_t thaw_stress_ms(void)
{
	return thaw_stress_ns() / 1000000;
}

/* How much slower than an ordinary machine is this one (an emulated one, for instance)? At least 1. */
static double slowness(void)
{
	static double found;
	static unsigned char page[STRESS_PAGE];
	struct timespec a, b;

	if (found > 0)
		return found;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (unsigned i = 0; i < 256; i++)
		thaw_stress_fill(page, i, i, 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	found = ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / 256 / 3000;
	found = found < 1 ? 1 : found > 12 ? 12 : found;
	return found;
}

struct stress_watch *thaw_stress_watch_new(const struct stress_setup *u, const struct stress_shared *s, bool hasty)
{
	struct stress_watch *w = calloc(1, sizeof(*w));
	const char *inject = getenv("THAW_INJECT");
	double crowd = 1 + s->processes * s->threads / 32.0;

	if (!w)
		return NULL;
	w->s = s;
	w->track = calloc(s->n_tracks + 1, sizeof(*w->track));
	w->patience = (hasty ? HASTY_MS : PATIENCE_MS) * slowness() * crowd;
	/* A copy that fails for its source's sake is content that cannot be had, for a while. */
	if (u->source == STRESS_FAILING || (inject && (strstr(inject, ":EFAULT") || strstr(inject, ":EIO"))))
		w->patience += FAILING_MS;
	w->last = thaw_stress_ms();
	return w;
}

uint64_t thaw_stress_watch_patience_ms(const struct stress_watch *w)
{
	return w->patience;
}

int thaw_stress_watch_tick(struct stress_watch *w)
{
	uint64_t now = thaw_stress_ms(), passed = now - w->last;

	if (passed < TICK_MS / 2 || !w->track)
		return -1;
	w->last = now;
	passed = passed < TICK_MS ? passed : TICK_MS;
	for (uint32_t i = 0; i < w->s->n_tracks; i++) {
		const struct stress_track *k = &w->s->tracks[i];
		uint64_t beat = atomic_load_explicit(&k->beat, memory_order_relaxed);

		if (beat != w->track[i].beat || atomic_load(&k->state) != STRESS_RUNNING) {
			w->track[i].beat = beat;
			w->track[i].still = 0;
			continue;
		}
		w->track[i].still += passed;
		if (w->track[i].still > w->patience)
			return i;
	}
	return -1;
}

void thaw_stress_watch_free(struct stress_watch *w)
{
	if (w)
		free(w->track);
	free(w);
}

/* The first line of a file of the thread; "?" where there is none (or no right to it). */
static void look_into(int pid, const char *tid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/%.16s", pid, tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, size - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (!text[0])
		snprintf(text, size, "?");
}

void thaw_stress_threads_of(int pid, const char *whose, char *text, size_t size)
{
	char path[32], stat[512], wchan[64], call[192];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		size_t used = strlen(text);
		const char *state;

		if (e->d_name[0] == '.')
			continue;
		look_into(pid, e->d_name, "stat", stat, sizeof(stat));
		look_into(pid, e->d_name, "wchan", wchan, sizeof(wchan));
		look_into(pid, e->d_name, "syscall", call, sizeof(call));
		state = strrchr(stat, ')');
		snprintf(text + used, size - used, "    %-8s %6s %c %-24s %s\n", whose, e->d_name, state && state[1] ? state[2] : '?', wchan, call);
	}
	if (d)
		closedir(d);
}
