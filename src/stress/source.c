// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/source.c - the checkpoint's content: a memory file, a file that is not in the page cache, a function that answers late or fails
 *
 * One file holds the content of all processes, by page number; it is kept from round to round as long as it fits. The slow and
 * the failing source are a function over the same file. Requests of a function are answered by a thread of ours. */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_SHIFT 16 /* a failing source decides by blocks of 64 KiB of addresses */
#define FAILING 2      /* about so many of a process: each costs its readers a second or more */
#define BLOCKS (1U << 16)

struct request {
	struct thaw_request *request;
	unsigned process;
	uint64_t addr, due_ns;
	size_t len;
	void *buf;
	int error;
	struct request *next;
};

/* What a function is called with. */
struct asked {
	struct stress_content_source *c;
	unsigned process;
};

struct stress_content_source {
	const struct stress_setup *u;
	const struct stress_shared *s;
	int fd;
	const unsigned char *map;    /* of a function: the file */
	uint64_t bytes;
	unsigned plant;              /* kind of the operation; 0: none */
	uint32_t planted;            /* number of the page, of process 0 */
	struct asked opaque[STRESS_MAX_PROCESSES];

	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t thread;
	bool running, ending;        /* lock */
	bool held;                   /* lock: pages are held back still */
	struct request *first, **last, *lost; /* lock: in the order of their time; those that are not answered until the end */
	unsigned char failed[BLOCKS]; /* lock: has it failed once? */
};

/* ---- the file ----------------------------------------------------------------------------------------------------------- */
static struct {
	int fd;
	bool disk;
	uint64_t seed, pages, processes;
} kept = { .fd = -1 };

void thaw_stress_content_forget(void)
{
	if (kept.fd >= 0)
		close(kept.fd);
	kept.fd = -1;
}

static int make_file(bool disk)
{
	const char *dir = getenv("TMPDIR");
	char name[512];
	int fd;

	if (!disk)
		return memfd_create("thaw-stress", MFD_CLOEXEC);
	fd = open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	snprintf(name, sizeof(name), "%s/thaw-stress-XXXXXX", dir ? dir : "/var/tmp");
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

static bool write_pages(int fd, uint64_t seed, uint64_t at, uint64_t from, uint64_t pages, const volatile int *stop)
{
	static unsigned char buf[64 * STRESS_PAGE];

	while (pages) {
		uint64_t n = pages < 64 ? pages : 64;

		for (uint64_t i = 0; i < n; i++)
			thaw_stress_fill(buf + i * STRESS_PAGE, seed, from + i, 0);
		if (pwrite(fd, buf, n * STRESS_PAGE, at * STRESS_PAGE) != (ssize_t)(n * STRESS_PAGE))
			return false;
		if (*stop) {
			errno = EINTR;
			return false;
		}
		at += n;
		from += n;
		pages -= n;
	}
	return true;
}

static bool fill_file(int fd, const struct stress_setup *u, const struct stress_shared *s, const volatile int *stop)
{
	if (ftruncate(fd, (s->file_pages + 1ULL) * STRESS_PAGE))
		return false;
	if (!thaw_stress_is_sparse(u))
		return write_pages(fd, s->seed, 0, 0, s->file_pages, stop);
	for (uint32_t i = 0; i < s->n_runs; i++)
		if (!write_pages(fd, s->seed, s->runs[i].file, (uint64_t)s->runs[i].process * s->initial_pages + s->runs[i].first,
				 s->runs[i].pages, stop))
			return false;
	return true;
}

static int content_file(const struct stress_setup *u, const struct stress_shared *s, const volatile int *stop)
{
	bool disk = u->source == STRESS_COLD;

	if (kept.fd >= 0 && kept.disk == disk && kept.seed == s->seed && kept.pages == s->initial_pages &&
	    kept.processes >= s->processes && !thaw_stress_is_sparse(u))
		return kept.fd;
	thaw_stress_content_forget();
	kept.fd = make_file(disk);
	if (kept.fd < 0)
		return -1;
	if (!fill_file(kept.fd, u, s, stop)) {
		thaw_stress_content_forget();
		return -1;
	}
	kept.disk = disk;
	kept.seed = s->seed;
	kept.pages = s->initial_pages;
	kept.processes = s->processes;
	return kept.fd;
}

/* ---- a function as a source ---------------------------------------------------------------------------------------------- */
static uint64_t base_of(const struct stress_shared *s, unsigned process, unsigned arena)
{
	return arena == STRESS_BRK ? atomic_load(&s->brk[process]) : s->base + arena * s->stride;
}

/* Content for addresses of then; what is not covered reads as zero. Called on the library's threads: asks no kernel. */
static void answer(const struct stress_content_source *c, unsigned process, uint64_t addr, size_t len, unsigned char *buf)
{
	const struct stress_shared *s = c->s;

	memset(buf, 0, len);
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct stress_run *u = &s->runs[i];
		uint64_t from = base_of(s, process, u->arena) + u->page * STRESS_PAGE, to = from + u->pages * STRESS_PAGE;
		uint64_t start = from > addr ? from : addr, end = to < addr + len ? to : addr + len;

		if (u->process != process || start >= end)
			continue;
		memcpy(buf + (start - addr),
		       c->map + u->file * STRESS_PAGE + (start - from), end - start);
	}
}

