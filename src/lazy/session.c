// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/session.c - from the restorer's first byte to the last page */
#include "config.h"
#include "lazy/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kern/keep.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "lazy/receive.h"
#include "lazy/session_impl.h"
#include "util/err.h"

/* ---- descriptors held free --------------------------------------------------------------------------------- */
static bool hold(const struct thaw_lazy *z, int *spare)
{
	if (*spare < 0)
		*spare = fcntl(z->events, F_DUPFD_CLOEXEC, 0);
	return *spare >= 0;
}

static void let_go(int *spare)
{
	if (*spare >= 0)
		close(*spare);
	*spare = -1;
}

static bool hold_spares(struct thaw_lazy *z)
{
	bool all = hold(z, &z->reserve);

	for (unsigned i = 0; i < THAW_LAZY_SPARES; i++)
		all &= hold(z, &z->spare[i]);
	return all;
}

static void release_spares(struct thaw_lazy *z)
{
	for (unsigned i = 0; i < THAW_LAZY_SPARES; i++)
		let_go(&z->spare[i]);
	let_go(&z->reserve);
}

/* What comes with a message and finds no free number is lost: so there are some, unless readers (a FORK, the question whether one is free)
 * and the page server's thread take all of them just now. */
static int receive(struct thaw_lazy *z, void *buf, size_t want, struct thaw_received *r)
{
	for (unsigned i = 0; i < THAW_LAZY_SPARES && want < 2; i++) /* a byte with a userfaultfd, or what makes no sense */
		let_go(&z->spare[i]); /* and what is opened to look at a task finds the others */
	return thaw_receive(z->conn, buf, want, r);
}

/* ---- made, started, freed ---------------------------------------------------------------------------------- */
static int settings(const struct thaw_lazy *z)
{
	const struct thaw_lazy_options *o = &z->o;
	enum thaw_background policy = o->stay_lazy ? THAW_BACKGROUND_STAY_LAZY :
				      o->delayed ? THAW_BACKGROUND_DELAYED : THAW_BACKGROUND_RUN;

	if (thaw_set_log(z->h, thaw_lazy_log, (void *)z, o->log_most) < 0 ||
	    thaw_set_event(z->h, thaw_lazy_event, (void *)z) < 0 || thaw_set_holder(z->h, 1, o->holder_log) < 0 ||
	    thaw_set_background(z->h, policy, o->delay_ms) < 0)
		return -1;
	if (o->copiers && thaw_set_copiers(z->h, o->copiers) < 0)
		return -1;
	if (o->chunk && thaw_set_chunk(z->h, o->chunk) < 0)
		return -1;
	if (o->read_around >= 0 && thaw_set_read_around(z->h, o->read_around) < 0)
		return -1;
	return o->failure == THAW_LAZY_SIGBUS ? thaw_set_failure(z->h, THAW_FAILURE_SIGBUS) : 0;
}

struct thaw_lazy *thaw_lazy_new(const struct thaw_lazy_options *o, const struct thaw_lazy_images *im)
{
	struct thaw_lazy *z = calloc(1, sizeof(*z));

	if (!z || !(z->told = calloc(im->n + 1, sizeof(*z->told)))) {
		free(z);
		thaw_err_set(-ENOMEM, "no memory for %zu tasks", im->n);
		return NULL;
	}
	z->o = *o;
	z->im = im;
	z->conn = z->events = -1;
	for (unsigned i = 0; i < THAW_LAZY_SPARES; i++)
		z->spare[i] = -1;
	z->reserve = -1;
	thaw_handshake_begin(&z->shake, im->n);
	z->h = thaw_create();
	if (thaw_lazy_members_init(z) < 0 || !z->h || settings(z) < 0) {
		thaw_lazy_close(z);
		return NULL;
	}
	return z;
}

int thaw_lazy_start(struct thaw_lazy *z)
{
	if (thaw_start(z->h) < 0)
		return thaw_err_code();
	return hold_spares(z) ? 0 : thaw_err_set(-EMFILE, "no descriptors to be held free: raise RLIMIT_NOFILE");
}

