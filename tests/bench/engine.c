// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine.c - thaw's own figures, through the public interface of the library */
#include "config.h"
#include "bench.h"
#include "thaw.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct run {
	struct thaw *monitor;
	struct subject subject;
	uint64_t started, cpu;
};

static void prepare(struct run *r, const struct bench *b, unsigned copiers, enum thaw_background background, int around)
{
	struct thaw_memfile_range whole = { .length = b->size };
	struct thaw_range range = { .length = b->size, .kind = THAW_KIND_ANON, .prot = 3 };
	struct thaw_space space = {
		.size = sizeof(space), .pidfd = -1, .ranges = &range, .n_ranges = 1, .register_ranges = 1
	};
	struct thaw_source *source;

	r->monitor = thaw_create();
	if (!r->monitor || thaw_set_copiers(r->monitor, copiers) || thaw_set_background(r->monitor, background, 0) ||
	    (around >= 0 && thaw_set_read_around(r->monitor, around)))
		die("%s", thaw_get_error());
	subject_start(&r->subject, b, true);
	subject_warm(&r->subject);
	range.address = whole.address = r->subject.base;
	source = thaw_source_memfile(b->content_fd, &whole, 1);
	if (!source)
		die("%s", thaw_get_error());
	space.uffd = r->subject.uffd;
	space.pid = r->subject.pid;
	space.source = source;
	if (thaw_add_space(r->monitor, &space) < 0)
		die("%s", thaw_get_error());
	r->subject.uffd = -1; /* taken over */
	thaw_source_close(source);
}

static void start(struct run *r)
{
	r->cpu = cpu_ns();
	r->started = now_ns();
	if (thaw_start(r->monitor))
		die("%s", thaw_get_error());
}

static struct thaw_stats stats(struct run *r)
{
	struct thaw_stats s = { .size = sizeof(s) };

	if (thaw_get_stats(r->monitor, 0, &s))
		die("%s", thaw_get_error());
	return s;
}

static void finish(struct run *r)
{
	thaw_close(r->monitor);
	subject_stop(&r->subject);
}

static void await(struct run *r)
{
	if (thaw_wait(r->monitor, 0, 120000))
		die("the drain does not end: %s", thaw_get_error());
}

/* From the start of the monitor to the last page in, as the library's own clock says: waking us is not part of it. */
static double drain_ns(struct run *r)
{
	struct thaw_stats s = stats(r);

	return s.complete_ns ? s.complete_ns : now_ns() - r->started;
}

static double drain(struct bench *b, unsigned copiers, const char *key)
{
	struct run r;
	double ns, gib = (double)b->size / (1 << 30);
	struct thaw_stats s;

	prepare(&r, b, copiers, THAW_BACKGROUND_RUN, -1);
	start(&r);
	await(&r);
	ns = drain_ns(&r);
	figure(key, "GB/s", HIGHER, b->size / ns);
	if (copiers == 1) {
		figure("thaw.drain.one.cpu", "s/GiB", LOWER, (cpu_ns() - r.cpu) / 1e9 / gib);
		s = stats(&r);
		figure("thaw.memory.state", "KiB/GiB", LOWER, s.state_bytes / 1024.0 / gib);
		figure("thaw.memory.staging", "KiB", LOWER, s.staging_bytes / 1024.0);
	}
	subject_verify(&r.subject, b);
	finish(&r);
	return ns;
}

static void drain_with_faults(struct bench *b, double idle_ns)
{
	static unsigned seed = 1000;
	struct run r;
	double ns;

	prepare(&r, b, 1, THAW_BACKGROUND_RUN, 0);
	subject_fault(&r.subject, b->drain_faults, ++seed, -1); /* its first touch waits for us */
	start(&r);
	await(&r);
	ns = drain_ns(&r);
	figure("thaw.drain.faults.count", "", HIGHER, subject_wait(&r.subject));
	figure("thaw.fault.draining.p50", "us", LOWER, subject_latency(&r.subject, 0.5));
	figure("thaw.fault.draining.p99", "us", LOWER, subject_latency(&r.subject, 0.99));
	figure("thaw.fault.draining.max", "us", LOWER, subject_latency(&r.subject, 1));
	figure("thaw.drain.faults", "GB/s", HIGHER, b->size / ns);
	figure("thaw.drain.faults.time_ratio", "", LOWER, ns / idle_ns);
	subject_verify(&r.subject, b);
	finish(&r);
}

/* Where the threads that this one makes may run: on CPU 0 alone, on all others, anywhere. */
enum place { CPU_0, NOT_CPU_0, ANYWHERE };

static void place(enum place where)
{
	cpu_set_t set;

	memset(&set, where == CPU_0 ? 0 : 0xff, sizeof(set));
	if (where == CPU_0)
		CPU_SET(0, &set);
	if (where == NOT_CPU_0)
		CPU_CLR(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set) && where != NOT_CPU_0) /* with one CPU there are no others */
		die("sched_setaffinity: %s", strerror(errno));
}

static void idle_figure(struct run *r, const char *name, const char *which, double part)
{
	char key[64];

	snprintf(key, sizeof(key), "thaw.fault.%s.%s", name, which);
	figure(key, "us", LOWER, subject_latency(&r->subject, part));
}

/* Faults alone, and what the monitor still burns when they have stopped. The faulting thread is on CPU 0. */
static void idle_faults(struct bench *b, const char *name, enum place where)
{
	static unsigned seed = 2000;
	struct timespec nap = { .tv_nsec = 50000000 };
	uint64_t cpu;
	struct run r;

	prepare(&r, b, 1, THAW_BACKGROUND_STAY_LAZY, 0);
	place(where);
	start(&r);
	place(ANYWHERE);
	others_find();
	subject_fault(&r.subject, b->faults, ++seed, 0);
	subject_wait(&r.subject);
	cpu = others_cpu_ns();
	nanosleep(&nap, NULL);
	if (where != CPU_0)
		figure("thaw.reader.after_silence", "us", LOWER, (others_cpu_ns() - cpu) / 1e3);
	idle_figure(&r, name, "p50", 0.5);
	idle_figure(&r, name, "p99", 0.99);
	idle_figure(&r, name, "max", 1);
	finish(&r);
}

void measure_engine(struct bench *b)
{
	double one = drain(b, 1, "thaw.drain.one");

	drain(b, 2, "thaw.drain.two");
	drain_with_faults(b, one);
	idle_faults(b, "idle", NOT_CPU_0);
	idle_faults(b, "idle_same_cpu", CPU_0);
}
