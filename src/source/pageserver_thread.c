// SPDX-License-Identifier: LGPL-2.1-or-later
/* source/pageserver_thread.c - the thread of a connection: asks, receives, answers; loses the connection and finds it again */
#include "config.h"
#include "source/pageserver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kern/sandbox.h"
#include "kern/sys.h"
#include "util/err.h"

#define SECOND 1000000000ULL
#define FIRST_BACKOFF_NS 50000000ULL
#define FIRST_RETRY_NS 200000000ULL /* as long as a server may be about to listen */
#define YOUNG_NS (5 * SECOND)
#define LAST_BACKOFF_NS 5000000000ULL
#define CONNECT_NS (10 * SECOND)
#define QUIET_NS (10 * SECOND)  /* without an answer to what was asked: it hangs, or the way to it has gone */
#define STEADY_NS (10 * SECOND) /* a connection that has lasted so long counts as found again */
#define FINISH_NS (30 * SECOND)
#define LONGEST_NS SECOND       /* it sleeps, should a word to wake it be lost */
#define WRONG_MOST 5            /* answers in a row that make no sense */
#define RECEIVES 64             /* before new wants are looked at */

void thaw_pageserver_wake(struct thaw_pageserver *ps)
{
	/* The thread says that it sleeps before it looks for the last time: it sees what was left, or this sees its word. */
	if (atomic_load(&ps->asleep))
		(void)thaw_sys_eventfd_raise(ps->wake_fd); /* where that fails, it looks by itself within a second */
}

/* ---- answers ----------------------------------------------------------------------------------------------- */
static bool answer_done(struct thaw_pageserver *ps)
{
	struct thaw_want *w;
	bool any = false;

	while ((w = thaw_gets_pop(&ps->gets))) {
		struct thaw_remote_read *r = (struct thaw_remote_read *)w; /* its first member */
		struct thaw_request *request = r->request;
		int error = w->error;

		free(r);
		request->done(request, error);
		any = true;
	}
	return any;
}

static bool take_fresh(struct thaw_pageserver *ps)
{
	struct thaw_remote_read *r, *next;

	{
		THAW_SCOPED_LOCK(&ps->lock);
		r = ps->fresh;
		ps->fresh = NULL;
		ps->fresh_last = &ps->fresh;
	}
	if (!r)
		return false;
	for (; r; r = next) {
		next = r->next;
		thaw_gets_add(&ps->gets, &r->want);
	}
	return true;
}

void thaw_pageserver_cancel(struct thaw_pageserver *ps)
{
	take_fresh(ps);
	thaw_gets_reset(&ps->gets, thaw_sys_now_ns());
	thaw_gets_fail(&ps->gets, ECANCELED, true);
	answer_done(ps);
}

/* ---- what others may know ---------------------------------------------------------------------------------- */
/* Since when an answer has been due and nothing has come; 0: none is due. */
static uint64_t quiet_since(const struct thaw_pageserver *ps)
{
	const struct thaw_gets *g = &ps->gets;
	uint64_t asked = g->n ? g->fifo[g->head].sent_ns : 0;

	return !g->n ? 0 : asked > ps->heard_ns ? asked : ps->heard_ns;
}

static void show(struct thaw_pageserver *ps)
{
	const struct thaw_gets *g = &ps->gets;
	uint64_t quiet = ps->state == THAW_PAGESERVER_CONNECTED ? quiet_since(ps) : 0;
	THAW_SCOPED_LOCK(&ps->lock);

	ps->stats = (struct thaw_pageserver_stats){
		.size = sizeof(ps->stats), .state = ps->state, .bytes = g->bytes, .gets = g->n_gets, .in_flight = g->n,
		.in_flight_bytes = g->background_bytes, .window = g->window, .rtt_ns = g->rtt_ns, .waiting = g->n_wants,
		.missing_pages = thaw_gets_missing(g), .short_answers = g->n_short, .shared = g->n_shared, .lost = ps->n_lost,
		.since_ns = ps->state == THAW_PAGESERVER_CONNECTED ? ps->up_ns : ps->lost_ns,
		.silent_since_ns = quiet && thaw_sys_now_ns() - quiet >= QUIET_NS ? quiet : 0,
	};
}

