// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_kvm.c - a real second MMU: a small virtual machine whose memory is a range that is being restored lazily.
 *
 * The worker makes a machine which adds up the words of a segment. Its memory is absent at first, so the machine's own faults bring
 * it in; then the worker discards parts, moves others in and forks, and the machine, whose translations are dropped by the kernel,
 * must see the new content every time; in test_kvm_subscriber it is a subscriber that drops them. Skipped where /dev/kvm does not run such
 * a machine. */
#include "config.h"
#include "support/live.h"
#include "support/machine.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED 91
#define SEGMENTS MACHINE_SEGMENTS
#define SEGMENT MACHINE_SEGMENT
#define BYTES (SEGMENTS * SEGMENT)
#define SPARES (LIVE_BASE + (1ULL << 30))

/* ---- what it must see ------------------------------------------------------------------------------------------ */
static unsigned char expected[BYTES];

static void *host(uint64_t at)
{
	return (void *)(uintptr_t)(LIVE_BASE + at);
}

static void check(unsigned segment, const char *when)
{
	uint32_t sum = 0;
	int why = machine_sum(segment, &sum);

	if (why)
		LIVE_DIE("%s: the machine ends with %d", when, why);
	if (sum != machine_sum_of(expected + segment * SEGMENT))
		LIVE_DIE("%s: the machine sees another content in segment %u than there is", when, segment);
}

static void discard(uint64_t at, uint64_t bytes)
{
	if (madvise(host(at), bytes, MADV_DONTNEED))
		LIVE_DIE("madvise: %s", strerror(errno));
	memset(expected + at, 0, bytes);
}

static void move_in(uint64_t at, uint64_t spare)
{
	if (mremap((void *)(uintptr_t)(SPARES + spare), LIVE_PAGE, LIVE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, host(at)) == MAP_FAILED)
		LIVE_DIE("mremap: %s", strerror(errno));
	live_fill(expected + at, SEED, SPARES + spare, 0);
}

static _Atomic bool stop;

static void *run_on(void *arg)
{
	uint32_t sum;

	while (!stop) /* translations are made all the time while they become void */
		for (unsigned i = 0; i < SEGMENTS && !stop; i++)
			if (machine_sum(i, &sum))
				LIVE_DIE("the machine stops");
	return NULL;
}

static int work(void *arg, int sock)
{
	uint64_t rnd = 3, spare = 0;
	int why = machine_make(), status;
	pthread_t t;
	pid_t child;

	if (why)
		return why;
	for (unsigned i = 0; i < SEGMENTS; i++)
		LIVE_CHECK(!machine_set(i, LIVE_BASE + i * SEGMENT));
	for (uint64_t at = 0; at < BYTES; at += LIVE_PAGE)
		live_fill(expected + at, SEED, LIVE_BASE + at, 0);
	check(0, "restored by the machine's own faults");
	discard(0, SEGMENT / 2);
	check(0, "discarded after it was seen");
	discard(SEGMENT, SEGMENT / 4);
	check(1, "discarded before it was seen");
	move_in(SEGMENT / 2, spare++ * LIVE_PAGE);
	check(0, "absent memory moved in");
	child = fork();
	if (!child)
		_exit(memcmp(host(0), expected, SEGMENT) != 0);
	*(uint32_t *)host(MACHINE_STEP) = 0x12345678; /* a copy is made: the machine's translation was that of the child */
	memcpy(expected + MACHINE_STEP, &(uint32_t){ 0x12345678 }, 4);
	check(0, "written after a fork");
	if (waitpid(child, &status, 0) != child || status)
		LIVE_DIE("the child sees another content");
	for (unsigned round = 0; round < 5; round++) {
		stop = false;
		pthread_create(&t, NULL, run_on, NULL);
		for (unsigned i = 0; i < 10; i++) {
			uint64_t at = live_random(&rnd) % (BYTES / LIVE_PAGE) * LIVE_PAGE;

			if (i % 2)
				discard(at, LIVE_PAGE);
			else
				move_in(at, spare++ * LIVE_PAGE);
		}
		stop = true;
		pthread_join(t, NULL);
		for (unsigned i = 0; i < SEGMENTS; i++)
			check(i, "after changes beside the running machine");
	}
	return 0;
}

static int run(enum thaw_background policy)
{
	struct thaw_range r[2] = { { LIVE_BASE, BYTES, THAW_KIND_ANON, 3, 0 }, { SPARES, 100 * LIVE_PAGE, THAW_KIND_ANON, 3, 0 } };
	struct thaw_memfile_range file[2];
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, policy);
	struct thaw_source *s;
	struct live l;
	int fd, status;

	live_start(&l, r, 2, work, NULL);
	fd = live_file(false, SEED, r, 2, file);
	s = thaw_source_memfile(fd, file, 2);
	live_add(h, &l, s, r, 2);
	thaw_source_close(s);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	status = live_end(&l);
	if (status && status != MACHINE_NOT_HERE)
		LIVE_DIE("policy %d: the worker ended with %d", policy, status);
	LIVE_OK(thaw_wait(h, 0, 60000));
	thaw_close(h);
	close(fd);
	return status;
}

int main(void)
{
	int status;

	alarm(250);
	status = run(THAW_BACKGROUND_STAY_LAZY);
	return status ? status : run(THAW_BACKGROUND_RUN);
}
