// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/lazy.c - thaw lazy-pages: the daemon that stands beside criu restore --lazy-pages.
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/lazy.h"
#include "cli/lazystatus.h"
#include "engine/report.h"
#include "kern/keep.h"
#include "kern/sys.h"
#include "kern/tls.h"
#include "kern/uffd.h"
#include "source/pageserver.h"
#include "util/err.h"
#include "util/inject.h"

#define CONNECT_NS 5000000000ULL
#define FINISH_MS 30000
#define FINISH_TURN_MS 100
#define LONGEST_MS 1000 /* an event that the session could not be woken for is seen then */

struct lazy {
	struct thaw_lazy_command cmd;
	struct thaw_lazy_start start;
	struct thaw_lazy_images images;
	struct thaw_lazy *session;
	struct thaw_outfile stats;
	struct thaw_pageserver *server; /* --page-server, once a task has come */
	struct thaw_status_server status;
	int signals;
	int server_news;                /* an eventfd, written by the page server's thread */
	uint64_t connecting_ns;         /* since when */
	pthread_mutex_t lock;
	int server_error;               /* lock: what its last event said */
	char server_why[512];           /* lock */
	bool silent;                    /* lock: the session, through which it speaks, is going */
	bool given_up;                  /* it was not the restorer that failed: it still waits for its tasks */
};

static void log_line(void *opaque, enum thaw_log_level level, const char *line)
{
	thaw_say_log(opaque, level, line);
}

static void server_line(void *opaque, enum thaw_log_level level, const char *line)
{
	struct lazy *l = opaque;

	pthread_mutex_lock(&l->lock);
	if (!l->silent)
		thaw_lazy_line(l->session, level, line);
	pthread_mutex_unlock(&l->lock);
}

/* ---- what the restorer says --------------------------------------------------------------------------------- */
static int take_connection(struct lazy *l)
{
	int conn = thaw_lazy_accept(&l->start);

	if (conn == -EAGAIN)
		return 0;
	if (conn < 0)
		return conn;
	thaw_say(1, "the restorer has connected");
	thaw_lazy_connect(l->session, conn);
	return 0;
}

/* What the restorer has sent counts, read or not: it may be past the point where it could still fail. */
static int catch_up(struct lazy *l)
{
	struct pollfd p = { .fd = l->start.listenfd, .events = POLLIN };
	int ret = poll(&p, 1, 0) > 0 ? take_connection(l) : 0;

	return ret ? ret : thaw_lazy_receive(l->session);
}

/* ---- the page server --------------------------------------------------------------------------------------- */
/* On its thread. */
static void server_changed(void *opaque, const struct thaw_pageserver_event *e)
{
	struct lazy *l = opaque;
	uint64_t one = 1;

	pthread_mutex_lock(&l->lock);
	l->server_error = e->error;
	snprintf(l->server_why, sizeof(l->server_why), "%s", e->why);
	pthread_mutex_unlock(&l->lock);
	if (write(l->server_news, &one, sizeof(one)) < 0)
		return; /* full: it is readable */
}

/* One that is about to listen is given a moment. */
static bool may_come_up(const struct lazy *l, int error)
{
	return (error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH) &&
	       thaw_sys_now_ns() - l->connecting_ns < CONNECT_NS;
}

/* As long as the tasks have not run, a page server that cannot be had, or turns out to be none, is a reason to let the restore fail: the
 * source's processes go on. Later there is no such way, and it is waited for. */
