// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/pageserver.c - a connection to a page server, for the application: opened, asked about, finished, closed */
#include "config.h"
#include "source/pageserver.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kern/keep.h"
#include "kern/sandbox.h"
#include "kern/sys.h"
#include "util/err.h"
#include "util/sized.h"

#define OPEN_NS 30000000000ULL
#define BESIDE_NS 5000000000ULL /* whoever does not wait for a connection has others to answer */
/* The structures as they were in the first release; see util/sized.h. */
#define FIRST_OPTIONS THAW_SIZED_UPTO(struct thaw_pageserver_options, opaque)
#define FIRST_STATS THAW_SIZED_UPTO(struct thaw_pageserver_stats, silent_since_ns)

/* ---- life -------------------------------------------------------------------------------------------------- */
struct thaw_pageserver *thaw_pageserver_get(struct thaw_pageserver *ps)
{
	atomic_fetch_add_explicit(&ps->refs, 1, memory_order_relaxed); /* the caller holds one */
	return ps;
}

void thaw_pageserver_put(struct thaw_pageserver *ps)
{
	if (!ps || atomic_fetch_sub_explicit(&ps->refs, 1, memory_order_acq_rel) != 1)
		return;
	thaw_tls_free(ps->tls);
	if (ps->wake_fd >= 0)
		close(ps->wake_fd);
	thaw_cond_destroy(&ps->over);
	thaw_lock_destroy(&ps->lock);
	free(ps->pids);
	free(ps->name);
	free(ps->host);
	free(ps);
}

static struct thaw_pageserver *new_pageserver(const struct thaw_pageserver_options *o)
{
	struct thaw_pageserver *ps = calloc(1, sizeof(*ps));

	if (!ps)
		return NULL;
	ps->refs = 1;
	ps->wake_fd = -1;
	ps->link.fd = -1;
	ps->fresh_last = &ps->fresh;
	thaw_lock_init(&ps->lock, THAW_RANK_RING);
	thaw_cond_init(&ps->over);
	thaw_gets_init(&ps->gets);
	ps->inherited = o->socket >= 0;
	ps->sandbox = !o->no_sandbox;
	ps->fail_reads = o->fail_reads;
	ps->reconnect_ns = o->reconnect_timeout * 1000000000ULL;
	ps->log = (struct thaw_log){ o->log, o->log_opaque, o->log_most };
	ps->changed = o->changed;
	ps->opaque = o->opaque;
	ps->layout = o->protocol;
	ps->told = o->protocol;
	ps->host = o->tls && !o->tls_no_cn_verify && o->address ? strdup(o->address) : NULL;
	if (ps->inherited ? asprintf(&ps->name, "on descriptor %d", o->socket) < 0 :
			    asprintf(&ps->name, strchr(o->address, ':') ? "[%s]:%d" : "%s:%d", o->address, o->port) < 0)
		ps->name = NULL;
	if (ps->name && (ps->host || !o->tls || o->tls_no_cn_verify))
		return ps;
	thaw_pageserver_put(ps);
	return NULL;
}

/* ---- opening ----------------------------------------------------------------------------------------------- */
static int check_options(const struct thaw_pageserver_options *o)
{
	if (o->socket < 0 && (!o->address || !*o->address))
		return thaw_err_set(-EINVAL, "the page server's address is missing");
	if (o->socket < 0 && (o->port < 1 || o->port > 65535))
		return thaw_err_set(-EINVAL, "%d is no port of a page server (1 to 65535)", o->port);
	if (o->protocol && o->protocol != THAW_FRAME_OLD && o->protocol != THAW_FRAME_NEW)
		return thaw_err_set(-EINVAL, "there is no page-server protocol %d: 24 or 32 (bytes of a header), or 0", o->protocol);
	if (o->reconnect_timeout < 0)
		return thaw_err_set(-EINVAL, "the time for reconnecting must not be negative");
	if (o->tls && !o->tls_no_cn_verify && !o->address)
		return thaw_err_set(-EINVAL, "TLS over an inherited socket needs the name that the page server's certificate is for"
				    " (its address), or not to look at it");
	return 0;
}

