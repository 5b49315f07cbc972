// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/fake_server.c - the obedient page server */
#include "config.h"
#include "lazy/fake_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support/live.h"

#define PAGE 4096ULL
#define QUEUE 4096
#define SEEN 65536

struct request {
	uint32_t command;
	uint64_t pages, addr, id;
	uint64_t due_us;
};

struct conn {
	const struct fake_options *o;
	struct fake_stats *s;
	int fd;
	gnutls_session_t tls;
	struct request queue[QUEUE];
	unsigned head, n, answers;
	unsigned char in[32];
	unsigned have;
	unsigned char *seen; /* a bit a page of all ranges */
};

static gnutls_certificate_credentials_t cred;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- bytes ------------------------------------------------------------------------------------------------- */
static bool put(struct conn *c, const void *buf, size_t len)
{
	const char *at = buf;

	while (len) {
		ssize_t n = c->tls ? gnutls_record_send(c->tls, at, len) : send(c->fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && (c->tls ? n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED : errno == EINTR))
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

/* > 0, 0: end, -1: reset. Blocks. */
static ssize_t get(struct conn *c, void *buf, size_t len)
{
	for (;;) {
		ssize_t n = c->tls ? gnutls_record_recv(c->tls, buf, len) : recv(c->fd, buf, len, 0);

		if (c->tls && (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED))
			continue;
		if (c->tls && n == GNUTLS_E_PREMATURE_TERMINATION)
			return 0; /* an end without a word of TLS: what a careless client does */
		if (n < 0 && !c->tls && errno == EINTR)
			continue;
		return n < 0 ? -1 : n;
	}
}

static bool readable(struct conn *c, int timeout_ms)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	return (c->tls && gnutls_record_check_pending(c->tls)) || poll(&p, 1, timeout_ms) > 0;
}

static void header(const struct conn *c, unsigned char *out, uint32_t cmd, uint64_t pages, uint64_t addr, uint64_t id)
{
	uint32_t few = (uint32_t)pages;

	memset(out, 0, 32);
	memcpy(out, &cmd, 4);
	if (c->o->layout == 24) {
		memcpy(out + 4, &few, 4);
		memcpy(out + 8, &addr, 8);
		memcpy(out + 16, &id, 8);
	} else {
		memcpy(out + 8, &pages, 8);
		memcpy(out + 16, &addr, 8);
		memcpy(out + 24, &id, 8);
	}
}

static void parse(const struct conn *c, struct request *r)
{
	uint32_t few;

	memcpy(&r->command, c->in, 4);
	if (c->o->layout == 24) {
		memcpy(&few, c->in + 4, 4);
		r->pages = few;
		memcpy(&r->addr, c->in + 8, 8);
		memcpy(&r->id, c->in + 16, 8);
	} else {
		memcpy(&r->pages, c->in + 8, 8);
		memcpy(&r->addr, c->in + 16, 8);
		memcpy(&r->id, c->in + 24, 8);
	}
}

/* ---- pages ------------------------------------------------------------------------------------------------- */
/* How many pages there are from addr on in its range; their number in *index. */
static uint64_t there(const struct fake_options *o, uint64_t id, uint64_t addr, uint64_t *index)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < o->n_ranges; i++) {
		const struct fake_range *r = &o->ranges[i];

		if (id == o->pid && !(addr % PAGE) && addr >= r->address && addr < r->address + r->length) {
			*index = before + (addr - r->address) / PAGE;
			return (r->address + r->length - addr) / PAGE;
		}
		before += r->length / PAGE;
	}
	return 0;
}

static bool put_page(struct conn *c, uint64_t addr, uint64_t index, size_t part)
{
	unsigned char page[PAGE];

	live_fill(page, c->o->seed, addr, 0);
	if (index < SEEN * 8) {
		if (c->seen[index / 8] & 1 << index % 8)
			c->s->twice++;
		c->seen[index / 8] |= (unsigned char)(1 << index % 8);
	}
	c->s->pages++;
	return put(c, page, part);
}