static int look_at_server(struct lazy *l)
{
	struct thaw_pageserver_stats s = { .size = sizeof(s) };
	size_t tasks, arrived;
	char why[sizeof(l->server_why)];
	uint64_t n;
	int error, ret;

	(void)THAW_INJECT("lazy.news");
	if (read(l->server_news, &n, sizeof(n)) < 0 || !l->server || thaw_pageserver_get_stats(l->server, &s) < 0)
		return 0;
	ret = catch_up(l); /* its last word may have come since poll(2) was asked */
	if (ret || thaw_lazy_state(l->session, &tasks, &arrived) > THAW_LAZY_ARRIVING)
		return ret;
	pthread_mutex_lock(&l->lock);
	error = l->server_error;
	memcpy(why, l->server_why, sizeof(why));
	pthread_mutex_unlock(&l->lock);
	if (s.state == THAW_PAGESERVER_CONNECTED && error == ETIMEDOUT && !s.bytes) {
		l->given_up = true;
		return thaw_err_set(-ETIMEDOUT, "the page server does not answer, and has sent nothing yet, when %zu of %zu tasks were here: is"
				    " it one, with TLS or without as here? The restore is given up, before its tasks ran", arrived, tasks);
	}
	if (s.state == THAW_PAGESERVER_LOST ? s.bytes || (!s.lost && may_come_up(l, error)) : s.state != THAW_PAGESERVER_FAILED)
		return 0;
	l->given_up = true;
	if (!s.lost)
		return thaw_err_set(-ENOTCONN, "%s; the restore is given up, before its tasks ran", why);
	return thaw_err_set(-ENOTCONN, "the page server was lost before it had sent anything (%s), when %zu of %zu tasks were here: is it one,"
			    " with TLS or without as here, and has its dump not ended? The restore is given up, before its tasks ran",
			    why, arrived, tasks);
}

static struct thaw_pageserver_options server_options(struct lazy *l)
{
	const struct thaw_lazy_command *c = &l->cmd;

	return (struct thaw_pageserver_options){
		.size = sizeof(struct thaw_pageserver_options), .address = c->address, .port = c->port, .socket = c->ps_socket,
		.protocol = c->protocol, .reconnect_timeout = c->reconnect_timeout, .fail_reads = c->core.failure != THAW_LAZY_FREEZE,
		.tls = c->tls, .tls_cacert = c->tls_cacert, .tls_cacrl = c->tls_cacrl, .tls_cert = c->tls_cert,
		.tls_key = c->tls_key, .tls_no_cn_verify = c->tls_no_cn_verify,
		.log = server_line, .log_opaque = l, .log_most = c->core.log_most, .changed = server_changed, .opaque = l,
	};
}

/* A source accepts one connection, and a restore that fails before its first task has come is no reason to use it up. So not
 * earlier. It is made beside everything else: signals and statuses are answered meanwhile. */
static int open_server(struct lazy *l)
{
	const struct thaw_pageserver_options o = server_options(l);

	if (l->server)
		return 0;
	l->connecting_ns = thaw_sys_now_ns();
	l->server = thaw_pageserver_begin(&o);
	return l->server ? 0 : thaw_err_code();
}

/* What a connection will need and can be looked at now: nobody is to begin a restore for which it is missing. */
static int check_tls(const struct thaw_lazy_command *c)
{
	const struct thaw_tls_files files = { c->tls_cacert, c->tls_cacrl, c->tls_cert, c->tls_key };
	struct thaw_tls *t;
	int ret;

	if (!c->page_server || !c->tls)
		return 0;
	ret = thaw_tls_new(&t, &files);
	if (!ret)
		thaw_tls_free(t);
	return ret;
}

static struct thaw_source *remote_source(void *opaque, const struct thaw_lazy_task *t)
{
	struct lazy *l = opaque;

	if (!open_server(l))
		return thaw_source_pageserver(l->server, l->images.dirfd, t->pid, THAW_PAGESERVER_LAZY_ONLY);
	l->given_up = true;
	return NULL;
}

static int note_missing(void *opaque, const struct thaw_lazy_member *m)
{
	if (!m->finished)
		*(bool *)opaque = true;
	return 0;
}

static const char *describe_server(const struct lazy *l, char *buf, size_t len);

/* A page server that is slow to confirm the end, or cannot be reached, is waited for with an ear for others. */
static bool tell_server(struct lazy *l)
{
	uint64_t end = thaw_sys_now_ns() + FINISH_MS * 1000000ULL, began;
	char where[300];

	do {
		struct pollfd p[THAW_STATUS_POLLFDS];

		began = thaw_sys_now_ns();
		if (!thaw_pageserver_finish(l->server, FINISH_TURN_MS))
			return true;
		if (thaw_get_errno() != ETIMEDOUT || thaw_sys_now_ns() - began < FINISH_TURN_MS * 1000000ULL)
			return false; /* it is over, and failed */
		thaw_status_poll(&l->status, p);
		if (poll(p, THAW_STATUS_POLLFDS, 0) >= 0)
			thaw_status_handle(&l->status, p, l->session, l->server, describe_server(l, where, sizeof(where)));
	} while (thaw_sys_now_ns() < end);
	thaw_pageserver_finish(l->server, 0); /* its sentence */
	return false;
}

