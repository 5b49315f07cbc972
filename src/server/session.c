// SPDX-License-Identifier: LGPL-2.1-or-later
/* server/session.c - one client of the page server, from its first byte to its last */
#include "config.h"
#include "server/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kern/sys.h"
#include "proto/session.h"
#include "util/err.h"

#define PAGE 4096ULL
#define ANSWER_PAGES 4096        /* at most: 16 MiB */
#define BUFFER (64UL << 10)
#define HALF_MS 30000            /* for the rest of a request that has begun, for a handshake, for the end */

struct client {
	struct thaw_server *server;
	int fd;
	struct thaw_tls_session *tls;
	unsigned char *buf; /* of BUFFER: pages on their way, what TLS makes of them */
	uint64_t pages;
};

/* ---- bytes ------------------------------------------------------------------------------------------------- */
/* 0; -ECANCELED: the server ends; -ETIMEDOUT. */
static int await(struct client *c, int what, int ms)
{
	int got = thaw_net_wait(c->fd, what, c->server->stop_fd, ms);

	if (got < 0)
		return got;
	if (got & THAW_NET_WOKEN)
		return -ECANCELED;
	return got ? 0 : -ETIMEDOUT;
}

/* What a send answered: 0 when it is worth another try (and n was -EAGAIN), or why not. */
static ssize_t accepts_more(struct client *c, ssize_t n)
{
	return n == -EAGAIN ? await(c, THAW_NET_WRITABLE, -1) : n;
}