static void hang_up(struct thaw_lazy *z)
{
	if (z->conn < 0)
		return;
	thaw_keep_remove(z->conn);
	close(z->conn);
	z->conn = -1;
}

void thaw_lazy_close(struct thaw_lazy *z)
{
	if (!z)
		return;
	if (!z->left_there)
		hang_up(z);
	release_spares(z);
	if (z->any_stray) { /* nobody but the holder keeps what was never a space, and closing the monitor ends it */
		static struct thaw *volatile kept; /* so that it is not taken for lost memory */

		kept = z->h;
		(void)thaw_stop(kept);
	} else {
		thaw_close(z->h);
	}
	thaw_lazy_members_free(z);
	free(z->told);
	free(z);
}

struct thaw *thaw_lazy_monitor(struct thaw_lazy *z)
{
	return z->h;
}

static void enter(struct thaw_lazy *z, enum thaw_lazy_phase phase)
{
	pthread_mutex_lock(&z->lock);
	z->phase = phase;
	pthread_mutex_unlock(&z->lock);
}

enum thaw_lazy_phase thaw_lazy_state(struct thaw_lazy *z, size_t *tasks, size_t *arrived)
{
	enum thaw_lazy_phase phase;

	pthread_mutex_lock(&z->lock);
	phase = z->phase;
	*tasks = z->im->n;
	*arrived = z->shake.told;
	pthread_mutex_unlock(&z->lock);
	return phase;
}

void thaw_lazy_connect(struct thaw_lazy *z, int conn)
{
	z->conn = conn;
	enter(z, THAW_LAZY_ARRIVING);
}

int thaw_lazy_conn(const struct thaw_lazy *z)
{
	return z->conn;
}

int thaw_lazy_events(const struct thaw_lazy *z)
{
	return z->events;
}

int thaw_lazy_error(void)
{
	const char *colon = strstr(thaw_err_text(), ": ");
	char text[1024];

	if (!strncmp(thaw_err_text(), "thaw_", 5) && colon) {
		snprintf(text, sizeof(text), "%s", colon + 2);
		thaw_err_set(thaw_err_code(), "%s", text);
	}
	return thaw_err_code();
}

/* ---- a task arrives ---------------------------------------------------------------------------------------- */
/* Descriptors that were lost because we could not have them. More in one message than there is room for are no restorer's. */
static bool is_lost(const struct thaw_received *r)
{
	return r->cut && r->n_fds < THAW_RECEIVE_FDS;
}

/* Its userfaultfd is gone, so it would read zeros as soon as it runs. */
static void end_sender(struct thaw_lazy *z, const struct thaw_received *r)
{
	bool ended;
	int fd;

	let_go(&z->reserve); /* it may be for want of descriptors that we are here */
	fd = r->sender > 0 ? thaw_sys_pidfd_open(r->sender) : -1;
	ended = fd >= 0 && !thaw_sys_pidfd_signal(fd, SIGKILL);
	if (fd >= 0)
		close(fd);
	(void)hold(z, &z->reserve);
	if (ended)
		thaw_lazy_say(z, THAW_LOG_ERROR, "pid %d: killed: its userfaultfd is lost, and its memory with it", (int)r->sender);
	else
		thaw_lazy_say(z, THAW_LOG_ERROR, "a userfaultfd is lost, and its process (here: %d) cannot be killed: should it run, it reads"
			      " zeros; end it", (int)r->sender);
}

/* A userfaultfd that is refused stays open all the same: to close it would be to give its process zeros. The holder has it
 * when we are gone. */
static void drop(struct thaw_lazy *z, const struct thaw_received *r)
{
	bool any = false;

	for (unsigned i = 0; i < r->n_fds; i++) {
		if (thaw_uffd_is_one(r->fds[i]))
			any = true;
		else
			close(r->fds[i]);
	}
	if (is_lost(r))
		end_sender(z, r);
	z->any_stray |= any; /* whether its process can be named or not */
	if (any && r->sender > 0)
		thaw_lazy_members_stray(z, r->sender);
}