static void end_it(struct conn *c)
{
	struct linger l = { c->o->reset, 0 };

	c->s->end = FAKE_OURS;
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

/* One answer; false: the connection ends here. */
static bool answer(struct conn *c, const struct request *r)
{
	const struct fake_options *o = c->o;
	unsigned nth = ++c->answers;
	bool now = nth == o->at && (!o->once || c->s->connections == 1);
	enum fake_wrong wrong = now ? o->wrong : FAKE_RIGHT;
	enum fake_cut cut = now ? o->cut : FAKE_WHOLE;
	uint64_t index = 0, n = there(o, r->id, r->addr, &index), said;
	unsigned char h[32];

	if (!n || !r->pages || (r->command & 0xffff) != 7) {
		c->s->bad++;
		end_it(c);
		return false;
	}
	if (o->stall_at && nth >= o->stall_at) {
		ssize_t got = 1;

		while (got > 0)
			got = readable(c, -1) ? get(c, h, sizeof(h)) : 1;
		c->s->end = got ? FAKE_RESET : FAKE_EOF;
		return false;
	}
	n = r->pages < n ? r->pages : n;
	if (o->most && n > o->most)
		n = o->most;
	said = wrong == FAKE_TOO_MANY ? r->pages + 1 : wrong == FAKE_NO_PAGES ? 0 : n;
	header(c, h, wrong == FAKE_WRONG_FLAGS ? 6 | 1 << 16 : wrong == FAKE_WRONG_COMMAND ? 1 : 6 | 4 << 16, said,
	       wrong == FAKE_WRONG_ADDRESS ? r->addr + PAGE : r->addr, wrong == FAKE_WRONG_PID ? r->id + 1 : r->id);
	if (cut == FAKE_CUT_BEFORE || (cut == FAKE_CUT_HEADER && put(c, h, 11))) {
		end_it(c);
		return false;
	}
	if (!put(c, h, (size_t)o->layout))
		return false;
	if (cut == FAKE_CUT_DATA || (cut == FAKE_CUT_PAGE && put_page(c, r->addr, index, 1000))) {
		end_it(c);
		return false;
	}
	for (uint64_t i = 0; i < said; i++) {
		if (!put_page(c, r->addr + i * PAGE, index + i, PAGE))
			return false;
		if (cut == FAKE_CUT_PAGES) {
			end_it(c);
			return false;
		}
	}
	if (wrong == FAKE_UNASKED) {
		if (!put(c, h, (size_t)o->layout))
			return false;
		for (uint64_t i = 0; i < n; i++)
			put_page(c, r->addr + i * PAGE, index + i, PAGE);
	}
	if (cut == FAKE_CUT_BEHIND)
		end_it(c);
	return cut != FAKE_CUT_BEHIND;
}

static bool answer_close(struct conn *c, const struct request *r)
{
	int32_t status = 0;
	char rest;

	if ((r->command & 0xffff) == 0x1024)
		c->s->forced++;
	c->s->closes++;
	put(c, &status, sizeof(status));
	c->s->end = get(c, &rest, 1) == 0 ? FAKE_CLOSED : FAKE_RESET;
	return false;
}

/* ---- a connection ------------------------------------------------------------------------------------------ */
/* Reads one request, or a part. False: the other side has ended it. */
static bool take_in(struct conn *c)
{
	struct request *r = &c->queue[(c->head + c->n) % QUEUE];
	ssize_t got = get(c, c->in + c->have, (size_t)c->o->layout - c->have);

	if (got <= 0) {
		c->s->end = got ? FAKE_RESET : FAKE_EOF;
		return false;
	}
	c->have += (unsigned)got;
	if (c->have < (unsigned)c->o->layout)
		return true;
	c->have = 0;
	parse(c, r);
	r->due_us = now_us() + c->o->delay_us;
	c->n++;
	if ((r->command & 0xffff) == 7) {
		c->s->gets++;
		if (r->pages > c->s->largest)
			c->s->largest = (unsigned)r->pages;
	}
	if (c->n > c->s->most_waiting)
		c->s->most_waiting = c->n;
	return true;
}

static bool turn(struct conn *c)
{
	struct request *r = &c->queue[c->head];
	uint64_t now = now_us();
	int wait = -1;

	if (c->n)
		wait = r->due_us <= now ? 0 : (int)((r->due_us - now) / 1000);
	else if (!c->have && !readable(c, 0))
		c->s->turns++;
	if (c->n < QUEUE && readable(c, wait))
		return take_in(c);
	if (!c->n || now_us() < r->due_us)
		return true;
	c->head = (c->head + 1) % QUEUE;
	c->n--;
	if ((r->command & 0xffff) == 0x1023 || (r->command & 0xffff) == 0x1024)
		return answer_close(c, r);
	return answer(c, r);
}

static bool secure(struct conn *c)
{
	int err;

	if (!c->o->tls_cert)
		return true;
	gnutls_init(&c->tls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
	gnutls_set_default_priority(c->tls);
	gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, cred);
	gnutls_certificate_server_set_request(c->tls, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert(c->tls, NULL, 0);
	gnutls_transport_set_int(c->tls, c->fd);
	do
		err = gnutls_handshake(c->tls);
	while (err < 0 && !gnutls_error_is_fatal(err));
	if (err)
		fprintf(stderr, "fake server: %s\n", gnutls_strerror(err));
	return !err;
}

static void serve_one(int fd, const struct fake_options *o, struct fake_stats *s)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	c->o = o;
	c->s = s;
	c->fd = fd;
	c->seen = calloc(1, SEEN);
	s->end = FAKE_OPEN;
	s->connections++;
	s->open = true;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (secure(c))
		while (turn(c))
			;
	if (c->tls)
		gnutls_deinit(c->tls);
	close(fd);
	s->open = false;
	free(c->seen);
	free(c);
}

static void load_tls(const struct fake_options *o)
{
	if (!o->tls_cert)
		return;
	gnutls_certificate_allocate_credentials(&cred);
	if (gnutls_certificate_set_x509_trust_file(cred, o->tls_ca, GNUTLS_X509_FMT_PEM) < 1 ||
	    gnutls_certificate_set_x509_key_file(cred, o->tls_cert, o->tls_key, GNUTLS_X509_FMT_PEM))
		LIVE_DIE("the fake server cannot read its certificates");
}

void fake_serve(int listener, const struct fake_options *o, struct fake_stats *s)
{
	load_tls(o);
	while (!o->connections || s->connections < o->connections) {
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0)
			serve_one(fd, o, s);
		else if (errno != EINTR && errno != ECONNABORTED)
			LIVE_DIE("accept: %s", strerror(errno));
	}
	close(listener);
	for (;;)
		pause();
}