/* The source of the processes ends them when it is told that all is in; else it lets them run on. */
static int finish_server(struct lazy *l)
{
	bool missing = false;

	if (!l->cmd.page_server)
		return 0;
	if (open_server(l) < 0) /* no task had anything to come */
		return thaw_err_code();
	if (tell_server(l))
		return 0;
	(void)thaw_lazy_error();
	(void)thaw_lazy_each(l->session, note_missing, &missing);
	return thaw_err_wrap("%s, but the page server could not be told: a source may have let its processes run on%s",
			     missing ? "nobody waits for memory any more" : "all memory is in", missing ? "" : ", which run here too");
}

/* ---- the loop ---------------------------------------------------------------------------------------------- */
static int make_signals(struct lazy *l)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	l->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->signals < 0)
		return thaw_err_set(-errno, "signalfd: %s", strerror(errno));
	l->server_news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return l->server_news < 0 ? thaw_err_set(-errno, "eventfd: %s", strerror(errno)) : 0;
}

/* Before the tasks run a signal ends us, and the restore. Afterwards processes would wait for their memory for ever. */
static int take_signal(struct lazy *l)
{
	struct signalfd_siginfo si;
	char pids[256];
	enum thaw_lazy_phase phase;
	size_t tasks, arrived;
	int ret;

	if (read(l->signals, &si, sizeof(si)) != sizeof(si))
		return 0;
	ret = catch_up(l);
	if (ret)
		return ret;
	phase = thaw_lazy_state(l->session, &tasks, &arrived);
	if (phase == THAW_LAZY_LISTENING || (phase == THAW_LAZY_ARRIVING && !arrived))
		return thaw_err_set(-EINTR, "ended by signal %u (%s) before a task was here", si.ssi_signo, strsignal(si.ssi_signo));
	if (phase == THAW_LAZY_ARRIVING) {
		l->given_up = true;
		return thaw_err_set(-EINTR, "ended by signal %u (%s) when %zu of %zu tasks were here: the restore is given up, before its"
				    " tasks ran", si.ssi_signo, strsignal(si.ssi_signo), arrived, tasks);
	}
	if (!thaw_lazy_left(l->session))
		return 0; /* about to end */
	thaw_lazy_waiting(l->session, pids, sizeof(pids));
	thaw_say_error("%s: %s: not all memory is in: this daemon stays until it is, or the processes are gone; killed with"
		       " kill -9 it would leave them waiting", strsignal(si.ssi_signo), *pids ? pids : "somebody");
	return 0;
}

/* Where the content comes from, for a status; NULL: from local images. */
static const char *describe_server(const struct lazy *l, char *buf, size_t len)
{
	if (!l->cmd.page_server)
		return NULL;
	if (l->cmd.ps_socket >= 0)
		snprintf(buf, len, "descriptor %d", l->cmd.ps_socket);
	else
		snprintf(buf, len, strchr(l->cmd.address, ':') ? "[%s]:%ld" : "%s:%ld", l->cmd.address, l->cmd.port);
	return buf;
}