void thaw_pageserver_guard(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	if (!getpeername(fd, (struct sockaddr *)&peer, &len) && !thaw_net_prepare(fd) && !thaw_keep_init() &&
	    !thaw_keep_has(fd))
		thaw_keep_add(fd);
}

static int use_inherited(struct thaw_pageserver *ps, int fd, bool wait)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int err = 0;

	if (fcntl(fd, F_GETFD) < 0)
		return thaw_err_set(-EBADF, "page server: descriptor %d is not open", fd);
	if (getpeername(fd, (struct sockaddr *)&peer, &len))
		return thaw_err_set(errno == ENOTSOCK || errno == ENOTCONN ? -EINVAL : -errno,
				    "page server: descriptor %d is no connected socket (%s)", fd, strerror(errno));
	err = thaw_net_prepare(fd);
	if (err)
		return thaw_err_set(err, "page server: socket %d cannot be set up: %s", fd, strerror(-err));
	ps->link = (struct thaw_link){ .fd = fd };
	if (!thaw_keep_has(fd)) /* guarded already */
		thaw_keep_add(fd);
	err = thaw_link_secure(ps, thaw_sys_now_ns() + (wait ? OPEN_NS : BESIDE_NS));
	if (err) { /* it stays the caller's */
		thaw_tls_end(ps->link.tls);
		thaw_keep_remove(fd);
		ps->link = (struct thaw_link){ .fd = -1 };
	}
	return err;
}

static int connect_first(struct thaw_pageserver *ps, const struct thaw_pageserver_options *o, bool wait)
{
	struct thaw_tls_files files = { o->tls_cacert, o->tls_cacrl, o->tls_cert, o->tls_key };
	int err = thaw_keep_init();

	if (err)
		return thaw_err_set(err, "no memory for a connection");
	ps->wake_fd = thaw_sys_eventfd(true);
	if (ps->wake_fd < 0)
		return thaw_err_set(ps->wake_fd, "no descriptor for a connection: %s", strerror(-ps->wake_fd));
	if (o->tls)
		err = thaw_tls_new(&ps->tls, &files);
	if (!err && ps->inherited)
		return use_inherited(ps, o->socket, wait);
	if (!err)
		err = thaw_net_resolve(o->address, (unsigned)o->port, false, &ps->addresses);
	if (err || wait)
		return err ? err : thaw_link_open(ps, thaw_sys_now_ns() + OPEN_NS);
	ps->beginning = true;
	ps->state = THAW_PAGESERVER_LOST;
	ps->lost_ns = thaw_sys_now_ns();
	return 0;
}

static int start_thread(struct thaw_pageserver *ps)
{
	sigset_t all, old;
	uint32_t standing;
	int err = ps->sandbox ? thaw_sandbox_attach(-1) : 0;

	if (err)
		return err;
	ps->attached = ps->sandbox;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&ps->thread, NULL, thaw_pageserver_main, ps);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return thaw_err_set(err, "the thread of the connection cannot be started: %s", strerror(-err));
	ps->running = true;
	while (!(standing = atomic_load(&ps->standing)))
		thaw_sys_futex_wait((uint32_t *)&ps->standing, 0, 100000000, false);
	if (standing != 1)
		return thaw_err_set((int)standing, "the thread of the connection cannot put on its system call filter: %s",
				    strerror(-(int)standing));
	return 0;
}

static void stop(struct thaw_pageserver *ps)
{
	int err;

	atomic_store(&ps->stop, true);
	if (ps->running) {
		err = thaw_sys_eventfd_raise(ps->wake_fd);
		if (err) /* it looks by itself within a second */
			thaw_log_error(&ps->log, "page server %s: its thread cannot be told to end: %s", ps->name, strerror(-err));
		pthread_join(ps->thread, NULL);
	}
	ps->running = false;
	if (ps->attached)
		thaw_sandbox_detach();
	ps->attached = false;
}

static struct thaw_pageserver *open_how(const struct thaw_pageserver_options *o, bool wait)
{
	struct thaw_pageserver *ps;

