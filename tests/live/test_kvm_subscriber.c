// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_kvm_subscriber.c - a real second MMU whose translations a subscriber drops and makes again.
 *
 * The process has a virtual machine whose segments are parts of its lazily restored memory. It discards pages, moves others in,
 * forks, and moves whole segments about. What the machine has in a segment is to follow its memory: so the kernel's own notifier,
 * which only forgets, is not enough. The subscriber (in the monitor's process) keeps where each segment is and what each page holds,
 * by the changes that it is told. begin takes the slots of what changes from the machine, and waits until they are gone; a viewer
 * sets them again by the rule of sample and retry, and lets the machine add segments up. A sum in whose time nothing changed must be
 * that of the content known then. And when the process stands still what it knows itself must be what the subscriber knows, and
 * what the machine sees. Without the dropping, and without the retry, that must be found wrong. Skipped where /dev/kvm does not run
 * such a machine. */
#include "config.h"
#include "support/live.h"
#include "support/machine.h"
#include "support/patience.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED 93
#define SEGMENTS MACHINE_SEGMENTS
#define SEGMENT MACHINE_SEGMENT
#define IN_SEGMENT (SEGMENT / LIVE_PAGE)
#define STAY 4 /* the first ones stay where they are: pages are moved into them, and then they are no single mapping any more */
#define ASIDE (LIVE_BASE + (1ULL << 29))
#define SPARES (LIVE_BASE + (1ULL << 30))
#define SPARE 200
#define OPS 10
#define ZERO 0 /* else the address of a page's content in the image */
#define GONE 1

static void *at(uint64_t a)
{
	return (void *)(uintptr_t)a;
}

/* Where the segments are and what is in their pages. */
struct layout {
	uint64_t host[SEGMENTS], from[SEGMENTS][IN_SEGMENT];
};

static void lay_out(struct layout *l)
{
	for (unsigned i = 0; i < SEGMENTS; i++) {
		l->host[i] = LIVE_BASE + i * SEGMENT;
		for (unsigned k = 0; k < IN_SEGMENT; k++)
			l->from[i][k] = l->host[i] + k * LIVE_PAGE;
	}
}

/* ---- the process -------------------------------------------------------------------------------------------------- */
struct ask {
	char what; /* s: set the segment, x: take it away, a: add it up */
	unsigned segment;
	uint64_t host;
};

struct answer {
	int why;
	uint32_t sum;
};

struct wires { /* [0] is the test's end */
	int view[2], drop[2];
	struct layout *known; /* shared: the process's own word on it */
};

static void *serve_viewer(void *arg)
{
	struct wires *w = arg;
	struct ask q;

	while (read(w->view[1], &q, sizeof(q)) == sizeof(q)) {
		struct answer a = { 0 };

		a.why = q.what == 's' ? machine_set(q.segment, q.host) : q.what == 'x' ? machine_drop(1u << q.segment) :
			machine_sum(q.segment, &a.sum);
		if (write(w->view[1], &a, sizeof(a)) != sizeof(a))
			break;
	}
	return NULL;
}

static void *serve_begin(void *arg)
{
	struct wires *w = arg;
	uint32_t segments;

	while (read(w->drop[1], &segments, sizeof(segments)) == sizeof(segments)) {
		int err = machine_drop(segments);

		if (write(w->drop[1], &err, sizeof(err)) != sizeof(err))
			break;
	}
	return NULL;
}

static void move(uint64_t from, uint64_t to, uint64_t bytes)
{
	if (mremap(at(from), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at(to)) == MAP_FAILED)
		LIVE_DIE("mremap: %s", strerror(errno));
}

static void swap_segments(struct layout *l, unsigned a, unsigned b)
{
	uint64_t there = l->host[a];

	move(l->host[a], ASIDE, SEGMENT);
	move(l->host[b], l->host[a], SEGMENT);
	move(ASIDE, l->host[b], SEGMENT);
	l->host[a] = l->host[b];
	l->host[b] = there;
}

static void change(struct layout *l, uint64_t *rnd, unsigned *spare)
{
	for (unsigned i = 0; i < OPS; i++) {
		unsigned s = live_random(rnd) % SEGMENTS, k = live_random(rnd) % IN_SEGMENT;

		usleep(live_random(rnd) % 10000); /* what stands for a while is looked at */
		switch (live_random(rnd) % 3) {
		case 0:
			if (madvise(at(l->host[s] + k * LIVE_PAGE), LIVE_PAGE, MADV_DONTNEED))
				LIVE_DIE("madvise: %s", strerror(errno));
			l->from[s][k] = ZERO;
			break;
		case 1:
			if (*spare == SPARE)
				break;
			s %= STAY;
			l->from[s][k] = SPARES + (*spare)++ * LIVE_PAGE;
			move(l->from[s][k], l->host[s] + k * LIVE_PAGE, LIVE_PAGE);
			break;
		default:
			s = STAY + s % (SEGMENTS - STAY);
			swap_segments(l, s, s + 1 < SEGMENTS ? s + 1 : STAY);
		}
	}
}

static int work(void *arg, int sock)
{
	int why = machine_make();
	struct wires *w = arg;
	unsigned spare = 0;
	uint64_t rnd = 7;
	pthread_t t[2];
	char c = 0;

	if (why)
		return why;
	close(w->view[0]);
	close(w->drop[0]);
	pthread_create(&t[0], NULL, serve_viewer, w);
	pthread_create(&t[1], NULL, serve_begin, w);
	if (write(sock, "m", 1) != 1)
		return 4;
	for (unsigned round = 0; read(sock, &c, 1) == 1 && c == 'r'; round++) {
		pid_t child = round % 4 ? -1 : fork();
		int status = 0;

		if (!child)
			_exit(0);
		change(w->known, &rnd, &spare);
		if (child > 0 && (waitpid(child, &status, 0) != child || status))
			return 3;
		if (write(sock, "d", 1) != 1)
			return 4;
	}
	return 0;
}

/* ---- the subscriber ------------------------------------------------------------------------------------------------ */
enum rule { RIGHT, NO_RETRY, NO_DROP };

static struct {
	pthread_mutex_t lock;
	struct thaw_subscriber *sub;
	enum rule rule;
	int64_t space;
	int view, drop;
	struct layout now; /* by what was told */
	uint32_t kept;     /* segments that the machine has, and that are kept */
	bool stop;
	bool lingers;      /* the viewer, between looking up and setting, until the process stands still */
	unsigned set, again, dropped, sums, void_sums, holes, wrong;
} table;

/* The segments that have a page there, which holds `from` from now on; a run of the image if that is an address. */
static uint32_t mark(uint64_t address, uint64_t length, uint64_t from)
{
	uint32_t segments = 0;

	for (unsigned i = 0; i < SEGMENTS; i++) {
		for (unsigned k = 0; k < IN_SEGMENT; k++) {
			uint64_t page = table.now.host[i] + k * LIVE_PAGE;

			if (page < address || page - address >= length)
				continue;
			table.now.from[i][k] = from <= GONE ? from : from + (page - address);
			segments |= 1u << i;
		}
	}
	return segments;
}

static uint32_t follow(const struct thaw_change_info *c)
{
	uint32_t segments = 0;

	switch (c->change) {
	case THAW_CHANGED_DISCARDED:
		return mark(c->address, c->length, ZERO);
	case THAW_CHANGED_UNMAPPED:
		return mark(c->address, c->length, GONE);
	case THAW_CHANGED_MOVED:
		if (c->address >= SPARES)
			return mark(c->to, c->length, c->address);
		segments = mark(c->to, c->length, GONE);
		for (unsigned i = 0; i < SEGMENTS; i++) {
			if (table.now.host[i] < c->address || table.now.host[i] - c->address >= c->length)
				continue;
			table.now.host[i] += c->to - c->address;
			segments |= 1u << i;
		}
		return segments;
	default:
		return (1u << SEGMENTS) - 1;
	}
}

static void begin(void *opaque, const struct thaw_change_info *c, size_t n)
{
	uint32_t segments = 0;
	int err = 0;

	if (c->space != table.space || c->change == THAW_CHANGED_ENDED)
		return;
	pthread_mutex_lock(&table.lock);
	for (size_t i = 0; i < n; i++)
		segments |= follow(&c[i]);
	segments &= table.rule == NO_DROP ? 0 : table.kept;
	table.kept &= ~segments;
	table.dropped += __builtin_popcount(segments);
	pthread_mutex_unlock(&table.lock);
	if (segments) /* it sleeps until they are gone */
		LIVE_CHECK(write(table.drop, &segments, sizeof(segments)) == sizeof(segments) &&
			   read(table.drop, &err, sizeof(err)) == sizeof(err) && !err);
}

static struct answer ask(char what, unsigned segment, uint64_t host)
{
	struct ask q = { what, segment, host };
	struct answer a;

	LIVE_CHECK(write(table.view, &q, sizeof(q)) == sizeof(q) && read(table.view, &a, sizeof(a)) == sizeof(a));
	return a;
}

static bool is_over(void)
{
	bool over;

	pthread_mutex_lock(&table.lock);
	over = table.stop;
	pthread_mutex_unlock(&table.lock);
	return over;
}

/* The machine gets the segment, if that is right for as long as it has it. */
static bool establish(unsigned segment)
{
	uint64_t seq = thaw_subscriber_sample(table.sub), host;
	bool kept;
	int why;

	pthread_mutex_lock(&table.lock);
	host = table.now.host[segment];
	kept = table.kept & 1u << segment;
	pthread_mutex_unlock(&table.lock);
	if (kept)
		return true;
	while (table.lingers && !is_over()) /* what is wrong is wrong for long */
		usleep(200);
	why = ask('s', segment, host).why;
	if (why == MACHINE_LOST) /* begin has it on its list, and has not come to it */
		return false;
	LIVE_CHECK(!why);
	pthread_mutex_lock(&table.lock);
	kept = table.rule == NO_RETRY || !thaw_subscriber_retry(table.sub, seq);
	if (kept)
		table.kept |= 1u << segment;
	table.set += kept;
	table.again += !kept;
	pthread_mutex_unlock(&table.lock);
	if (!kept)
		LIVE_CHECK(!ask('x', segment, 0).why);
	return kept;
}

/* What the segment must add up to by the layout. False: a page of it is being replaced. */
static bool expect(const struct layout *l, unsigned segment, uint32_t *sum)
{
	static unsigned char content[SEGMENT];

	for (unsigned k = 0; k < IN_SEGMENT; k++) {
		if (l->from[segment][k] == GONE)
			return false;
		if (l->from[segment][k] == ZERO)
			memset(content + k * LIVE_PAGE, 0, LIVE_PAGE);
		else
			live_fill(content + k * LIVE_PAGE, SEED, l->from[segment][k], 0);
	}
	*sum = machine_sum_of(content);
	return true;
}

/* One sum by the machine. False: it counts for nothing, since something changed meanwhile, or the memory has gone already and its
 * begin is to come. */
static bool view(unsigned segment)
{
	uint32_t want = 0;
	struct answer a;
	uint64_t seq;
	bool known;

	if (!establish(segment))
		return false;
	seq = thaw_subscriber_sample(table.sub);
	pthread_mutex_lock(&table.lock);
	known = expect(&table.now, segment, &want);
	pthread_mutex_unlock(&table.lock);
	a = ask('a', segment, 0);
	if (thaw_subscriber_retry(table.sub, seq) || a.why == MACHINE_LOST || !known) {
		table.void_sums++;
		return false;
	}
	if (a.why == -EFAULT) {
		table.holes++;
		return false;
	}
	if (a.why)
		LIVE_DIE("the machine ends with %d", a.why);
	table.sums++;
	if (a.sum == want)
		return true;
	if (!table.wrong++ && table.rule == RIGHT)
		fprintf(stderr, "segment %u: the machine sees another content than there is\n", segment);
	return true;
}

static void *look_on(void *arg)
{
	uint64_t rnd = 11;

	while (!is_over())
		if (!view(live_random(&rnd) % SEGMENTS))
			usleep(50);
	return NULL;
}

/* The process stands still, and nobody looks on: one word on everything, the process's, the subscriber's and the machine's. */
static void compare(const struct layout *known)
{
	time_t until = time(NULL) + patience(table.rule == RIGHT ? 20 : 1);

	while (thaw_subscriber_retry(table.sub, thaw_subscriber_sample(table.sub)))
		usleep(100);
	LIVE_CHECK(!memcmp(known, &table.now, sizeof(*known)));
	for (unsigned i = 0; i < SEGMENTS; i++) {
		while (!view(i)) {
			if (time(NULL) <= until)
				continue;
			table.wrong++; /* a hole for good */
			break;
		}
	}
}

static unsigned run(enum rule rule, unsigned rounds)
{
	struct thaw_range r[2] = { { LIVE_BASE, SEGMENTS * SEGMENT, THAW_KIND_ANON, 3, 0 },
				   { SPARES, (SPARE + 1) * LIVE_PAGE, THAW_KIND_ANON, 3, 0 } };
	struct thaw_subscriber_ops ops = { sizeof(ops), begin, NULL };
	struct thaw *h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	struct thaw_memfile_range file[2];
	struct thaw_source *s;
	struct wires w;
	struct live l;
	char c = 0;
	int fd;

	LIVE_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w.view));
	LIVE_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w.drop));
	w.known = mmap(NULL, sizeof(*w.known), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	LIVE_CHECK(w.known != MAP_FAILED);
	lay_out(w.known);
	memset(&table, 0, sizeof(table));
	pthread_mutex_init(&table.lock, NULL);
	lay_out(&table.now);
	table.rule = rule;
	table.view = w.view[0];
	table.drop = w.drop[0];
	live_start(&l, r, 2, work, &w);
	close(w.view[1]);
	close(w.drop[1]);
	fd = live_file(false, SEED, r, 2, file);
	s = thaw_source_memfile(fd, file, 2);
	table.space = live_add(h, &l, s, r, 2);
	thaw_source_close(s);
	LIVE_CHECK(table.sub = thaw_subscribe(h, table.space, &ops, NULL));
	LIVE_OK(thaw_start(h));
	live_go(&l);
	if (read(l.sock, &c, 1) != 1 || c != 'm') {
		int status = live_end(&l);

		if (status != MACHINE_NOT_HERE)
			LIVE_DIE("the worker ended with %d", status);
		exit(status);
	}
	for (unsigned i = 0; i < rounds && (rule == RIGHT || !table.wrong); i++) {
		pthread_t t;

		table.stop = false;
		table.lingers = rule == NO_RETRY || i % 2;
		pthread_create(&t, NULL, look_on, NULL);
		LIVE_CHECK(write(l.sock, "r", 1) == 1 && read(l.sock, &c, 1) == 1 && c == 'd');
		pthread_mutex_lock(&table.lock);
		table.stop = true;
		pthread_mutex_unlock(&table.lock);
		pthread_join(t, NULL);
		compare(w.known);
	}
	LIVE_CHECK(write(l.sock, "e", 1) == 1 && live_end(&l) == 0);
	LIVE_OK(thaw_wait(h, 0, patience(60000)));
	thaw_unsubscribe(table.sub);
	thaw_close(h);
	printf("rule %d: segments set %u times, %u times in vain, dropped %u times; %u sums, %u void ones, %u in holes; wrong: %u\n", rule, table.set,
	       table.again, table.dropped, table.sums, table.void_sums, table.holes, table.wrong);
	LIVE_CHECK(rule != RIGHT || (table.dropped && table.set && table.sums >= rounds * SEGMENTS));
	munmap(w.known, sizeof(*w.known));
	close(w.view[0]);
	close(w.drop[0]);
	close(fd);
	return table.wrong;
}

int main(int argc, char **argv)
{
	alarm(patience(250));
	LIVE_CHECK(run(RIGHT, argc > 1 ? atoi(argv[1]) : 10) == 0);
	LIVE_CHECK(run(NO_DROP, 20) > 0);
	LIVE_CHECK(run(NO_RETRY, 40) > 0);
	return 0;
}