static void enter_state(struct thaw_pageserver *ps, enum thaw_pageserver_state state, int error, const char *why)
{
	struct thaw_pageserver_event e = {
		.size = sizeof(e), .state = state, .previous = ps->state, .error = -error, .why = why,
	};

	ps->state = state;
	show(ps);
	if (ps->changed && e.previous != state)
		ps->changed(ps->opaque, &e);
}

/* "pid 12" or "pid 12, 13 and 4 others" */
static void name_processes(struct thaw_pageserver *ps, char *buf, size_t size)
{
	size_t at;
	THAW_SCOPED_LOCK(&ps->lock);

	at = (size_t)snprintf(buf, size, ps->n_pids ? "pid" : "nobody");
	for (unsigned i = 0; i < ps->n_pids && i < 16 && at < size; i++)
		at += (size_t)snprintf(buf + at, size - at, "%s %d", i ? "," : "", ps->pids[i]);
	if (ps->n_pids > 16 && at < size)
		snprintf(buf + at, size - at, " and %u others", ps->n_pids - 16);
}

/* ---- losing it --------------------------------------------------------------------------------------------- */
/* Given up, it was by time alone, and nobody has been refused anything: who only waits loses nothing when it is tried on. */
static bool may_return(const struct thaw_pageserver *ps)
{
	return !ps->fail_reads && !ps->inherited && ps->n_wrong < WRONG_MOST;
}

static bool is_sought(const struct thaw_pageserver *ps)
{
	return ps->state == THAW_PAGESERVER_LOST || (ps->state == THAW_PAGESERVER_FAILED && may_return(ps));
}

static void fail(struct thaw_pageserver *ps, int error, const char *why)
{
	char who[256], text[512];

	snprintf(text, sizeof(text), "%s", why); /* it may be this thread's last sentence */
	name_processes(ps, who, sizeof(who));
	thaw_log_error(&ps->log, "page server %s: given up (%s): %s will %s memory that is not in yet and can only come from there; end"
		       " what cannot go on%s", ps->name, text, who, ps->fail_reads ? "be refused" :
		       may_return(ps) ? "wait for" : "wait for ever for", may_return(ps) ? " (connecting again is still tried)" : "");
	thaw_gets_reset(&ps->gets, thaw_sys_now_ns());
	enter_state(ps, THAW_PAGESERVER_FAILED, error, text);
}

static void say_lost(struct thaw_pageserver *ps, const char *why)
{
	char who[256], long_enough[64] = "for ever";

	name_processes(ps, who, sizeof(who));
	if (ps->reconnect_ns)
		snprintf(long_enough, sizeof(long_enough), "for up to %llu s", (unsigned long long)(ps->reconnect_ns / SECOND));
	thaw_log_error(&ps->log, "page server %s: the connection is lost (%s), with %llu pages under way: %s will wait for what they touch;"
		       " connecting again is tried %s", ps->name, why, (unsigned long long)thaw_gets_missing(&ps->gets), who, long_enough);
}

/* error: -errno; why: a sentence, or NULL. */
static void lose(struct thaw_pageserver *ps, int error, const char *why)
{
	uint64_t now = thaw_sys_now_ns();
	char text[512];
	bool news = !ps->lost_ns;

	snprintf(text, sizeof(text), "%s", why ? why : error == -ECONNRESET ? "it was reset by the other side" : strerror(-error));
	thaw_link_close(&ps->link);
	thaw_gets_reset(&ps->gets, now);
	ps->quiet_told_ns = 0;
	ps->n_lost++;
	if (news) {
		ps->lost_ns = now;
		ps->backoff_ns = 0;
	}
	ps->backoff_ns = ps->backoff_ns ? ps->backoff_ns * 2 : FIRST_BACKOFF_NS;
	if (ps->backoff_ns > LAST_BACKOFF_NS)
		ps->backoff_ns = LAST_BACKOFF_NS;
	ps->retry_ns = now + ps->backoff_ns;
	if (error == -EPROTO && ++ps->n_wrong >= WRONG_MOST)
		fail(ps, error, text);
	else if (ps->inherited)
		fail(ps, error, text);
	else if (news)
		say_lost(ps, text);
	if (ps->state == THAW_PAGESERVER_CONNECTED)
		enter_state(ps, THAW_PAGESERVER_LOST, error, text);
}

