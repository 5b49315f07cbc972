// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_ended_awake.c - the last page comes while the reader sleeps as owner, having just served a fault: it is woken, the space
 * ends at once, and when that is told the memory is the process's own: another userfaultfd may have it.
 *
 * The sleep lasts as long as the sleeper's silence, so a space whose end waits for it, or whose userfaultfd is still polled, is
 * late by that. */
#include "config.h"
#include "support/live.h"
#include "support/patience.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kern/sys.h"
#include "kern/uffd.h"

#define SEED 43
#define PAGES 64 /* the background asks for all of them at once */
#define ROUNDS 25
#define LATE_NS 15000000ULL /* the reader's sleep lasts 20 ms */

static _Atomic uint64_t told_ns;

static void event(void *opaque, const struct thaw_event_info *info)
{
	if (info->event == THAW_EVENT_FINISHED)
		atomic_store(&told_ns, thaw_sys_now_ns());
}

/* ---- the source: the background's one read is answered when the test says so ------------------------------------------------ */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct thaw_request *held;
static unsigned char *held_buf;

static void fill(uint64_t addr, size_t len, unsigned char *buf)
{
	for (size_t i = 0; i < len; i += LIVE_PAGE)
		live_fill(buf + i, SEED, addr + i, 0);
}

static int ask(void *opaque, uint64_t addr, size_t len, void *buf, struct thaw_request *request)
{
	if (len < PAGES * LIVE_PAGE) {
		fill(addr, len, buf);
		return 0;
	}
	pthread_mutex_lock(&lock);
	held = request;
	held_buf = buf;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return THAW_LATER;
}

/* ---- the process: one fault, and then the question whose its memory is ------------------------------------------------------ */
static int work(void *arg, int sock)
{
	struct uffdio_register reg = { .range = { LIVE_BASE, PAGES * LIVE_PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	char byte = 'd';
	int fd;

	if (!live_is(LIVE_BASE + 5 * LIVE_PAGE, 1, SEED, 0) || write(sock, &byte, 1) != 1 || read(sock, &byte, 1) != 1)
		return 1;
	fd = thaw_uffd_open_features(0, NULL);
	if (fd < 0)
		return 2;
	return ioctl(fd, UFFDIO_REGISTER, &reg) ? 3 : 0;
}

static bool is_late(void)
{
	const struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_RUN);
	struct thaw_source *s = thaw_source_callback(ask, NULL);
	uint64_t came_ns;
	struct live l;
	char byte;
	int status;

	held = NULL;
	LIVE_OK(thaw_set_event(h, event, NULL));
	live_start(&l, &r, 1, work, NULL);
	live_add(h, &l, s, &r, 1);
	LIVE_OK(thaw_start(h));
	pthread_mutex_lock(&lock);
	while (!held)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	live_go(&l);
	LIVE_CHECK(read(l.sock, &byte, 1) == 1); /* its fault has been served */
	fill(LIVE_BASE, PAGES * LIVE_PAGE, held_buf);
	came_ns = thaw_sys_now_ns();
	thaw_complete(held, 0);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	LIVE_CHECK(write(l.sock, "g", 1) == 1);
	status = live_end(&l);
	if (status)
		LIVE_DIE("the worker ended with %d", status);
	LIVE_CHECK(live_stats(h, 0).faults >= 1);
	thaw_close(h);
	thaw_source_close(s);
	return atomic_load(&told_ns) > came_ns + LATE_NS;
}

int main(void)
{
	unsigned late = 0;

	alarm(patience(60));
	if (thaw_probe() < 0) {
		printf("test_ended_awake: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (unsigned i = 0; i < ROUNDS; i++)
		late += is_late();
	printf("%u of %u ends were told late\n", late, ROUNDS);
	return late > ROUNDS / 2 && patience(1) == 1; /* where all is slower, three threads may take that long */
}