/* All of it. A client that does not read keeps its own thread waiting, and nothing else. */
static int put(struct client *c, const unsigned char *buf, size_t len, bool more)
{
	while (len) {
		ssize_t n = c->tls ? thaw_tls_send(c->tls, buf, len) : thaw_net_send(c->fd, buf, len, more);

		if (n < 0 && (n = accepts_more(c, n)) < 0)
			return (int)n;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static int need_buffer(struct client *c)
{
	if (!c->buf)
		c->buf = malloc(BUFFER);
	return c->buf ? 0 : thaw_err_set(-ENOMEM, "no memory");
}

/* What is in the buffer: 0, -EBADMSG, -ENODATA. Without checksums: what is read of a file that is being cut may
 * have zeros for what was behind its new end, but then its size has changed already; and one that has grown is being taken apart. */
static int compare(struct client *c, const struct thaw_image_level *level, uint64_t off, size_t len)
{
	if (!level->sums.sum) {
		int64_t size = thaw_sys_size_in_memory(level->pages_fd);

		return size >= (int64_t)(off + len) && size <= (int64_t)(level->pm.file_pages * PAGE) ? 0 : -ENODATA;
	}
	return thaw_sums_right(&level->sums, off, len, c->buf) < len ? -EBADMSG : 0;
}

/* Through memory of ours: what sendfile() has given to the network is the file's own pages, and follows what becomes of them until
 * the other side has it, however long that takes. */
static int put_pages(struct client *c, const struct thaw_image_level *level, uint64_t off, uint64_t len)
{
	int err = need_buffer(c);

	while (len && !err) {
		size_t want = len < BUFFER ? len : BUFFER, have = 0;

		while (have < want) { /* whole pages: they are compared as such */
			ssize_t n = pread(level->pages_fd, c->buf + have, want - have, (off_t)(off + have));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return n ? -errno : -ENODATA;
			have += (size_t)n;
		}
		err = compare(c, level, off, want);
		if (!err)
			err = put(c, c->buf, want, false);
		off += want;
		len -= want;
	}
	return err;
}

/* > 0, 0: the end, or -errno. `begun`: the rest is due soon. */
static ssize_t get(struct client *c, unsigned char *at, size_t room, bool begun)
{
	for (;;) {
		struct iovec iov = { at, room };
		ssize_t n = c->tls ? thaw_tls_receive(c->tls, at, room) : thaw_net_receive(c->fd, &iov, 1);
		int err;

		if (n != -EAGAIN)
			return n;
		err = await(c, THAW_NET_READABLE, begun ? HALF_MS : -1);
		if (err)
			return err;
	}
}

/* ---- requests ---------------------------------------------------------------------------------------------- */
static bool is_there(void *opaque, uint64_t id, uint64_t addr)
{
	const struct client *c = opaque;
	const struct thaw_image_level *level;
	uint64_t off;

	return thaw_store_find(&c->server->store, id, addr, &level, &off);
}

static int answer(struct client *c, enum thaw_frame_layout layout, const struct thaw_frame *f)
{
	struct thaw_frame reply = *f;
	unsigned char header[THAW_FRAME_MOST];
	const struct thaw_image_level *level = NULL;
	uint64_t off = 0, pages;
	int err;

	pages = thaw_store_find(&c->server->store, f->id, f->addr, &level, &off);
	if (pages > f->pages)
		pages = f->pages;
	if (pages > ANSWER_PAGES)
		pages = ANSWER_PAGES;
	reply.command = THAW_FRAME_ADD_F;
	reply.flags = THAW_FRAME_PRESENT;
	reply.pages = pages;
	err = thaw_frame_encode(layout, &reply, header);
	if (!err)
		err = put(c, header, (size_t)layout, true);
	if (!err && pages)
		err = put_pages(c, level, off, pages * PAGE);
	c->pages += err ? 0 : pages;
	/* The header promised pages; without them there is nothing to go on with. */
	if (err == -ENODATA || err == -EIO || err == -EBADMSG)
		return thaw_err_set(-EIO, "%lu pages of process %lu at %#lx cannot be read from the images (pages-%u.img at byte %lu): %s", pages,
				    f->id, f->addr, level->pm.pages_id, off, err == -EIO ? strerror(EIO) : err == -EBADMSG ?
				    "they do not match their checksums: the image is corrupt or belongs to another checkpoint" :
				    "their file has been cut, or is being changed, while it is used");
	return err ? thaw_err_set(err, "%s", strerror(-err)) : 0;
}

/* Its answer, then its end is waited for: what is unread when a socket is closed would make a reset of it. */
static int end_well(struct client *c)
{
	static const unsigned char good[4];
	unsigned char rest[THAW_FRAME_MOST];
	int err = put(c, good, sizeof(good), false);

	for (unsigned i = 0; !err && i < 16; i++)
		if (get(c, rest, sizeof(rest), true) <= 0)
			break;
	return err;
}

/* 0: told that all is done; 1: it just went; else -errno with a sentence. */
static int converse(struct client *c)
{
	struct thaw_session s;
	struct thaw_frame f;

	thaw_session_init(&s, c->server->protocol, c->server->store.layout, is_there, c);
	for (;;) {
		unsigned char *at;
		size_t room = thaw_session_room(&s, &at);
		ssize_t n;
		int got;

		/* One that has sent its requests ahead is never waited for. */
		if (await(c, 0, 0) == -ECANCELED)
			return 1;
		n = get(c, at, room, s.have);
		if (!n || n == -ECONNRESET || n == -ECANCELED)
			return s.have && n != -ECANCELED ? thaw_err_set(-EPROTO, "it ended within a request") : 1;
		if (n == -ETIMEDOUT && s.have)
			return thaw_err_set(-EPROTO, "it began a request and did not end it within %d s", HALF_MS / 1000);
		if (n < 0)
			return thaw_err_set((int)n, "%s", strerror((int)-n));
		got = thaw_session_filled(&s, (size_t)n, &f);
		if (got > 0 && f.command != THAW_FRAME_GET)
			return end_well(c);
		if (got > 0)
			got = answer(c, s.layout, &f);
		if (got == -EPIPE || got == -ECONNRESET || got == -ECANCELED)
			return 1;
		if (got < 0)
			return got;
	}
}

/* After a page that cannot be read: what is unread when a socket is closed makes a reset of it, which takes answers along that are still on
 * their way. So the other side is told first, and gets a second to end it. */
static void end_gently(struct client *c)
{
	uint64_t until = thaw_sys_now_ns() + 1000000000ULL;
	unsigned char rest[4096];
	struct iovec iov = { rest, sizeof(rest) };

	if (c->tls || shutdown(c->fd, SHUT_WR))
		return;
	while (thaw_sys_now_ns() < until && !await(c, THAW_NET_READABLE, 1000) && thaw_net_receive(c->fd, &iov, 1) > 0)
		;
}

static int secure(struct client *c)
{
	bool write = false;
	int err;

	if (!c->server->tls)
		return 0;
	err = need_buffer(c);
	if (err)
		return err;
	err = thaw_tls_begin(&c->tls, c->server->tls, c->fd, true, NULL);
	while (!err && (err = thaw_tls_handshake(c->tls, &write)) == -EAGAIN) {
		err = await(c, write ? THAW_NET_WRITABLE : THAW_NET_READABLE, HALF_MS);
		if (err)
			thaw_err_set(err, "TLS: it does not finish the handshake; does it speak TLS?");
	}
	return err;
}

void thaw_server_session(const struct thaw_session_start *start)
{
	struct client c = { .server = start->server, .fd = start->fd };
	uint64_t began = thaw_sys_now_ns();
	int how;

	thaw_server_tell(c.server, 1, "session %lu: %s begins", start->id, start->peer);
	how = secure(&c);
	if (!how)
		how = converse(&c);
	atomic_fetch_add(&c.server->served, 1);
	atomic_fetch_add(&c.server->pages, c.pages);
	if (how < 0)
		thaw_server_complain(c.server, "session %lu: %s is disconnected: %s", start->id, start->peer, thaw_err_text());
	else
		thaw_server_tell(c.server, 1, "session %lu: %s %s after %lu pages, %lu ms", start->id, start->peer,
				 how ? "went away" : "is done", c.pages, (thaw_sys_now_ns() - began) / 1000000);
	if (how == -EIO)
		end_gently(&c);
	if (c.tls && how >= 0)
		(void)thaw_tls_bye(c.tls); /* it may be gone already */
	thaw_tls_end(c.tls);
	free(c.buf);
	close(c.fd);
}