/* Something came in: whatever was lost before is forgotten. */
static void note_progress(struct thaw_pageserver *ps)
{
	if (ps->lost_ns)
		thaw_log_warning(&ps->log, "page server %s: pages are coming in again, after %llu ms", ps->name,
				 (unsigned long long)((thaw_sys_now_ns() - ps->lost_ns) / 1000000));
	ps->lost_ns = 0;
	ps->n_wrong = 0;
}

/* There has been no connection yet, and the server may be about to listen. */
static bool is_young(const struct thaw_pageserver *ps, uint64_t now)
{
	return ps->beginning && ps->state == THAW_PAGESERVER_LOST && now - ps->lost_ns < YOUNG_NS;
}

/* The state stays what it was: whoever waits may decide whether to go on waiting. */
static void tell_still(struct thaw_pageserver *ps, int error, const char *why)
{
	struct thaw_pageserver_event e = {
		.size = sizeof(e), .state = ps->state, .previous = ps->state, .error = -error, .why = why,
	};

	if (ps->changed)
		ps->changed(ps->opaque, &e);
}

/* The first connection could not be made. */
static void tell_attempt(struct thaw_pageserver *ps, int error, const char *why, bool first)
{
	if (first)
		thaw_log_warning(&ps->log, "%s (it is tried again)", why);
	tell_still(ps, error, why);
}

static void found(struct thaw_pageserver *ps)
{
	const char *how = ps->beginning ? "connected" : "connected again";

	ps->up_ns = thaw_sys_now_ns();
	thaw_log_info(&ps->log, "page server %s: %s%s", ps->name, how, ps->beginning ? "" : "; what was under way is asked for again");
	if (ps->beginning)
		ps->lost_ns = 0;
	ps->beginning = false;
	enter_state(ps, THAW_PAGESERVER_CONNECTED, 0, how);
}

static bool wants_finish(struct thaw_pageserver *ps)
{
	THAW_SCOPED_LOCK(&ps->lock);

	return ps->finish == THAW_FINISH_ASKED;
}

/* Not connected: one attempt, when it is time for it. True: connected, and all that is wanted has to be asked for. */
static bool find_again(struct thaw_pageserver *ps)
{
	bool limited = ps->reconnect_ns && ps->state == THAW_PAGESERVER_LOST;
	uint64_t now = thaw_sys_now_ns(), end = limited ? ps->lost_ns + ps->reconnect_ns : UINT64_MAX;
	uint64_t until = now + CONNECT_NS < end ? now + CONNECT_NS : end;
	int err;

	if (now >= end) {
		char why[96];

		snprintf(why, sizeof(why), "it has not come back within %llu s", (unsigned long long)(ps->reconnect_ns / SECOND));
		ps->retry_ns = now + LAST_BACKOFF_NS;
		fail(ps, -ETIMEDOUT, why);
		return false;
	}
	if (now < ps->retry_ns)
		return false;
	if (ps->beginning && !ps->backoff_ns)
		thaw_log_info(&ps->log, "page server %s: is being connected to", ps->name);
	err = thaw_link_open(ps, until);
	if (err == -ECANCELED)
		return false;
	if (err) {
		char why[512];
		bool first = !ps->backoff_ns;

		snprintf(why, sizeof(why), "%s", thaw_err_text());
		thaw_log_debug(&ps->log, "%s", why);
		now = thaw_sys_now_ns();
		if (first) /* and if it took long, it is not young any more */
			ps->backoff_ns = FIRST_BACKOFF_NS / 2;
		ps->backoff_ns = is_young(ps, now) ? FIRST_RETRY_NS :
				 ps->backoff_ns * 2 > LAST_BACKOFF_NS ? LAST_BACKOFF_NS : ps->backoff_ns * 2;
		ps->retry_ns = now + ps->backoff_ns;
		ps->last_tried = wants_finish(ps);
		if (ps->beginning)
			tell_attempt(ps, err, why, first);
		return false;
	}
	found(ps);
	return true;
}

