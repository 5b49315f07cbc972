// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/lazystatus.c - the daemon's side of thaw status: one document for each connection.
#include "config.h"
#include "cli/lazystatus.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "kern/sys.h"
#include "lazy/status.h"
#include "util/err.h"

#define BACKLOG 16
#define REST_NS 1000000000ULL

/* ---- the socket -------------------------------------------------------------------------------------------- */
static bool somebody_answers(const struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes = fd >= 0 && (!connect(fd, (const void *)a, sizeof(*a)) || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return yes;
}

/* What an earlier daemon has left; never anything else. */
static int clear_name(const struct sockaddr_un *a)
{
	struct stat st;

	if (lstat(a->sun_path, &st))
		return errno == ENOENT ? 0 : thaw_err_set(-errno, "status socket %s: %s", a->sun_path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return thaw_err_set(-EEXIST, "status socket %s: exists and is no socket: give another path to --status-socket",
				    a->sun_path);
	if (somebody_answers(a))
		return thaw_err_set(-EADDRINUSE, "status socket %s: another daemon answers there: give another path to"
				    " --status-socket", a->sun_path);
	if (unlink(a->sun_path) && errno != ENOENT)
		return thaw_err_set(-errno, "status socket %s: an old one cannot be removed: %s", a->sun_path, strerror(errno));
	return 0;
}

static int make(struct thaw_status_server *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	int err;

	if (strlen(s->path) >= sizeof(a.sun_path))
		return thaw_err_set(-ENAMETOOLONG, "status socket %s: the path is longer than %zu characters", s->path,
				    sizeof(a.sun_path) - 1);
	strcpy(a.sun_path, s->path);
	err = clear_name(&a);
	if (err)
		return err;
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return thaw_err_set(-errno, "status socket: %s", strerror(errno));
	mask = umask(077); /* for its owner only */
	err = bind(s->fd, (void *)&a, sizeof(a)) ? -errno : 0;
	umask(mask);
	if (!err && (listen(s->fd, BACKLOG) || lstat(s->path, &st)))
		err = -errno;
	if (err) {
		close(s->fd);
		s->fd = -1;
		return thaw_err_set(err, "status socket %s: cannot be made: %s", s->path, strerror(-err));
	}
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return 0;
}

int thaw_status_serve(struct thaw_status_server *s, const char *path)
{
	int r;

	*s = (struct thaw_status_server){ .fd = -1, .path = path ? path : THAW_STATUS_SOCKET };
	for (unsigned i = 0; i < THAW_STATUS_CLIENTS; i++)
		s->client[i].fd = -1;
	r = make(s);
	if (!r || path)
		return r;
	thaw_say(0, "%s; going on without it", thaw_err_text());
	return 0;
}

static void drop(struct thaw_status_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->text);
	*c = (struct thaw_status_client){ .fd = -1 };
}

void thaw_status_close(struct thaw_status_server *s)
{
	struct stat st;

	if (!s->path)
		return;
	for (unsigned i = 0; i < THAW_STATUS_CLIENTS; i++)
		drop(&s->client[i]);
	if (s->fd < 0)
		return;
	close(s->fd);
	s->fd = -1;
	/* Another daemon may have put its own in the place. */
	if (!lstat(s->path, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
}

/* ---- the document ------------------------------------------------------------------------------------------ */
struct gather {
	struct thaw_lazy *z;
	struct thaw_status *s;
};

static int gather_member(void *opaque, const struct thaw_lazy_member *m)
{
	struct gather *g = opaque;
	struct thaw_progress p = { .size = sizeof(p) };
	struct thaw_stats st = { .size = sizeof(st) };
	struct thaw_status_task *t = thaw_status_add(g->s);

	if (!t)
		return -ENOMEM;
	if (m->ended)
		p = m->last;
	else if (thaw_get_progress(thaw_lazy_monitor(g->z), m->space, &p) < 0)
		p = (struct thaw_progress){ 0 };
	if (!m->parent && !thaw_get_stats(thaw_lazy_monitor(g->z), m->space, &st)) {
		t->p50 = st.latency_p50;
		t->p99 = st.latency_p99;
	}
	t->pid = m->pid;
	t->here = m->real > 0 ? m->real : 0;
	t->child = m->parent != 0;
	strcpy(t->state, !m->ended ? "waiting" : m->finished ? "finished" : "gone");
	t->total = p.bytes_total;
	t->placed = p.bytes_placed;
	t->gone = p.bytes_gone;
	t->faults = p.faults;
	t->unavailable = m->unavailable;
	t->unregistered = m->unregistered;
	g->s->unavailable += m->unavailable;
	return 0;
}

static void gather_source(struct thaw_status *s, struct thaw_pageserver *ps, const char *remote)
{
	static const char *const states[] = {
		[THAW_PAGESERVER_CONNECTED] = "connected", [THAW_PAGESERVER_LOST] = "lost",
		[THAW_PAGESERVER_FAILED] = "failed", [THAW_PAGESERVER_CLOSED] = "closed",
	};
	struct thaw_pageserver_stats st = { .size = sizeof(st) };

	strcpy(s->source.kind, remote ? "page-server" : "images");
	strcpy(s->source.state, remote ? "connecting" : "local");
	if (!remote)
		return;
	snprintf(s->source.where, sizeof(s->source.where), "%s", remote);
	if (!ps || thaw_pageserver_get_stats(ps, &st) < 0)
		return;
	if (st.state == THAW_PAGESERVER_LOST && !st.lost)
		; /* there has been none yet */
	else if ((size_t)st.state < sizeof(states) / sizeof(*states) && states[st.state])
		strcpy(s->source.state, states[st.state]);
	s->source.bytes = st.bytes;
	s->source.gets = st.gets;
	s->source.in_flight = st.in_flight;
	s->source.rtt_ns = st.rtt_ns;
	s->source.lost = st.lost;
	s->source.short_answers = st.short_answers;
	s->source.silent_ns = st.silent_since_ns ? thaw_sys_now_ns() - st.silent_since_ns : 0;
}

static char *document(struct thaw_lazy *z, struct thaw_pageserver *ps, const char *remote)
{
	static const char *const phases[] = {
		[THAW_LAZY_LISTENING] = "listening", [THAW_LAZY_ARRIVING] = "arriving",
		[THAW_LAZY_SERVING] = "serving", [THAW_LAZY_OVER] = "over",
	};
	struct thaw_status s = { .version = PACKAGE_VERSION, .pid = getpid(), .stats.size = sizeof(s.stats) };
	struct thaw_progress p = { .size = sizeof(p) };
	struct gather g = { z, &s };
	enum thaw_lazy_phase phase;
	size_t tasks, arrived;
	char *text = NULL;

	phase = thaw_lazy_state(z, &tasks, &arrived);
	strcpy(s.phase, phases[phase]);
	s.tasks_expected = tasks;
	s.tasks_arrived = arrived;
	if (!thaw_get_progress(thaw_lazy_monitor(z), 0, &p) && !thaw_get_stats(thaw_lazy_monitor(z), 0, &s.stats) &&
	    !thaw_lazy_each(z, gather_member, &g)) {
		s.spaces = p.spaces;
		s.spaces_done = p.spaces_done;
		s.total = p.bytes_total;
		s.placed = p.bytes_placed;
		s.gone = p.bytes_gone;
		s.rate = p.rate;
		s.elapsed_ns = p.elapsed_ns;
		/* Until all tasks are here nobody knows how much there is to come. */
		s.left_ns = phase < THAW_LAZY_SERVING ? UINT64_MAX : p.left_ns;
		gather_source(&s, ps, remote);
		text = thaw_status_to_json(&s, false);
	}
	thaw_status_free(&s);
	return text;
}

/* ---- clients ----------------------------------------------------------------------------------------------- */
static void feed(struct thaw_status_client *c)
{
	ssize_t n = send(c->fd, c->text + c->sent, c->len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		c->sent += n;
	if (n < 0 || c->sent == c->len)
		drop(c);
}

static bool may_ask(int fd)
{
	struct ucred u;
	socklen_t len = sizeof(u);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) && (u.uid == 0 || u.uid == geteuid());
}

static struct thaw_status_client *place(struct thaw_status_server *s)
{
	struct thaw_status_client *c;

	for (unsigned i = 0; i < THAW_STATUS_CLIENTS; i++)
		if (s->client[i].fd < 0)
			return &s->client[i];
	c = &s->client[s->turn++ % THAW_STATUS_CLIENTS];
	drop(c);
	return c;
}

static void take(struct thaw_status_server *s, struct thaw_lazy *z, struct thaw_pageserver *ps, const char *remote)
{
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct thaw_status_client *c;

	if (fd < 0) {
		/* The client stays in the queue, and poll(2) would tell of it again at once. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			s->rest_ns = thaw_sys_now_ns() + REST_NS;
		return;
	}
	if (!may_ask(fd)) {
		close(fd);
		return;
	}
	c = place(s);
	*c = (struct thaw_status_client){ .fd = fd, .text = document(z, ps, remote) };
	c->len = c->text ? strlen(c->text) : 0;
	if (c->text)
		feed(c);
	else
		drop(c); /* no memory: the client says that nobody answered */
}

void thaw_status_poll(const struct thaw_status_server *s, struct pollfd *p)
{
	p[0] = (struct pollfd){ .fd = thaw_sys_now_ns() < s->rest_ns ? -1 : s->fd, .events = POLLIN };
	for (unsigned i = 0; i < THAW_STATUS_CLIENTS; i++)
		p[1 + i] = (struct pollfd){ .fd = s->client[i].fd, .events = POLLOUT };
}

void thaw_status_handle(struct thaw_status_server *s, const struct pollfd *p, struct thaw_lazy *z, struct thaw_pageserver *ps,
			const char *remote)
{
	for (unsigned i = 0; i < THAW_STATUS_CLIENTS; i++)
		if (p[1 + i].revents && s->client[i].fd >= 0)
			feed(&s->client[i]);
	if (p[0].revents)
		take(s, z, ps, remote);
}
