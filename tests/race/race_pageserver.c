// SPDX-License-Identifier: LGPL-2.1-or-later
/* race_pageserver.c - many threads read through one connection, which is lost again and again, while others look at it: every
 * read is answered exactly once with the right bytes, and closing it ends what is left */
#include "config.h"
#include "source/pageserver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image/chain.h"
#include "image/image.h"
#include "support/imagedir.h"

#define PAGE 4096UL
#define BASE 0x10000000UL
#define PAGES 4096UL
#define PID 4711
#define READERS 3
#define READS 400
#define LOSE 300 /* answers, then the server hangs up */

static _Atomic int failures;
static _Atomic bool over;

static void fail(const char *what, unsigned long n)
{
	fprintf(stderr, "race_pageserver: %s (%#lx)\n", what, n);
	failures++;
}

/* ---- the server: a plain thread with blocking calls --------------------------------------------------------------- */
static bool all(int fd, void *buf, size_t len, bool out)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = out ? send(fd, (char *)buf + done, len - done, MSG_NOSIGNAL) : recv(fd, (char *)buf + done, len - done, 0);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void converse(int fd, unsigned answers)
{
	unsigned char header[THAW_FRAME_NEW], page[PAGE];
	struct thaw_frame f;

	for (unsigned i = 0; i < answers && all(fd, header, sizeof(header), false); i++) {
		thaw_frame_decode(THAW_FRAME_NEW, header, &f);
		f.command = THAW_FRAME_ADD_F;
		f.flags = THAW_FRAME_PRESENT;
		thaw_frame_encode(THAW_FRAME_NEW, &f, header);
		if (!all(fd, header, sizeof(header), true))
			break;
		for (uint64_t k = 0; k < f.pages; k++) {
			for (size_t at = 0; at < PAGE; at += 8)
				memcpy(page + at, &(uint64_t){ f.addr + k * PAGE + at }, 8);
			if (!all(fd, page, PAGE, true))
				break;
		}
	}
	close(fd);
}

static void *serve(void *arg)
{
	int listener = *(int *)arg, fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
		converse(fd, LOSE);
	return NULL;
}

/* ---- readers ------------------------------------------------------------------------------------------------------ */
struct job {
	struct thaw_request request;
	_Atomic int calls, error;
	unsigned char buf[16 * PAGE];
};

static struct thaw_source *source;
static struct thaw_pageserver *ps;

static void done(struct thaw_request *req, int error)
{
	struct job *j = (struct job *)req;

	atomic_store(&j->error, error);
	atomic_fetch_add(&j->calls, 1); /* publishes the bytes to whoever sees it */
}

static void check(const struct job *j, uint64_t addr, uint64_t pages)
{
	for (uint64_t at = 0; at < pages * PAGE; at += 8) {
		uint64_t word;

		memcpy(&word, j->buf + at, 8);
		if (word != addr + at) {
			fail("wrong bytes", addr + at);
			return;
		}
	}
}

static void *read_some(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	static __thread struct job job[8];

	for (unsigned n = 0; n < READS / 8; n++) {
		uint64_t addr[8], pages[8];

		for (unsigned i = 0; i < 8; i++) {
			pages[i] = 1 + (unsigned)rand_r(&seed) % 16;
			addr[i] = BASE + (unsigned)rand_r(&seed) % (PAGES - 16) * PAGE;
			atomic_store(&job[i].calls, 0);
			job[i].request = (struct thaw_request){ done, rand_r(&seed) % 3 == 0, rand_r(&seed) % 3 == 0 };
			if (source->ops->read(source, THAW_CHAIN_ELSEWHERE, addr[i], pages[i] * PAGE, job[i].buf,
					      &job[i].request) != THAW_LATER)
				fail("a read was refused", addr[i]);
		}
		for (unsigned i = 0; i < 8; i++) {
			while (!atomic_load(&job[i].calls))
				usleep(200);
			if (atomic_load(&job[i].calls) != 1 || atomic_load(&job[i].error))
				fail("answered twice, or with an error", addr[i]);
			else
				check(&job[i], addr[i], pages[i]);
		}
	}
	return NULL;
}

static void *look(void *arg)
{
	struct thaw_pageserver_stats s = { .size = sizeof(s) };

	while (!over) {
		if (thaw_pageserver_get_stats(ps, &s))
			fail("no statistics", 0);
		usleep(500);
	}
	return NULL;
}

static void write_images(struct scratch *dir)
{
	static struct bytes b;
	char name[32];

	scratch_begin(dir);
	bytes_magic(&b, THAW_IMAGE_PAGEMAP_MAGIC);
	bytes_head(&b, 1);
	bytes_entry(&b, BASE, PAGES, THAW_PE_LAZY, 1);
	snprintf(name, sizeof(name), "pagemap-%d.img", PID);
	scratch_put(dir, name, b.at, b.len);
}

int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct thaw_pageserver_options o = { .size = sizeof(o), .address = "127.0.0.1", .socket = -1, .protocol = 32 };
	static struct job last[8];
	pthread_t server, looker, reader[READERS];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);
	struct scratch dir;

	if (bind(listener, (void *)&a, sizeof(a)) || listen(listener, 8) || getsockname(listener, (void *)&a, &len)) {
		printf("race_pageserver: SKIPPED: no socket: %s\n", strerror(errno));
		return 77;
	}
	write_images(&dir);
	pthread_create(&server, NULL, serve, &listener);
	o.port = ntohs(a.sin_port);
	ps = thaw_pageserver_open(&o);
	source = ps ? thaw_source_pageserver(ps, dir.fd, PID, 0) : NULL;
	if (!source) {
		fprintf(stderr, "race_pageserver: %s\n", thaw_get_error());
		return 1;
	}
	pthread_create(&looker, NULL, look, NULL);
	for (uintptr_t i = 0; i < READERS; i++)
		pthread_create(&reader[i], NULL, read_some, (void *)(i + 1));
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(reader[i], NULL);
	over = true;
	pthread_join(looker, NULL);
	/* Closed with reads under way: each is answered, with its content or as cancelled. */
	for (unsigned i = 0; i < 8; i++) {
		last[i].request = (struct thaw_request){ done, i % 2, false };
		source->ops->read(source, THAW_CHAIN_ELSEWHERE, BASE + i * 16 * PAGE, 16 * PAGE, last[i].buf, &last[i].request);
	}
	thaw_pageserver_close(ps);
	for (unsigned i = 0; i < 8; i++)
		if (atomic_load(&last[i].calls) != 1)
			fail("closed, and not answered once", i);
	if (source->ops->read(source, THAW_CHAIN_ELSEWHERE, BASE, PAGE, last[0].buf, &last[0].request) != -ECANCELED)
		fail("a closed connection takes reads", 0);
	thaw_source_put(source);
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listener);
	scratch_end(&dir);
	return failures ? 1 : 0;
}
