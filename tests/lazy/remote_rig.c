// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/remote_rig.c - the parts that every test of remote pages needs */
#include "config.h"
#include "lazy/remote_rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/image.h"

_Atomic unsigned rig_lost, rig_found, rig_failed, rig_errors;
char rig_line[512];

static void log_line(void *opaque, enum thaw_log_level level, const char *line)
{
	if (level == THAW_LOG_ERROR) {
		snprintf(rig_line, sizeof(rig_line), "%s", line);
		rig_errors++;
	}
	if (level == THAW_LOG_ERROR || getenv("LIVE_VERBOSE"))
		fprintf(stderr, "%s\n", line);
}

static void changed(void *opaque, const struct thaw_pageserver_event *e)
{
	if (e->size != sizeof(*e) || !e->why)
		LIVE_DIE("an event without its parts");
	if (e->state == THAW_PAGESERVER_LOST)
		rig_lost++;
	else if (e->state == THAW_PAGESERVER_FAILED)
		rig_failed++;
	else if (e->state == THAW_PAGESERVER_CONNECTED)
		rig_found++;
}

void rig_begin(struct rig *r, uint64_t pages, bool wide)
{
	*r = (struct rig){
		.range = { LIVE_BASE, pages * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 },
		.pages = pages,
		.wide = wide,
		.flags = THAW_PE_LAZY,
		.options = {
			.size = sizeof(r->options), .address = "127.0.0.1", .socket = -1, .log = log_line,
			.log_most = THAW_LOG_DEBUG, .changed = changed,
		},
	};
	scratch_begin(&r->dir);
}

void rig_images(struct rig *r)
{
	static struct bytes b;
	char name[64];

	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	for (uint64_t at = 0; at < r->pages; at += RIG_ENTRY)
		bytes_entry(&b, r->range.address + at * LIVE_PAGE, r->pages - at < RIG_ENTRY ? r->pages - at : RIG_ENTRY, r->flags,
			    r->wide);
	snprintf(name, sizeof(name), "pagemap-%d.img", RIG_PID);
	scratch_put(&r->dir, name, b.at, b.len);
}

void rig_index(struct rig *r, unsigned tasks)
{
	static struct bytes b, one;

	bytes_magic(&b, THAW_IMAGE_INVENTORY_MAGIC);
	bytes_u32(&b, 4);
	bytes_field(&b, 1, 2);
	bytes_field(&b, 2, 1);
	scratch_put(&r->dir, "inventory.img", b.at, b.len);
	bytes_magic(&b, THAW_IMAGE_PSTREE_MAGIC);
	for (unsigned i = 0; i < tasks; i++) {
		one.len = 0;
		bytes_field(&one, 1, RIG_PID + i);
		bytes_field(&one, 2, 0);
		bytes_field(&one, 3, RIG_PID);
		bytes_field(&one, 4, RIG_PID);
		bytes_field(&one, 5, RIG_PID + i);
		bytes_u32(&b, (uint32_t)one.len);
		memcpy(b.at + b.len, one.at, one.len);
		b.len += one.len;
	}
	scratch_put(&r->dir, "pstree.img", b.at, b.len);
}

void rig_pages_file(struct scratch *dir, uint64_t addr, uint64_t pages)
{
	unsigned char page[LIVE_PAGE];
	int fd;

	scratch_size(dir, "pages-1.img", 0);
	fd = openat(dir->fd, "pages-1.img", O_WRONLY | O_CLOEXEC);
	for (uint64_t i = 0; i < pages; i++) {
		live_fill(page, RIG_SEED, addr + i * LIVE_PAGE, 0);
		if (write(fd, page, LIVE_PAGE) != LIVE_PAGE)
			LIVE_DIE("write");
	}
	close(fd);
}

struct fake_options rig_fake(const struct rig *r)
{
	return (struct fake_options){
		.layout = r->wide ? 32 : 24, .pid = RIG_PID, .seed = RIG_SEED,
		.ranges = { { r->range.address, r->range.length } }, .n_ranges = 1,
	};
}

void rig_open(struct rig *r, int port)
{
	r->options.port = port;
	r->ps = thaw_pageserver_open(&r->options);
	if (!r->ps)
		LIVE_DIE("%s", thaw_get_error());
	r->source = thaw_source_pageserver(r->ps, r->dir.fd, RIG_PID, THAW_PAGESERVER_LAZY_ONLY);
	if (!r->source)
		LIVE_DIE("%s", thaw_get_error());
}

void rig_worker(struct rig *r, live_fn *fn, void *arg)
{
	live_start(&r->live, &r->range, 1, fn, arg);
}

void rig_start(struct rig *r, unsigned copiers, enum thaw_background policy)
{
	r->h = live_monitor(THAW_IO_AUTO, copiers, policy);
	r->space = live_add(r->h, &r->live, r->source, &r->range, 1);
	thaw_source_close(r->source);
	LIVE_OK(thaw_start(r->h));
}

void rig_end(struct rig *r, bool finish)
{
	if (finish && thaw_pageserver_finish(r->ps, 60000)) {
		struct thaw_pageserver_stats st = { .size = sizeof(st) };

		thaw_pageserver_get_stats(r->ps, &st);
		LIVE_DIE("%s (%llu reads wait for %llu pages, %llu requests under way)", thaw_get_error(),
			 (unsigned long long)st.waiting, (unsigned long long)st.missing_pages, (unsigned long long)st.in_flight);
	}
	thaw_close(r->h);
	thaw_pageserver_close(r->ps);
	scratch_end(&r->dir);
}

/* ---- workers ----------------------------------------------------------------------------------------------- */
struct part {
	const struct rig *r;
	uint64_t seed;
};

static void *read_shuffled(void *arg)
{
	const struct part *p = arg;
	unsigned n = (unsigned)p->r->pages;
	uint32_t *order = malloc(n * sizeof(*order));
	bool good = order;

	if (good)
		live_shuffle(order, n, p->seed);
	for (unsigned i = 0; i < n && good; i++)
		good = live_is(p->r->range.address + order[i] * LIVE_PAGE, 1, RIG_SEED, 0);
	free(order);
	return good ? NULL : arg;
}

int rig_read_all(void *arg, int sock)
{
	struct part p = { arg, 5 };

	return read_shuffled(&p) ? 1 : 0;
}

int rig_read_threads(void *arg, int sock)
{
	struct part p[4];
	pthread_t t[4];
	void *bad = NULL, *one;

	for (unsigned i = 0; i < 4; i++) {
		p[i] = (struct part){ arg, i };
		pthread_create(&t[i], NULL, read_shuffled, &p[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(t[i], &one);
		bad = one ? one : bad;
	}
	return bad ? 1 : 0;
}