/* ---- as a process of the test ------------------------------------------------------------------------------ */
int fake_listen(int *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(*port) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* A port that was just left may be in use by a connection of somebody else for a moment. */
	for (unsigned i = 0; bind(fd, (struct sockaddr *)&at, sizeof(at)); i++) {
		if (errno != EADDRINUSE || i == 100)
			LIVE_DIE("the fake server cannot have port %d: %s", *port, strerror(errno));
		usleep(50000);
	}
	if (listen(fd, 16) || getsockname(fd, (struct sockaddr *)&at, &len))
		LIVE_DIE("listen: %s", strerror(errno));
	*port = ntohs(at.sin_port);
	return fd;
}

void fake_start_at(struct fake *f, const struct fake_options *o, int port)
{
	pid_t test = getpid();
	int listener;

	f->port = port;
	listener = fake_listen(&f->port);
	f->stats = mmap(NULL, sizeof(*f->stats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f->stats == MAP_FAILED)
		LIVE_DIE("mmap: %s", strerror(errno));
	fflush(NULL);
	f->pid = fork();
	if (f->pid < 0)
		LIVE_DIE("fork: %s", strerror(errno));
	if (!f->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != test)
			_exit(99);
		signal(SIGPIPE, SIG_IGN);
		fake_serve(listener, o, f->stats);
	}
	close(listener);
}

void fake_start(struct fake *f, const struct fake_options *o)
{
	fake_start_at(f, o, 0);
}

void fake_stop(struct fake *f)
{
	kill(f->pid, SIGKILL);
	if (waitpid(f->pid, NULL, 0) != f->pid)
		LIVE_DIE("waitpid: %s", strerror(errno));
	munmap(f->stats, sizeof(*f->stats));
}