/* ---- asking and receiving ---------------------------------------------------------------------------------- */
static int ask(struct thaw_pageserver *ps, bool *any)
{
	enum thaw_frame_layout layout = atomic_load(&ps->layout);
	struct thaw_link *l = &ps->link;
	uint64_t now = thaw_sys_now_ns();
	struct thaw_frame f;

	while (l->out_len + THAW_FRAME_MOST <= sizeof(l->out) && thaw_gets_next(&ps->gets, now, &f)) {
		int err = thaw_frame_encode(layout, &f, l->out + l->out_len);

		if (err)
			return err;
		l->out_len += layout;
		*any = true;
	}
	return thaw_link_send(l);
}

/* Before the first source there is none; nothing is asked then, and whatever comes in is wrong. */
static enum thaw_frame_layout layout_of(struct thaw_pageserver *ps)
{
	int layout = atomic_load(&ps->layout);

	return layout == THAW_FRAME_UNKNOWN ? THAW_FRAME_OLD : layout;
}

static int take_header(struct thaw_pageserver *ps, size_t bytes)
{
	enum thaw_frame_layout layout = layout_of(ps);
	struct thaw_frame f;

	ps->link.header_have += bytes;
	if (ps->link.header_have < (size_t)layout)
		return 0;
	ps->link.header_have = 0;
	thaw_frame_decode(layout, ps->link.header, &f);
	return thaw_gets_reply(&ps->gets, &f);
}

/* One call. -EAGAIN: nothing is there. */
static int receive_once(struct thaw_pageserver *ps)
{
	struct thaw_link *l = &ps->link;
	struct iovec iov[2] = { { 0 } };
	unsigned char *at = NULL;
	size_t room = 0, rest = (size_t)layout_of(ps) - l->header_have;
	ssize_t n;

	if (thaw_gets_in_reply(&ps->gets))
		room = thaw_gets_room(&ps->gets, &at);
	iov[0] = room ? (struct iovec){ at, room } : (struct iovec){ l->header + l->header_have, rest };
	if (room)
		iov[1] = (struct iovec){ l->header, rest }; /* of the next answer */
	n = thaw_link_receive(l, iov);
	if (!n)
		return thaw_err_set(-EPIPE, "it was closed by the other side");
	if (n < 0) {
		if (n != -EAGAIN)
			thaw_err_set((int)n, "%s", n == -ECONNRESET ? "it was reset" : strerror((int)-n));
		return (int)n;
	}
	if (room) {
		size_t part = (size_t)n < room ? (size_t)n : room;

		thaw_gets_filled(&ps->gets, part, thaw_sys_now_ns());
		note_progress(ps);
		if ((size_t)n == part)
			return 0;
		n -= (ssize_t)part;
	}
	return take_header(ps, (size_t)n);
}

/* 0, or -errno with the connection lost. */
static int converse(struct thaw_pageserver *ps, bool *any)
{
	int err = ask(ps, any);

	if (err)
		return thaw_err_set(err, "%s", err == -ECONNRESET || err == -EPIPE ? "it was reset" : strerror(-err));
	for (unsigned i = 0; i < RECEIVES; i++) {
		err = receive_once(ps);
		if (err == -EAGAIN)
			return 0;
		if (err)
			return err;
		ps->heard_ns = thaw_sys_now_ns();
		*any = true;
		if (ps->gets.done.first)
			break; /* somebody may be waiting for it */
	}
	return 0;
}

static uint64_t quiet_limit(const struct thaw_pageserver *ps)
{
	uint64_t since = quiet_since(ps), limit = UINT64_MAX;

	if (since && ps->quiet_told_ns != since)
		limit = since + QUIET_NS;
	if (since && ps->reconnect_ns && since + ps->reconnect_ns < limit)
		limit = since + ps->reconnect_ns;
	return limit;
}