	if (check_options(o))
		return NULL;
	ps = new_pageserver(o);
	if (!ps) {
		thaw_err_set(-ENOMEM, "no memory for a connection");
		return NULL;
	}
	if (connect_first(ps, o, wait)) {
		thaw_pageserver_put(ps);
		return NULL;
	}
	ps->up_ns = thaw_sys_now_ns();
	if (start_thread(ps)) {
		stop(ps);
		if (ps->inherited)
			ps->link.fd = -1; /* the caller's, as before */
		thaw_link_close(&ps->link);
		thaw_pageserver_put(ps);
		return NULL;
	}
	return ps;
}

struct thaw_pageserver *thaw_pageserver_begin(const struct thaw_pageserver_options *o)
{
	return open_how(o, false);
}

THAW_PUBLIC struct thaw_pageserver *thaw_pageserver_open(const struct thaw_pageserver_options *o)
{
	struct thaw_pageserver_options own;
	struct thaw_pageserver *ps = NULL;
	struct thaw_err before;

	thaw_err_save(&before);
	if (!o)
		thaw_err_set(-EINVAL, "the options are NULL");
	else if (!thaw_sized_take(&own, sizeof(own), FIRST_OPTIONS, o, "thaw_pageserver_options"))
		ps = open_how(&own, true);
	if (!ps)
		thaw_err_wrap("%s", __func__);
	else
		thaw_err_restore(&before); /* an address of several may have failed */
	return ps;
}

/* ---- the rest of its life ---------------------------------------------------------------------------------- */
THAW_PUBLIC int thaw_pageserver_finish(struct thaw_pageserver *ps, int timeout_ms)
{
	uint64_t deadline = thaw_sys_now_ns() + (timeout_ms < 0 ? 0 : timeout_ms) * 1000000ULL;
	bool in_time = true;
	int err;

	if (!ps) {
		thaw_err_set(-EINVAL, "thaw_pageserver_finish: the connection is NULL");
		return -1;
	}
	{
		THAW_SCOPED_LOCK(&ps->lock);
		if (ps->finish == THAW_FINISH_NOT)
			ps->finish = THAW_FINISH_ASKED;
	}
	thaw_pageserver_wake(ps);
	THAW_SCOPED_LOCK(&ps->lock);
	while (ps->finish != THAW_FINISH_OVER && in_time) {
		if (timeout_ms < 0)
			thaw_cond_wait(&ps->over, &ps->lock);
		else
			in_time = thaw_cond_wait_until(&ps->over, &ps->lock, deadline);
	}
	if (ps->finish != THAW_FINISH_OVER) {
		thaw_err_set(-ETIMEDOUT, "thaw_pageserver_finish: page server %s: the end could not be told within %d ms: its processes may"
			     " still be there, or run again", ps->name, timeout_ms);
		return -1;
	}
	err = ps->finish_error;
	if (err) /* what is not in the list of the manual page is EIO */
		thaw_err_set(err == -ENOTCONN || err == -ETIMEDOUT ? err : -EIO, "thaw_pageserver_finish: page server %s: %s: its processes"
			     " may run again", ps->name, ps->finish_text);
	return err ? -1 : 0;
}

THAW_PUBLIC void thaw_pageserver_close(struct thaw_pageserver *ps)
{
	if (!ps)
		return;
	stop(ps);
	{
		THAW_SCOPED_LOCK(&ps->lock);
		ps->closed = true;
	}
	thaw_link_close(&ps->link); /* a reset, when the end has not been told */
	thaw_pageserver_cancel(ps);
	thaw_pageserver_put(ps);
}

THAW_PUBLIC int thaw_pageserver_get_stats(struct thaw_pageserver *ps, struct thaw_pageserver_stats *s)
{
	if (!ps || !s) {
		thaw_err_set(-EINVAL, "thaw_pageserver_get_stats: an argument is NULL");
		return -1;
	}
	if (thaw_sized_check(s->size, FIRST_STATS, "thaw_pageserver_stats")) {
		thaw_err_wrap("thaw_pageserver_get_stats");
		return -1;
	}
	THAW_SCOPED_LOCK(&ps->lock);
	thaw_sized_give(s, &ps->stats, sizeof(ps->stats));
	return 0;
}