static int turn(struct lazy *l)
{
	struct pollfd p[6 + THAW_STATUS_POLLFDS] = {
		{ .fd = l->start.listenfd, .events = POLLIN },
		{ .fd = thaw_lazy_conn(l->session), .events = POLLIN },
		{ .fd = thaw_lazy_events(l->session), .events = POLLIN },
		{ .fd = l->signals, .events = POLLIN },
		{ .fd = l->server_news, .events = POLLIN },
		{ .fd = l->start.listenfd < 0 ? -1 : l->start.watchfd, .events = POLLIN },
	};
	char where[300];
	int ret = 0, due, n;

	thaw_status_poll(&l->status, p + 6);
	due = thaw_lazy_lines_due(l->session);
	n = poll(p, sizeof(p) / sizeof(*p), due < 0 || due > LONGEST_MS ? LONGEST_MS : due);
	if (n < 0)
		return errno == EINTR ? 0 : thaw_err_set(-errno, "poll: %s", strerror(errno));
	if (p[0].revents)
		ret = take_connection(l);
	if (!ret && p[5].revents)
		ret = thaw_lazy_watch(&l->start);
	if (!ret && p[1].revents)
		ret = thaw_lazy_receive(l->session);
	if (!ret && (!n || p[2].revents || !thaw_lazy_lines_due(l->session)))
		ret = thaw_lazy_settle(l->session);
	if (!ret && p[4].revents)
		ret = look_at_server(l);
	if (!ret && p[3].revents)
		ret = take_signal(l);
	if (!ret)
		thaw_status_handle(&l->status, p + 6, l->session, l->server, describe_server(l, where, sizeof(where)));
	return ret;
}

#define ENDING_MS 2000 /* those that were killed get this long to be seen ended, so that the summary tells how far they were */

/* The session has failed, and its sentence is there. A restorer that still waits for tasks which sleep here would wait for ever;
 * they have done nothing of their own yet, and end. */
static void give_up(struct lazy *l)
{
	int code = thaw_err_code(), conn;
	char why[1024], pids[256];
	bool run;

	snprintf(why, sizeof(why), "%s", thaw_err_text());
	/* One that waits to be accepted may hold userfaultfds, and would be gone with the socket. */
	conn = thaw_lazy_accept_last(&l->start);
	if (conn >= 0)
		thaw_lazy_connect(l->session, conn);
	/* Whatever it was that failed: a restorer that is still connected has not, and waits. One that has gone ends its tasks itself. */
	l->given_up |= thaw_lazy_is_awaited(l->session);
	run = thaw_lazy_abandon(l->session);
	if (l->cmd.core.failure == THAW_LAZY_KILL || (l->given_up && !run)) {
		thaw_lazy_kill(l->session, pids, sizeof(pids));
		if (*pids)
			thaw_say_error("pid %s: killed (%s)", pids, l->given_up && !run ? "they have not run yet, and cannot" :
				       "--on-failure kill");
		(void)thaw_wait(thaw_lazy_monitor(l->session), 0, ENDING_MS);
	}
	thaw_err_set(code, "%s", why);
}

static int serve(struct lazy *l)
{
	int ret = 0;

	while (!ret && !thaw_lazy_is_over(l->session))
		ret = turn(l);
	if (ret)
		give_up(l);
	return ret;
}

/* ---- from the options to the end --------------------------------------------------------------------------- */
static int prepare(struct lazy *l)
{
	struct thaw_lazy_command *c = &l->cmd;
	int ret;

	thaw_sys_raise_descriptors(); /* each task has files of images open, before the engine is there */
	thaw_image_trust_caller();
	ret = thaw_lazy_enter(&l->start, c);
	for (unsigned i = 0; i < c->n_ignored; i++)
		thaw_say(1, "--%s: has no meaning here, ignored", c->ignored[i]);
	if (c->no_config)
		thaw_say(0, "--config %s: %s; going on without it", c->no_config, strerror(c->no_config_error));
	if (c->page_server && c->ps_socket < 0 && !c->port)
		thaw_say(0, "--page-server without --port: it cannot be connected to");
	if (!ret)
		ret = thaw_uffd_check_release();
	if (!ret)
		ret = thaw_outfile_open(&l->stats, "statistics file", c->stats);
	if (!ret && thaw_lazy_images_load(&l->images, l->start.imagesfd, c->page_server) < 0)
		ret = thaw_err_wrap("%s", c->images_dir ? c->images_dir : "image directory");
	if (!ret)
		ret = check_tls(c);
	/* Listening takes another daemon's place, which is not to end because this one cannot begin: so what can fail comes before.
	 * A status socket that was not asked for is no reason; and where that other daemon's is in the way, it has gone by then. */
	if (!ret && c->status_socket)
		ret = thaw_status_serve(&l->status, c->status_socket);
	if (!ret)
		ret = thaw_lazy_listen(&l->start);
	return ret || c->status_socket ? ret : thaw_status_serve(&l->status, NULL);
}