/* One that is stopped, or whose machine has vanished, says nothing, and TCP may take it for alive for ever. 0, or -ETIMEDOUT. */
static int look_after_quiet(struct thaw_pageserver *ps)
{
	uint64_t now = thaw_sys_now_ns(), since = quiet_since(ps);
	char who[256];

	if (ps->quiet_told_ns && ps->quiet_told_ns != since) {
		thaw_log_warning(&ps->log, "page server %s: it answers again", ps->name);
		ps->quiet_told_ns = 0;
	}
	if (now < quiet_limit(ps))
		return 0;
	if (ps->reconnect_ns && now >= since + ps->reconnect_ns)
		return thaw_err_set(-ETIMEDOUT, "it has not answered for %llu s", (unsigned long long)(ps->reconnect_ns / SECOND));
	name_processes(ps, who, sizeof(who));
	thaw_log_error(&ps->log, "page server %s: it has not answered for %llu s, with %u requests under way: is it running, and the way to it"
		       " open? %s will wait for what they touch", ps->name, (unsigned long long)((now - since) / SECOND), ps->gets.n, who);
	ps->quiet_told_ns = since;
	tell_still(ps, -ETIMEDOUT, "it does not answer");
	return 0;
}

static int interest(const struct thaw_link *l)
{
	return THAW_NET_READABLE | (l->write_wanted ? THAW_NET_WRITABLE : 0);
}

/* ---- the end ----------------------------------------------------------------------------------------------- */
static int wait_link(struct thaw_pageserver *ps, uint64_t deadline)
{
	uint64_t now = thaw_sys_now_ns();

	if (now >= deadline || atomic_load(&ps->stop))
		return thaw_err_set(-ETIMEDOUT, "it does not confirm the end");
	return thaw_net_wait(ps->link.fd, interest(&ps->link), -1, 100);
}

