// SPDX-License-Identifier: LGPL-2.1-or-later
/* server/server.c - listening, a thread for each client, and the end of all of them */
#include "config.h"
#include "server/server.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kern/sys.h"
#include "util/err.h"

#define STACK (512UL << 10)
#define COMPLAINTS 50 /* a second */

/* ---- lines ------------------------------------------------------------------------------------------------- */
static void tell(struct thaw_server *s, unsigned level, const char *fmt, va_list ap)
{
	char line[768];

	vsnprintf(line, sizeof(line), fmt, ap);
	s->say(level, line);
}

void thaw_server_tell(struct thaw_server *s, unsigned level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(s, level, fmt, ap);
	va_end(ap);
}

void thaw_server_complain(struct thaw_server *s, const char *fmt, ...)
{
	uint64_t now = thaw_sys_now_ns();
	unsigned before = 0;
	bool loud;
	va_list ap;

	atomic_fetch_add(&s->refused, 1);
	{
		THAW_SCOPED_LOCK(&s->lock);
		if (now - s->told_ns > 1000000000ULL) {
			before = s->told > COMPLAINTS ? s->told - COMPLAINTS : 0;
			s->told = 0;
			s->told_ns = now;
		}
		loud = s->told++ < COMPLAINTS;
	}
	if (before)
		thaw_server_tell(s, 0, "%u more clients were refused meanwhile", before);
	va_start(ap, fmt);
	tell(s, loud ? 0 : 2, fmt, ap);
	va_end(ap);
}

/* ---- set-up ------------------------------------------------------------------------------------------------ */
int thaw_server_init(struct thaw_server *s)
{
	s->listener = -1;
	thaw_lock_init(&s->lock, THAW_RANK_IO);
	thaw_cond_init(&s->ended);
	s->stop_fd = thaw_sys_eventfd(true);
	if (s->stop_fd < 0)
		return thaw_err_set(s->stop_fd, "no descriptor for a server: %s", strerror(-s->stop_fd));
	return 0;
}

int thaw_server_listen(struct thaw_server *s, const char *address, unsigned port)
{
	struct thaw_net_addresses at;
	int fd = thaw_net_resolve(address, port, true, &at);

	if (fd)
		return fd;
	for (unsigned i = 0; i < at.n; i++) {
		fd = thaw_net_listen(&at.address[i], &s->port);
		if (fd >= 0)
			break;
	}
	if (fd < 0)
		return fd;
	s->listener = fd;
	return 0;
}

void thaw_server_free(struct thaw_server *s)
{
	if (s->listener >= 0)
		close(s->listener);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	thaw_filter_free(s->filter);
	if (s->attached)
		thaw_sandbox_detach();
	thaw_cond_destroy(&s->ended);
	thaw_lock_destroy(&s->lock);
	thaw_tls_free(s->tls);
	thaw_store_close(&s->store);
}

/* ---- clients ----------------------------------------------------------------------------------------------- */
static void *session_main(void *arg)
{
	struct thaw_session_start *start = arg;
	struct thaw_server *s = start->server;
	int err;

	thaw_sys_name_thread("thaw-session");
	err = thaw_sandbox_install(s->filter);
	if (err) {
		thaw_server_complain(s, "%s: not served: no system call filter: %s", start->peer, strerror(-err));
		close(start->fd);
	} else {
		thaw_server_session(start);
	}
	free(start);
	THAW_SCOPED_LOCK(&s->lock);
	s->sessions--;
	thaw_cond_broadcast(&s->ended);
	return NULL;
}

static int start_session(struct thaw_server *s, struct thaw_session_start *start)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	{
		THAW_SCOPED_LOCK(&s->lock);
		if (s->sessions >= THAW_SERVER_SESSIONS)
			return -EUSERS;
		s->sessions++;
		start->id = ++s->last_id;
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, session_main, start);
	pthread_attr_destroy(&attr);
	if (err) {
		THAW_SCOPED_LOCK(&s->lock);
		s->sessions--;
	}
	return -err;
}

static void take_client(struct thaw_server *s)
{
	struct sockaddr_storage peer = { 0 };
	struct thaw_session_start *start;
	char name[80];
	int fd = thaw_net_accept(s->listener, &peer), err;

	if (fd == -EAGAIN || fd == -ECONNABORTED || fd == -EINTR)
		return;
	if (fd < 0) { /* no descriptor, no memory: it stays in the queue, and others may end meanwhile */
		thaw_server_complain(s, "a client cannot be taken: %s", strerror(-fd));
		usleep(100000);
		return;
	}
	thaw_net_name(&peer, name, sizeof(name));
	start = malloc(sizeof(*start));
	if (start) {
		*start = (struct thaw_session_start){ .server = s, .fd = fd };
		memcpy(start->peer, name, sizeof(name));
	}
	err = start ? start_session(s, start) : -ENOMEM;
	if (!err)
		return;
	thaw_server_complain(s, "%s: not served: %s", name, err == -EUSERS ? "there are as many clients as there may be" :
			     strerror(-err));
	free(start);
	close(fd);
}

int thaw_server_prepare(struct thaw_server *s)
{
	int err = thaw_sandbox_attach(-1);

	s->attached = !err;
	return err ? err : thaw_sandbox_compile(&s->filter, THAW_ROLE_SERVER);
}

int thaw_server_run(struct thaw_server *s, int signal_fd)
{
	int err;

	for (;;) {
		int what = thaw_net_wait(s->listener, THAW_NET_READABLE, signal_fd, -1);

		if (what < 0)
			return thaw_err_set(what, "waiting for clients: %s", strerror(-what));
		if (what & THAW_NET_WOKEN)
			break;
		if (what & THAW_NET_READABLE)
			take_client(s);
	}
	/* They use what the caller frees next, and wait for this alone. */
	while ((err = thaw_sys_eventfd_raise(s->stop_fd)) == -EAGAIN || err == -EINTR)
		usleep(1000);
	if (err)
		return thaw_err_set(err, "the sessions cannot be told to end: %s", strerror(-err));
	THAW_SCOPED_LOCK(&s->lock);
	while (s->sessions)
		thaw_cond_wait(&s->ended, &s->lock);
	return 0;
}