static int check_events(int pid, int uffd)
{
	static const struct {
		uint64_t bit;
		const char *lacks;
	} events[] = {
		{ UFFD_FEATURE_EVENT_FORK, "fork (its children would read zeros)" },
		{ UFFD_FEATURE_EVENT_REMAP, "mremap (what it moves would be lost)" },
		{ UFFD_FEATURE_EVENT_REMOVE, "madvise (what it discards would come back)" },
		{ UFFD_FEATURE_EVENT_UNMAP, "munmap (new mappings would be filled with old content)" },
	};
	unsigned long long features = 0;
	char path[64], line[128];
	bool told = false;
	unsigned api;
	FILE *f;

	if (!thaw_uffd_is_one(uffd))
		return thaw_err_set(-EPROTO, "pid %d: what the restorer sent is not a userfaultfd", pid);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
	f = fopen(path, "re");
	if (!f)
		return thaw_err_set(-errno, "pid %d: what its userfaultfd announces cannot be looked at: %s: %s", pid, path, strerror(errno));
	while (!told && fgets(line, sizeof(line), f))
		told = sscanf(line, "API: %x:%llx", &api, &features) == 2;
	fclose(f);
	if (!told)
		return thaw_err_set(-EPROTO, "pid %d: what its userfaultfd announces is not told by %s", pid, path);
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
		if (!(features & events[i].bit))
			return thaw_err_set(-EPROTO, "pid %d: its userfaultfd does not announce %s: the restorer asked for too little, or"
					    " may not ask for it (CAP_SYS_PTRACE); it cannot be served rightly, restore without"
					    " --lazy-pages", pid, events[i].lacks);
	return 0;
}

/* The images' task that this pid is, told for the first time. */
static struct thaw_lazy_task *take_turn(struct thaw_lazy *z, int pid)
{
	struct thaw_lazy_task *t = thaw_lazy_images_find(z->im, pid);

	if (!t) {
		thaw_err_set(-EPROTO, "pid %d: is not in the images (pstree.img has %zu tasks): are restorer and daemon given the same"
			     " directory?", pid, z->im->n);
		return NULL;
	}
	if (z->told[t - z->im->task]) {
		thaw_err_set(-EPROTO, "pid %d: the restorer told of it twice", pid);
		return NULL;
	}
	z->told[t - z->im->task] = true;
	return t;
}

static int take_task(struct thaw_lazy *z, int pid, const struct thaw_received *r)
{
	struct thaw_lazy_task *t = take_turn(z, pid);
	int ret;

	if (!t)
		return thaw_err_code();
	if (t->bare)
		return thaw_err_set(-ENOENT, "pid %d: pagemap-%d.img is missing, and the restorer has it as a living task: is the image"
				    " directory complete?", pid, pid);
	ret = check_events(pid, r->fds[0]);
	if (ret)
		return ret;
	ret = thaw_lazy_members_add(z, t, r->fds[0], r->sender);
	if (ret) {
		(void)thaw_lazy_error();
		return thaw_err_wrap("pid %d", pid);
	}
	thaw_lazy_say(z, THAW_LOG_INFO, "pid %d: is here (%zu of %zu): %llu pages are to come", pid, z->shake.told, z->shake.tasks,
		      (unsigned long long)t->lazy_pages);
	return 0;
}

static int lack_fd(int pid)
{
	return thaw_err_set(-EPROTO, "pid %d: its userfaultfd could not be received: no descriptor is left for it (raise RLIMIT_NOFILE), or a"
			    " security module, SELinux for instance, has kept it from passing", pid);
}

static int take_end(struct thaw_lazy *z)
{
	enter(z, THAW_LAZY_SERVING);
	thaw_lazy_say(z, THAW_LOG_INFO, "all %zu tasks are here, and run", z->im->n);
	return thaw_space_registered(z->h, 0) < 0 ? thaw_err_code() : 0;
}