static int receive_all(struct thaw_pageserver *ps, void *buf, size_t len, uint64_t deadline)
{
	size_t got = 0;

	while (got < len) {
		struct iovec iov[2] = { { (char *)buf + got, len - got }, { 0 } };
		ssize_t n = thaw_link_receive(&ps->link, iov);
		int err = n == -EAGAIN ? wait_link(ps, deadline) : 0;

		if (!n)
			return thaw_err_set(-EPIPE, "it closed the connection instead of confirming the end");
		if (err < 0)
			return err;
		if (n < 0 && n != -EAGAIN)
			return thaw_err_set((int)n, "%s", strerror((int)-n));
		got += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* All pages are here: from now on an end of stream is the truth, so it comes first. */
static int say_good_bye(struct thaw_pageserver *ps)
{
	struct thaw_frame f = { .command = ps->inherited ? THAW_FRAME_FORCE_CLOSE : THAW_FRAME_CLOSE };
	uint64_t deadline = thaw_sys_now_ns() + FINISH_NS;
	enum thaw_frame_layout layout = atomic_load(&ps->layout);
	struct thaw_link *l = &ps->link;
	int32_t status = -1;
	int err;

	if (layout == THAW_FRAME_UNKNOWN)
		layout = THAW_FRAME_NEW; /* nobody asked for anything: the longer one is enough for either */
	(void)thaw_net_end_well(l->fd);
	thaw_frame_encode(layout, &f, l->out);
	l->out_len = layout;
	while (!(err = thaw_link_send(l)) && l->out_len)
		if ((err = wait_link(ps, deadline)) < 0)
			break;
	if (err >= 0)
		err = receive_all(ps, &status, sizeof(status), deadline);
	if (!err && status)
		err = thaw_err_set(-EIO, "it ended with status %d", status);
	if (l->tls)
		(void)thaw_tls_bye(l->tls); /* the page server does not wait for it */
	shutdown(l->fd, SHUT_WR);
	return err < 0 ? err : 0;
}

static void finish(struct thaw_pageserver *ps)
{
	int err;

	if (ps->state != THAW_PAGESERVER_CONNECTED)
		err = thaw_err_set(-ENOTCONN, ps->beginning ? "there was no connection to tell the end over" :
				   "the connection had been lost before the end could be told");
	else
		err = say_good_bye(ps);
	thaw_link_close(&ps->link);
	enter_state(ps, THAW_PAGESERVER_CLOSED, err, err ? thaw_err_text() : "the end was told and confirmed");
	THAW_SCOPED_LOCK(&ps->lock);
	ps->finish = THAW_FINISH_OVER;
	ps->finish_error = err;
	snprintf(ps->finish_text, sizeof(ps->finish_text), "%s", err ? thaw_err_text() : "");
	thaw_cond_broadcast(&ps->over);
}

/* What is still wanted comes first, unless nothing comes any more: then it was for processes that are gone. A connection that is lost is
 * tried once more: the next attempt may be due in a moment. */
static bool may_finish(const struct thaw_pageserver *ps)
{
	if (ps->state == THAW_PAGESERVER_LOST && !ps->last_tried)
		return false;
	return (!ps->gets.n_wants || ps->state == THAW_PAGESERVER_FAILED) && !is_young(ps, thaw_sys_now_ns());
}

/* ---- the thread -------------------------------------------------------------------------------------------- */
static int sleep_ms(const struct thaw_pageserver *ps)
{
	uint64_t now = thaw_sys_now_ns(), at;

	if (is_sought(ps))
		at = ps->retry_ns;
	else if (ps->state == THAW_PAGESERVER_CONNECTED && ps->gets.n)
		at = quiet_limit(ps);
	else if (ps->state == THAW_PAGESERVER_CONNECTED && ps->lost_ns)
		at = ps->up_ns + STEADY_NS;
	else
		at = now + LONGEST_NS;
	if (at > now + LONGEST_NS)
		at = now + LONGEST_NS;
	return at <= now ? 0 : (int)((at - now) / 1000000 + 1);
}

static bool has_fresh(struct thaw_pageserver *ps)
{
	THAW_SCOPED_LOCK(&ps->lock);

	return ps->fresh || (ps->finish == THAW_FINISH_ASKED && may_finish(ps));
}

static void rest(struct thaw_pageserver *ps)
{
	uint64_t count;
	int what;

	show(ps);
	atomic_store(&ps->asleep, true);
	if (!has_fresh(ps) && !atomic_load(&ps->stop)) {
		what = thaw_net_wait(ps->link.fd, interest(&ps->link), ps->wake_fd, sleep_ms(ps));
		if (what > 0 && what & THAW_NET_WOKEN && read(ps->wake_fd, &count, sizeof(count)) < 0)
			what = 0; /* non-blocking: somebody else's wake-up */
	}
	atomic_store(&ps->asleep, false);
}

static void turn(struct thaw_pageserver *ps)
{
	bool any = take_fresh(ps);

	if (is_sought(ps)) {
		any |= find_again(ps);
	} else if (ps->state == THAW_PAGESERVER_CONNECTED) {
		int err = converse(ps, &any);

		if (!err)
			err = look_after_quiet(ps);
		if (err)
			lose(ps, err, thaw_err_text());
		else if (ps->lost_ns && !ps->gets.n && thaw_sys_now_ns() - ps->up_ns > STEADY_NS)
			note_progress(ps);
	}
	if (ps->state == THAW_PAGESERVER_FAILED && ps->fail_reads)
		thaw_gets_fail(&ps->gets, EIO, false);
	if (ps->gets.done.first)
		show(ps); /* first: whoever is told that all is there finds it counted */
	any |= answer_done(ps);
	if (wants_finish(ps) && may_finish(ps))
		finish(ps);
	if (!any || ps->state != THAW_PAGESERVER_CONNECTED)
		rest(ps);
}

void *thaw_pageserver_main(void *arg)
{
	struct thaw_pageserver *ps = arg;
	int err = 0;

	thaw_sys_name_thread("thaw-remote");
	show(ps);
	if (ps->sandbox)
		err = thaw_sandbox_enter(THAW_ROLE_REMOTE);
	atomic_store(&ps->standing, err ? (uint32_t)err : 1);
	thaw_sys_futex_wake((uint32_t *)&ps->standing, 1, false);
	while (!err && !atomic_load(&ps->stop))
		turn(ps);
	return NULL;
}