static int begin(struct lazy *l)
{
	int ret = make_signals(l);

	if (ret)
		return ret;
	l->cmd.core.log = log_line;
	if (l->cmd.page_server) {
		l->cmd.core.source = remote_source;
		l->cmd.core.source_opaque = l;
	}
	l->cmd.core.holder_log = thaw_cli.log_fd;
	l->session = thaw_lazy_new(&l->cmd.core, &l->images);
	if (!l->session)
		return thaw_err_code();
	ret = thaw_lazy_start(l->session);
	return ret ? ret : thaw_lazy_ready(&l->start, &l->cmd);
}

static int report(struct lazy *l, bool complete)
{
	char *text;
	int ret = 0;

	if (l->cmd.display_stats)
		thaw_lazy_display(l->session);
	if (!l->cmd.stats)
		return 0;
	text = thaw_lazy_stats_json(l->session, l->server, complete);
	ret = text ? thaw_outfile_commit(&l->stats, text, strlen(text)) :
		     thaw_err_set(-ENOMEM, "statistics file %s: no memory", l->cmd.stats);
	free(text);
	return ret;
}

/* Nobody but the monitor has heard of them. */
static int check_orphans(const struct lazy *l)
{
	uint64_t orphans = thaw_report_orphans(thaw_lazy_monitor(l->session));

	return !orphans ? 0 : thaw_err_set(-ENOMEM, "there was no memory to serve %llu forked children with: they wait for ever at their next"
					   " absent page; end them", (unsigned long long)orphans);
}

static int run(struct lazy *l)
{
	int ret = begin(l), told;

	thaw_lazy_tell_parent(&l->start, ret ? THAW_EXIT_FAILURE : THAW_EXIT_OK);
	if (ret)
		return thaw_say_failure();
	ret = serve(l);
	if (!ret)
		ret = thaw_lazy_result(l->session);
	if (ret)
		thaw_say_failure();
	thaw_lazy_summary(l->session); /* now: the page server may take its time */
	if (!ret) {
		ret = finish_server(l);
		if (ret)
			thaw_say_failure();
	}
	if (!ret) { /* behind that: the tasks are all here, and are not to run at their source as well */
		ret = check_orphans(l);
		if (ret)
			thaw_say_failure();
	}
	told = report(l, !ret);
	if (told)
		thaw_say_failure();
	return ret || told ? THAW_EXIT_FAILURE : THAW_EXIT_OK;
}

int thaw_cmd_lazy_pages(const struct thaw_command *command, int argc, char **argv)
{
	struct lazy l = { .signals = -1, .server_news = -1, .stats.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };
	int status = thaw_lazy_parse(&l.cmd, argc, argv), ret;

	(void)command;
	if (status >= 0)
		return status;
	/* Its source takes an end of stream for success and kills its processes: from the first exit on it is to be a reset. */
	if (l.cmd.page_server && l.cmd.ps_socket >= 0)
		thaw_pageserver_guard(l.cmd.ps_socket);
	ret = prepare(&l);
	if (!ret)
		ret = thaw_lazy_detach(&l.start, &l.cmd, &status);
	if (ret > 0) {
		if (status) { /* else the daemon has the sockets */
			thaw_lazy_unlisten(&l.start);
			thaw_status_close(&l.status);
		}
		thaw_lazy_images_free(&l.images);
		thaw_outfile_leave(&l.stats);
		return status;
	}
	status = ret < 0 ? thaw_say_failure() : run(&l);
	thaw_lazy_unlisten(&l.start);
	thaw_status_close(&l.status);
	pthread_mutex_lock(&l.lock); /* its thread goes on until it is closed, behind the session: what that reads comes from it */
	l.silent = true;
	pthread_mutex_unlock(&l.lock);
	thaw_lazy_close(l.session);
	thaw_pageserver_close(l.server);
	if (l.cmd.page_server && l.cmd.ps_socket >= 0 && !l.server) { /* else the holder would keep it from being reset */
		thaw_keep_remove(l.cmd.ps_socket);
		close(l.cmd.ps_socket);
	}
	thaw_lazy_images_free(&l.images);
	thaw_outfile_close(&l.stats);
	return status;
}
