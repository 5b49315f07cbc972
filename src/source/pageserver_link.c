// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/pageserver_link.c - one connection to a page server: made, secured, its bytes, reset */
#include "config.h"
#include "source/pageserver.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kern/keep.h"
#include "kern/sys.h"
#include "util/err.h"

static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = thaw_sys_now_ns();

	return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
}

/* Waits for the socket, the end, or time. 0, -ETIMEDOUT, -ECANCELED. */
static int wait_for(struct thaw_pageserver *ps, int fd, bool write, uint64_t deadline_ns)
{
	for (;;) {
		int ms = left_ms(deadline_ns), what;

		if (atomic_load(&ps->stop))
			return -ECANCELED;
		if (!ms)
			return -ETIMEDOUT;
		/* Woken for a read that has to wait anyway: look at `stop` only, now and then. */
		what = thaw_net_wait(fd, write ? THAW_NET_WRITABLE : THAW_NET_READABLE, -1, ms < 200 ? ms : 200);
		if (what)
			return what < 0 ? what : 0;
	}
}

/* An address that is silent leaves the others their share of the time. */
static uint64_t share(uint64_t deadline_ns, unsigned left)
{
	uint64_t now = thaw_sys_now_ns();

	return now >= deadline_ns ? deadline_ns : now + (deadline_ns - now) / left;
}

static int try_address(struct thaw_pageserver *ps, const struct thaw_net_address *to, uint64_t deadline_ns)
{
	int fd = thaw_net_connect(to), err;

	if (fd < 0)
		return fd;
	err = wait_for(ps, fd, true, deadline_ns);
	if (!err)
		err = thaw_net_connected(fd);
	if (err) {
		close(fd);
		return err;
	}
	ps->link = (struct thaw_link){ .fd = fd };
	thaw_keep_add(fd);
	return 0;
}

int thaw_link_secure(struct thaw_pageserver *ps, uint64_t deadline_ns)
{
	bool write = false;
	int err;

	if (!ps->tls)
		return 0;
	err = thaw_tls_begin(&ps->link.tls, ps->tls, ps->link.fd, false, ps->host);
	while (!err && (err = thaw_tls_handshake(ps->link.tls, &write)) == -EAGAIN) {
		err = wait_for(ps, ps->link.fd, write, deadline_ns);
		if (err)
			thaw_err_set(err, "TLS: the other side does not finish the handshake; does it speak TLS?");
	}
	return err ? thaw_err_wrap("page server %s", ps->name) : 0;
}

int thaw_link_open(struct thaw_pageserver *ps, uint64_t deadline_ns)
{
	char where[80] = "";
	int err = -ENOENT;

	for (unsigned i = 0; i < ps->addresses.n; i++) {
		const struct thaw_net_address *to = &ps->addresses.address[i];

		thaw_net_name(&to->at, where, sizeof(where));
		err = try_address(ps, to, share(deadline_ns, ps->addresses.n - i));
		if (!err || err == -ECANCELED)
			break;
	}
	if (err)
		return thaw_err_set(err, "page server %s: cannot be connected to (%s): %s; is it listening there, and is the way to it"
				    " open?", ps->name, where, strerror(-err));
	err = thaw_link_secure(ps, deadline_ns);
	if (err)
		thaw_link_close(&ps->link);
	return err;
}

void thaw_link_close(struct thaw_link *l)
{
	thaw_tls_end(l->tls);
	if (l->fd >= 0) {
		thaw_keep_remove(l->fd);
		close(l->fd);
	}
	*l = (struct thaw_link){ .fd = -1 };
}

int thaw_link_send(struct thaw_link *l)
{
	while (l->out_len) {
		ssize_t n = l->tls ? thaw_tls_send(l->tls, l->out, l->out_len) :
				     thaw_net_send(l->fd, l->out, l->out_len, false);

		l->write_wanted = n == -EAGAIN;
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		l->out_len -= (size_t)n;
		memmove(l->out, l->out + n, l->out_len);
	}
	l->write_wanted = false;
	return 0;
}

ssize_t thaw_link_receive(struct thaw_link *l, struct iovec iov[2])
{
	if (l->tls)
		return thaw_tls_receive(l->tls, iov[0].iov_base, iov[0].iov_len);
	return thaw_net_receive(l->fd, iov, iov[1].iov_len ? 2 : 1);
}