static void note_tail(struct thaw_lazy *z, const void *bytes, size_t len)
{
	const size_t most = sizeof(z->tail), n = len < most ? len : most;

	memmove(z->tail, z->tail + n, most - n);
	memcpy(z->tail + most - n, (const char *)bytes + len - n, n);
}

/* As the handshake counts them: what has been lost was the one that belonged there, and what follows makes sense. */
static unsigned told_fds(const struct thaw_received *r)
{
	return r->n_fds + r->cut;
}

static int take(struct thaw_lazy *z, const void *bytes, const struct thaw_received *r)
{
	bool word = z->shake.at == THAW_HANDSHAKE_WORD;
	int pid = 0, ret;

	note_tail(z, bytes, r->len);
	pthread_mutex_lock(&z->lock); /* a status asks how far it is */
	ret = thaw_handshake_take(&z->shake, bytes, r->len, told_fds(r), &pid);
	pthread_mutex_unlock(&z->lock);
	z->broken = ret < 0;
	z->word = z->broken && word;
	switch (ret) {
	case THAW_HANDSHAKE_TASK:
		ret = r->cut ? lack_fd(pid) : take_task(z, pid, r);
		break;
	case THAW_HANDSHAKE_ZOMBIE:
		ret = take_turn(z, pid) ? 0 : thaw_err_code();
		break;
	case THAW_HANDSHAKE_ALL:
		return take_end(z);
	}
	if (ret < 0)
		drop(z, r);
	return ret;
}

int thaw_lazy_receive(struct thaw_lazy *z)
{
	for (;;) {
		size_t want = thaw_handshake_wants(&z->shake);
		struct thaw_received r;
		char bytes[64];
		int ret;

		if (z->conn < 0)
			return 0;
		if (z->shake.at == THAW_HANDSHAKE_FD && !hold_spares(z))
			return thaw_err_set(-EMFILE, "pid %d: no descriptor is left to receive its userfaultfd with: raise RLIMIT_NOFILE",
					    z->shake.pid);
		ret = receive(z, bytes, want ? want : sizeof(bytes), &r);
		if (ret == -EAGAIN) {
			(void)hold_spares(z); /* what is missing is said when a userfaultfd is to come */
			return 0;
		}
		if (ret < 0)
			return ret;
		if (r.len && want) {
			ret = take(z, bytes, &r);
		} else {
			drop(z, &r); /* behind the end nothing is expected; it does not matter */
			if (r.len)
				continue;
			hang_up(z);
			ret = thaw_handshake_end(&z->shake);
		}
		if (ret < 0)
			return ret;
	}
}

bool thaw_lazy_is_awaited(const struct thaw_lazy *z)
{
	struct pollfd p = { .fd = z->conn };

	return z->conn >= 0 && !(poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR));
}

/* Where nothing makes sense any more: another version's last word, or ours behind what was wrong, lets tasks run. */
static bool may_run(const struct thaw_lazy *z)
{
	const uint32_t end = THAW_HANDSHAKE_END;

	return z->word || (z->broken && !memcmp(z->tail, &end, sizeof(end)));
}

