// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_follow.c - what a thread will touch next comes before its turn: what the objects point to that it goes through, and the
 * spans in which it waits again and again. */
#include "config.h"
#include "support/live.h"

#include <sys/mman.h>
#include <unistd.h>

#include "support/patience.h"

#define SIZE (512UL << 20)
#define NAMED 0x656d616e6120656dUL /* points nowhere */

static uint64_t *word(uint64_t addr)
{
	return (uint64_t *)addr;
}

static void write_word(int fd, uint64_t addr, uint64_t value)
{
	LIVE_CHECK(pwrite(fd, &value, sizeof(value), (off_t)(addr - LIVE_BASE)) == sizeof(value));
}

/* What was seen when fn had run in a process whose memory is the file's. */
static struct thaw_stats run(int fd, live_fn *fn, enum thaw_background policy, unsigned around)
{
	const struct thaw_range r = { LIVE_BASE, SIZE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	const struct thaw_memfile_range at = { LIVE_BASE, SIZE, 0 };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, policy);
	struct thaw_source *s = thaw_source_memfile(fd, &at, 1);
	struct thaw_stats st;
	struct live l;

	LIVE_CHECK(s);
	LIVE_OK(thaw_set_read_around(h, around));
	live_start(&l, &r, 1, fn, NULL);
	live_add(h, &l, s, &r, 1);
	live_go(&l); /* its first fault waits for the monitor */
	LIVE_OK(thaw_start(h));
	LIVE_CHECK(live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(20000)));
	st = live_stats(h, 0);
	thaw_close(h);
	thaw_source_close(s);
	return st;
}

/* ---- chains: slots of a table point to entries { name, value, later }; each of them on a page of its own ---------- */
#define ENTRIES 1000
enum { SLOT, ENTRY, NAME, VALUE, LATER, KINDS };

static uint64_t place(unsigned kind, unsigned i)
{
	return LIVE_BASE + ((uint64_t)kind * ENTRIES + i * 389UL % ENTRIES) * 3 * LIVE_PAGE + 8UL * (i % 100) + 64;
}

static void write_chains(int fd)
{
	for (unsigned i = 0; i < ENTRIES; i++) {
		uint64_t entry = place(ENTRY, i);

		write_word(fd, place(SLOT, i), entry);
		write_word(fd, entry, place(NAME, i) + 3); /* a string behind its length */
		write_word(fd, entry + 8, place(VALUE, i));
		write_word(fd, entry + 16, place(LATER, i));
		write_word(fd, place(NAME, i), NAMED);
		write_word(fd, place(VALUE, i), i + 1);
		write_word(fd, place(LATER, i), i + 2);
	}
}

static int look_up(void *arg, int sock)
{
	(void)arg;
	(void)sock;
	for (unsigned k = 0; k < ENTRIES; k++) {
		unsigned i = k * 709 % ENTRIES;
		uint64_t entry = *word(place(SLOT, i));

		if (*word(*word(entry) - 3) != NAMED || *word(*word(entry + 8)) != i + 1 || *word(*word(entry + 16)) != i + 2)
			return 1;
	}
	return 0;
}

/* Slot and entry have to be waited for; what the entry points to comes with it, one page at least, and more unless the thread is faster. */
static void test_chains(int fd)
{
	struct thaw_stats off = run(fd, look_up, THAW_BACKGROUND_STAY_LAZY, 0);
	struct thaw_stats on = run(fd, look_up, THAW_BACKGROUND_STAY_LAZY, 16);

	printf("%u look-ups: %llu pages for faults, with chains %llu and %llu beside them\n", ENTRIES,
	       (unsigned long long)off.pages_fault, (unsigned long long)on.pages_fault, (unsigned long long)on.pages_around);
	LIVE_CHECK(off.pages_fault == ENTRIES * KINDS && off.pages_around == 0);
	LIVE_CHECK(on.pages_fault + on.pages_around >= ENTRIES * KINDS && on.pages_around >= ENTRIES * 3 / 4);
	LIVE_CHECK(on.pages_around < ENTRIES * 4); /* not all that looks like a pointer */
}

/* ---- heat: a table at the end of the memory, which copiers reach last --------------------------------------------- */
#define TABLE_PAGES 2048
#define TABLE (LIVE_BASE + SIZE - TABLE_PAGES * LIVE_PAGE)

static int use_table(void *arg, int sock)
{
	uint64_t state = 5;

	(void)arg;
	(void)sock;
	for (unsigned i = 0; i < TABLE_PAGES * 4; i++)
		if (*word(TABLE + live_random(&state) % TABLE_PAGES * LIVE_PAGE) != 0)
			return 1;
	return 0;
}

static void test_heat(int fd)
{
	uint64_t least = UINT64_MAX;

	/* It takes the copier a moment, in which others may have its CPU. */
	for (unsigned i = 0; i < 3 && least >= TABLE_PAGES * 3 / 4; i++) {
		struct thaw_stats st = run(fd, use_table, THAW_BACKGROUND_RUN, 0);

		printf("a table of %u pages, looked at at random: %llu faults\n", TABLE_PAGES, (unsigned long long)st.faults);
		least = st.faults < least ? st.faults : least;
	}
	LIVE_CHECK(least < TABLE_PAGES * 3 / 4);
}

int main(void)
{
	int fd;

	alarm(patience(120));
	if (thaw_probe() < 0) {
		printf("test_follow: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	fd = memfd_create("content", MFD_CLOEXEC);
	LIVE_CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
	write_chains(fd);
	test_chains(fd);
	test_heat(fd);
	close(fd);
	return 0;
}