static void *answer_late(void *arg)
{
	struct stress_content_source *c = arg;

	pthread_mutex_lock(&c->lock);
	while (!c->ending || c->first) {
		struct request *r = c->first;
		uint64_t now = thaw_stress_ns();

		if (!r) {
			pthread_cond_wait(&c->more, &c->lock);
			continue;
		}
		if (r->due_ns > now && !c->ending) {
			struct timespec t = { 0, r->due_ns - now < 1000000 ? r->due_ns - now : 1000000 };

			pthread_mutex_unlock(&c->lock);
			nanosleep(&t, NULL);
			pthread_mutex_lock(&c->lock);
			continue;
		}
		c->first = r->next;
		if (!c->first)
			c->last = &c->first;
		pthread_mutex_unlock(&c->lock);
		if (!r->error)
			answer(c, r->process, r->addr, r->len, r->buf);
		thaw_complete(r->request, r->error);
		free(r);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* Once for each chosen block; then it goes well. */
static bool fails(struct stress_content_source *c, unsigned process, uint64_t addr)
{
	uint64_t h = thaw_stress_mix((addr >> BLOCK_SHIFT) + ((uint64_t)process << 48) + c->s->variety);
	uint64_t one_of = (c->u->size >> BLOCK_SHIFT) / FAILING + 1;
	bool now;

	if (c->u->source != STRESS_FAILING || h % one_of)
		return false;
	pthread_mutex_lock(&c->lock);
	now = !c->failed[h / one_of % BLOCKS];
	c->failed[h / one_of % BLOCKS] = 1;
	pthread_mutex_unlock(&c->lock);
	return now;
}

static bool covers_planted(const struct stress_content_source *c, unsigned process, uint64_t addr, size_t len)
{
	const struct stress_shared *s = c->s;

	if (c->plant != STRESS_OP_PLANT_LOST || process)
		return false;
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct stress_run *u = &s->runs[i];
		uint64_t at = base_of(s, 0, u->arena) + (u->page + (uint64_t)(c->planted - u->first)) * STRESS_PAGE;

		if (!u->process && c->planted - u->first < u->pages && at >= addr && at < addr + len)
			return true;
	}
	return false;
}

static bool is_held(const struct stress_content_source *c, uint64_t addr)
{
	return c->u->held && addr == base_of(c->s, 0, STRESS_HELD);
}

/* False: whoever answers late may have gone already, and the monitor asks until it is closed. */
static bool take_up(struct stress_content_source *c, struct request *r, bool held, bool lost)
{
	bool taken;

	pthread_mutex_lock(&c->lock);
	taken = !c->ending;
	if (taken && (held ? c->held : lost)) {
		r->next = c->lost;
		c->lost = r;
	} else if (taken) {
		*c->last = r;
		c->last = &r->next;
		pthread_cond_signal(&c->more);
	}
	pthread_mutex_unlock(&c->lock);
	return taken;
}

static int ask(void *opaque, uint64_t addr, size_t len, void *buf, struct thaw_request *request)
{
	const struct asked *o = opaque;
	struct stress_content_source *c = o->c;
	uint64_t h = thaw_stress_mix(addr ^ c->s->seed);
	bool held = is_held(c, addr), bad = !held && fails(c, o->process, addr), lost = held || covers_planted(c, o->process, addr, len);

	if (lost || h % 5) {
		struct request *r = calloc(1, sizeof(*r));

		if (!r)
			return -ENOMEM;
		*r = (struct request){ request, o->process, addr, thaw_stress_ns() + h / 5 % 400000, len, buf, bad ? EIO : 0, NULL };
		if (take_up(c, r, held, lost))
			return THAW_LATER;
		free(r);
	}
	if (!bad) /* at once, for a change */
		answer(c, o->process, addr, len, buf);
	return bad ? -EIO : 0;
}

/* ---- lies ------------------------------------------------------------------------------------------------------------------ */
static void choose_lie(struct stress_content_source *c, const struct stress_schedule *plan)
{
	const struct stress_shared *s = c->s;

	for (uint32_t k = 0; k < plan->n_ops && !c->plant; k++) {
		const struct stress_op *op = &plan->ops[k];
		uint32_t skip = op->a % 64;

		if (op->kind < STRESS_OP_PLANT_ZERO || op->kind > STRESS_OP_PLANT_UNFINISHED)
			continue;
		if (op->kind == STRESS_OP_PLANT_UNFINISHED) {
			c->plant = op->kind;
			c->planted = UINT32_MAX; /* none of theirs */
		}
		for (uint32_t i = 0; i < s->n_runs; i++) {
			const struct stress_run *u = &s->runs[i];

			if (u->process || u->arena || u->pages < 2 || op->kind == STRESS_OP_PLANT_UNFINISHED)
				continue;
			c->plant = op->kind;
			c->planted = u->first + op->b % u->pages;
			if (!skip--)
				break;
		}
	}
}

/* The page behind the last: the front half of the planted one, the rear half of its neighbour. */
static bool write_torn(struct stress_content_source *c)
{
	unsigned char buf[2 * STRESS_PAGE];

	thaw_stress_fill(buf, c->s->seed, c->planted, 0);
	thaw_stress_fill(buf + STRESS_PAGE, c->s->seed, c->planted ^ 1, 0);
	memcpy(buf + STRESS_PAGE / 2, buf + 3 * STRESS_PAGE / 2, STRESS_PAGE / 2);
	return pwrite(c->fd, buf, STRESS_PAGE, c->bytes) == (ssize_t)STRESS_PAGE;
}

uint32_t thaw_stress_content_planted(const struct stress_content_source *c)
{
	return c->plant ? c->planted : UINT32_MAX;
}

/* ---- making it ------------------------------------------------------------------------------------------------------------- */
static bool is_function(const struct stress_content_source *c)
{
	if (c->plant && c->plant != STRESS_OP_PLANT_LOST && c->plant != STRESS_OP_PLANT_UNFINISHED)
		return false; /* those lies are told by a file's table */
	return c->u->source == STRESS_SLOW || c->u->source == STRESS_FAILING || c->plant;
}

struct stress_content_source *thaw_stress_content_new(const struct stress_setup *u, const struct stress_shared *s,
						      const struct stress_schedule *plan, const volatile int *stop, char *why,
						      size_t size)
{
	struct stress_content_source *c = calloc(1, sizeof(*c));

	if (!c) {
		snprintf(why, size, "no memory");
		return NULL;
	}
	c->u = u;
	c->s = s;
	c->last = &c->first;
	c->bytes = s->file_pages * STRESS_PAGE;
	choose_lie(c, plan);
	c->fd = content_file(u, s, stop);
	if (c->fd < 0 || (c->plant == STRESS_OP_PLANT_TORN && !write_torn(c))) {
		snprintf(why, size, "the content cannot be written: %s", strerror(errno));
		free(c);
		return NULL;
	}
	if (u->source == STRESS_COLD) {
		fdatasync(c->fd);
		(void)posix_fadvise(c->fd, 0, 0, POSIX_FADV_DONTNEED); /* refused: then it is a warm one */
	}
	if (!is_function(c))
		return c;
	c->map = mmap(NULL, c->bytes, PROT_READ, MAP_SHARED, c->fd, 0);
	if (c->map == MAP_FAILED) {
		snprintf(why, size, "the content cannot be mapped: %s", strerror(errno));
		free(c);
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	c->held = u->held;
	c->running = pthread_create(&c->thread, NULL, answer_late, c) == 0;
	if (!c->running) {
		snprintf(why, size, "no thread for the source");
		thaw_stress_content_free(c);
		return NULL;
	}
	return c;
}

static struct thaw_memfile_range *add(struct thaw_memfile_range *r, uint64_t addr, uint64_t from, uint64_t pages, uint64_t off)
{
	if (pages)
		*r++ = (struct thaw_memfile_range){ addr + from * STRESS_PAGE, pages * STRESS_PAGE, off };
	return r;
}

struct thaw_source *thaw_stress_content_source(struct stress_content_source *c, unsigned process)
{
	const struct stress_shared *s = c->s;
	struct thaw_memfile_range *ranges, *r;
	struct thaw_source *source;

	if (c->map) {
		c->opaque[process].c = c;
		c->opaque[process].process = process;
		return thaw_source_callback(ask, &c->opaque[process]);
	}
	r = ranges = calloc(s->n_runs + 3, sizeof(*ranges));
	if (!ranges)
		return NULL;
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct stress_run *u = &s->runs[i];
		uint64_t addr = base_of(s, process, u->arena) + u->page * STRESS_PAGE;
		uint64_t off = u->file * STRESS_PAGE;
		uint32_t at = c->planted - u->first;

		if (u->process != process)
			continue;
		if (!c->plant || process || at >= u->pages) {
			r = add(r, addr, 0, u->pages, off);
			continue;
		}
		r = add(r, addr, 0, at, off);
		if (c->plant == STRESS_OP_PLANT_WRONG)
			r = add(r, addr, at, 1, ((u->file + at) ^ 1ULL) * STRESS_PAGE);
		if (c->plant == STRESS_OP_PLANT_TORN)
			r = add(r, addr, at, 1, c->bytes);
		r = add(r, addr, at + 1, u->pages - at - 1, off + (at + 1) * STRESS_PAGE);
	}
	source = thaw_source_memfile(c->fd, ranges, r - ranges);
	free(ranges);
	return source;
}

/* With the lock. */
static void answer_lost(struct stress_content_source *c, bool held)
{
	for (struct request **at = &c->lost, *r; (r = *at);) {
		if (is_held(c, r->addr) != held) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		r->next = NULL;
		r->error = held ? 0 : EIO;
		*c->last = r;
		c->last = &r->next;
	}
	pthread_cond_signal(&c->more);
}

void thaw_stress_content_release(struct stress_content_source *c)
{
	if (!c->map || !c->running || c->plant == STRESS_OP_PLANT_UNFINISHED)
		return;
	pthread_mutex_lock(&c->lock);
	c->held = false;
	answer_lost(c, true);
	pthread_mutex_unlock(&c->lock);
}

void thaw_stress_content_drain(struct stress_content_source *c)
{
	if (!c->map || !c->running)
		return;
	pthread_mutex_lock(&c->lock);
	c->held = false;
	c->ending = true;
	answer_lost(c, true);
	answer_lost(c, false);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	c->running = false;
}

void thaw_stress_content_free(struct stress_content_source *c)
{
	if (!c)
		return;
	thaw_stress_content_drain(c);
	if (c->map) {
		munmap((void *)(uintptr_t)c->map, c->bytes);
		pthread_mutex_destroy(&c->lock);
		pthread_cond_destroy(&c->more);
	}
	free(c);
}
