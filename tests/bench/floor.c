// SPDX-License-Identifier: LGPL-2.1-or-later
/* floor.c - what the kernel itself takes: the smallest loops that answer faults and that copy */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- faults ---------------------------------------------------------------------------------------------- */

struct server {
	const struct bench *b;
	struct subject *s;
	int cpu; /* -1: any */
	bool spin;
	_Atomic bool stop;
};

static void answer(struct server *v, uint64_t address)
{
	uint64_t at = (address & ~(PG - 1)) - v->s->base;
	struct uffdio_copy c = { .dst = v->s->base + at, .src = (uintptr_t)v->b->content + at, .len = PG };

	if (ioctl(v->s->uffd, UFFDIO_COPY, &c) && errno != EEXIST)
		die("UFFDIO_COPY: %s", strerror(errno));
}

static void *serve(void *arg)
{
	struct server *v = arg;
	struct pollfd p = { .fd = v->s->uffd, .events = POLLIN };
	struct uffd_msg m;
	cpu_set_t set;

	if (v->cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(v->cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	while (!v->stop) {
		if (!v->spin)
			poll(&p, 1, 50);
		if (read(v->s->uffd, &m, sizeof(m)) == sizeof(m))
			answer(v, m.arg.pagefault.address);
	}
	return NULL;
}

static void faults(struct bench *b, const char *name, bool spin, int cpu, int subject_cpu)
{
	static unsigned seed;
	struct subject s;
	struct server v = { .b = b, .s = &s, .cpu = cpu, .spin = spin };
	pthread_t t;
	char key[64];

	subject_start(&s, b, false);
	if (pthread_create(&t, NULL, serve, &v))
		die("no thread");
	subject_fault(&s, b->faults, ++seed, subject_cpu);
	subject_wait(&s);
	v.stop = true;
	pthread_join(t, NULL);
	snprintf(key, sizeof(key), "floor.fault.%s.p50", name);
	figure(key, "us", LOWER, subject_latency(&s, 0.5));
	snprintf(key, sizeof(key), "floor.fault.%s.p99", name);
	figure(key, "us", LOWER, subject_latency(&s, 0.99));
	subject_stop(&s);
}

void measure_floor_faults(struct bench *b)
{
	bool one = sysconf(_SC_NPROCESSORS_ONLN) < 2;

	faults(b, "blocking", false, one ? -1 : 1, one ? -1 : 0);
	faults(b, "spinning", true, one ? -1 : 1, one ? -1 : 0);
	faults(b, "same_cpu", false, 0, 0);
}

/* ---- copying --------------------------------------------------------------------------------------------- */

struct part {
	const struct bench *b;
	const struct subject *s;
	size_t from, to, chunk;
};

static void *copy_part(void *arg)
{
	const struct part *p = arg;
	size_t at;

	for (at = p->from; at < p->to; at += p->chunk) {
		struct uffdio_copy c = { .dst = p->s->base + at,
					 .src = (uintptr_t)p->b->content + at,
					 .len = p->chunk };

		if (ioctl(p->s->uffd, UFFDIO_COPY, &c))
			die("UFFDIO_COPY: %s", strerror(errno));
	}
	return NULL;
}

static void copy(struct bench *b, struct subject *s, size_t chunk, const char *name, unsigned threads)
{
	struct part p[2] = { { b, s, 0, threads == 1 ? b->size : b->size / 2, chunk },
			     { b, s, b->size / 2, b->size, chunk } };
	uint64_t t = now_ns(), cpu = cpu_ns();
	pthread_t second;
	char key[64];

	if (threads == 2 && pthread_create(&second, NULL, copy_part, &p[1]))
		die("no thread");
	copy_part(&p[0]);
	if (threads == 2)
		pthread_join(second, NULL);
	t = now_ns() - t;
	cpu = cpu_ns() - cpu;
	snprintf(key, sizeof(key), "floor.copy.%s.%s", threads == 1 ? "one" : "two", name);
	figure(key, "GB/s", HIGHER, (double)b->size / t);
	if (threads == 1 && chunk == 256 << 10)
		figure("floor.copy.cpu", "s/GiB", LOWER, cpu / 1e9 / ((double)b->size / (1 << 30)));
	subject_drop(s);
}

void measure_floor_copy(struct bench *b)
{
	static const struct {
		size_t chunk;
		const char *name;
	} chunks[] = {
		{ 4 << 10, "4K" }, { 16 << 10, "16K" }, { 64 << 10, "64K" }, { 256 << 10, "256K" }, { 1 << 20, "1M" }
	};
	static bool warm;
	struct subject s;
	size_t i;

	subject_start(&s, b, false);
	if (!warm) { /* the host may have to give us the memory first: that pass is not counted */
		struct part p = { b, &s, 0, b->size, 1 << 20 };

		copy_part(&p);
		subject_verify(&s, b);
		subject_drop(&s);
		warm = true;
	}
	for (i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		copy(b, &s, chunks[i].chunk, chunks[i].name, 1);
		copy(b, &s, chunks[i].chunk, chunks[i].name, 2);
	}
	subject_stop(&s);
}