bool thaw_lazy_abandon(struct thaw_lazy *z)
{
	size_t tasks, arrived;
	struct thaw_received r;
	char bytes[64];

	thaw_lines_tell(&z->lines, true);
	/* A descriptor within a socket that is closed is closed with it; one that comes too late stays with its sender. */
	if (z->conn >= 0)
		(void)shutdown(z->conn, SHUT_RD);
	while (z->conn >= 0) {
		size_t want = z->broken ? 0 : thaw_handshake_wants(&z->shake);
		int told = 0, pid;

		/* The holder, which has all descriptors to itself when we are gone, receives what is left there. Whether the tasks run
		 * is not to be known then. */
		if (!z->broken && z->shake.at == THAW_HANDSHAKE_FD && !hold_spares(z)) {
			z->left_there = z->any_stray = true;
			return true;
		}
		if (receive(z, bytes, want ? want : sizeof(bytes), &r) || !r.len)
			break;
		note_tail(z, bytes, r.len);
		if (want) {
			z->word = z->shake.at == THAW_HANDSHAKE_WORD;
			told = thaw_handshake_take(&z->shake, bytes, r.len, told_fds(&r), &pid);
			z->broken = told < 0;
			z->word &= z->broken;
		}
		if (told == THAW_HANDSHAKE_ALL)
			enter(z, THAW_LAZY_SERVING);
		drop(z, &r);
	}
	return thaw_lazy_state(z, &tasks, &arrived) >= THAW_LAZY_SERVING || may_run(z);
}

/* ---- the end ----------------------------------------------------------------------------------------------- */
int thaw_lazy_settle(struct thaw_lazy *z)
{
	uint64_t n;
	bool kill_now;

	if (read(z->events, &n, sizeof(n)) < 0 && errno != EAGAIN)
		return thaw_err_set(-errno, "eventfd: %s", strerror(errno));
	thaw_lines_tell(&z->lines, false);
	pthread_mutex_lock(&z->lock);
	kill_now = z->kill_wanted;
	z->kill_wanted = false;
	pthread_mutex_unlock(&z->lock);
	if (kill_now) {
		char pids[256];

		thaw_lazy_kill(z, pids, sizeof(pids));
		thaw_lazy_say(z, THAW_LOG_ERROR, "content cannot be had: its processes are killed (--on-failure kill): %s",
			      *pids ? pids : "they are gone already");
	}
	return 0;
}

bool thaw_lazy_is_over(struct thaw_lazy *z)
{
	bool over;

	pthread_mutex_lock(&z->lock);
	over = z->phase == THAW_LAZY_OVER || (z->phase == THAW_LAZY_SERVING && z->n_ended == z->n_spaces);
	pthread_mutex_unlock(&z->lock);
	if (!over)
		return false;
	(void)thaw_wait(z->h, 0, 10000); /* the events come a moment before */
	enter(z, THAW_LAZY_OVER);
	return true;
}

static int complain(void *opaque, const struct thaw_lazy_member *m)
{
	struct thaw_lazy *z = opaque;

	if (m->unregistered)
		return thaw_err_set(-EIO, "pid %d: %llu bytes were not placed: the restorer did not register their mappings", m->pid,
				    (unsigned long long)m->unregistered);
	if (m->missing && m->ended && !m->finished)
		return thaw_err_set(-EIO, "pid %d: it ended with %llu bytes that were not placed: content could not be read (%llu bytes of it"
				    " were asked for)", m->pid, (unsigned long long)(m->last.bytes_total - m->last.bytes_placed),
				    (unsigned long long)m->missing);
	if (m->missing)
		return thaw_err_set(-EIO, "pid %d: children of it ended: content could not be read (%llu bytes of it were asked for)", m->pid,
				    (unsigned long long)m->missing);
	if (m->unavailable && z->o.failure == THAW_LAZY_SIGBUS)
		return thaw_err_set(-EIO, "pid %d: %llu bytes were not placed: their content could not be read", m->pid,
				    (unsigned long long)m->unavailable);
	return 0;
}

int thaw_lazy_result(struct thaw_lazy *z)
{
	int ret = thaw_lazy_each(z, complain, z);

	thaw_lines_tell(&z->lines, true);
	for (size_t i = 0; z->o.auto_dedup && !ret && i < z->n_slots; i++) {
		const struct thaw_lazy_member *m = &z->slot[i].m;

		if (m->finished && !m->parent && thaw_lazy_punch(z->im->dirfd, thaw_lazy_images_find(z->im, m->pid)) < 0)
			thaw_lazy_say(z, THAW_LOG_WARNING, "pid %d: %s", m->pid, thaw_err_text());
	}
	return ret;
}
