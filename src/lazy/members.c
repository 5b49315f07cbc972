// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/members.c - who is being served: tasks and their children, what the engine reports of them, and lines that name them */
#include "config.h"
#include "lazy/session_impl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kern/procfs.h"
#include "kern/sys.h"
#include "lazy/owners.h"
#include "util/err.h"

static void lock(struct thaw_lazy *z)
{
	pthread_mutex_lock(&z->lock);
}

static void unlock(struct thaw_lazy *z)
{
	pthread_mutex_unlock(&z->lock);
}

static void ring(void *opaque)
{
	const struct thaw_lazy *z = opaque;

	(void)thaw_sys_eventfd_raise(z->events); /* what there is to tell is told with the next event, or at the end */
}

int thaw_lazy_members_init(struct thaw_lazy *z)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&z->lock, &a);
	pthread_mutexattr_destroy(&a);
	z->lines = (struct thaw_lines){ .out = z->o.log, .opaque = z->o.log_opaque, .rouse = ring, .rouse_opaque = z };
	thaw_lines_init(&z->lines);
	z->events = thaw_sys_eventfd(true);
	return z->events < 0 ? thaw_err_set(z->events, "eventfd: %s", strerror(-z->events)) : 0;
}

void thaw_lazy_members_free(struct thaw_lazy *z)
{
	for (size_t i = 0; i < z->n_slots; i++)
		if (z->slot[i].pidfd >= 0)
			close(z->slot[i].pidfd);
	free(z->slot);
	for (size_t i = 0; i < z->n_stray; i++)
		close(z->stray[i]);
	free(z->stray);
	if (z->events >= 0)
		close(z->events);
	thaw_lines_destroy(&z->lines);
	pthread_mutex_destroy(&z->lock);
}

/* ---- the table --------------------------------------------------------------------------------------------- */
static struct thaw_lazy_slot *find_locked(struct thaw_lazy *z, int64_t space)
{
	for (size_t i = 0; i < z->n_slots; i++)
		if (z->slot[i].m.space == space)
			return &z->slot[i];
	return NULL;
}

static struct thaw_lazy_slot *root_locked(struct thaw_lazy *z, struct thaw_lazy_slot *s)
{
	for (size_t i = 0; s && i < z->n_slots; i++)
		if (!z->slot[i].m.parent && z->slot[i].m.pid == s->m.pid)
			return &z->slot[i];
	return s;
}

static struct thaw_lazy_slot *append_locked(struct thaw_lazy *z)
{
	if (z->n_slots == z->room) {
		size_t room = z->room ? z->room * 2 : 16;
		struct thaw_lazy_slot *more = realloc(z->slot, room * sizeof(*more));

		if (!more)
			return NULL;
		z->slot = more;
		z->room = room;
	}
	z->slot[z->n_slots] = (struct thaw_lazy_slot){ .pidfd = -1 };
	return &z->slot[z->n_slots++];
}

int thaw_lazy_members_add(struct thaw_lazy *z, const struct thaw_lazy_task *t, int uffd, pid_t sender)
{
	struct thaw_space d = {
		.size = sizeof(d), .uffd = uffd, .pidfd = -1, .ranges = t->ranges, .n_ranges = t->n_ranges, .registers_later = 1,
	};
	struct thaw_lazy_slot *s;
	int ret = 0;

	d.source = z->o.source ? z->o.source(z->o.source_opaque, t) : t->local;
	if (!d.source)
		return thaw_err_code();
	d.pidfd = sender > 0 ? thaw_sys_pidfd_open(sender) : -1;
	lock(z);
	s = append_locked(z);
	if (!s) {
		ret = thaw_err_set(-ENOMEM, "no memory for one more task");
	} else {
		int64_t id = thaw_add_space(z->h, &d);

		if (id < 0 && d.pidfd >= 0 && thaw_get_errno() == ESRCH) { /* the sender is gone; its memory need not be */
			close(d.pidfd);
			d.pidfd = -1;
			id = thaw_add_space(z->h, &d);
		}
		s->m = (struct thaw_lazy_member){ .space = id, .pid = t->pid, .real = d.pidfd >= 0 ? sender : 0 };
		s->pidfd = d.pidfd;
		z->n_spaces += id > 0;
		z->n_slots -= id < 0;
		ret = id < 0 ? thaw_err_code() : 0;
	}
	unlock(z);
	if (ret && d.pidfd >= 0)
		close(d.pidfd);
	if (z->o.source)
		thaw_source_close(d.source);
	return ret;
}

void thaw_lazy_members_stray(struct thaw_lazy *z, pid_t sender)
{
	int *more = realloc(z->stray, (z->n_stray + 1) * sizeof(*more)), fd = thaw_sys_pidfd_open(sender);

	if (more)
		z->stray = more;
	if (more && fd >= 0)
		z->stray[z->n_stray++] = fd;
	else if (fd >= 0)
		close(fd);
}

int thaw_lazy_each(struct thaw_lazy *z, int (*fn)(void *opaque, const struct thaw_lazy_member *m), void *opaque)
{
	int ret = 0;

	lock(z);
	for (size_t i = 0; i < z->n_slots && !ret; i++)
		ret = fn(opaque, &z->slot[i].m);
	unlock(z);
	return ret;
}

/* ---- what the engine reports ------------------------------------------------------------------------------- */
static void forked_locked(struct thaw_lazy *z, struct thaw_lazy_slot *parent, int64_t child)
{
	int pid = parent ? parent->m.pid : 0;
	int64_t from = parent ? parent->m.space : -1;
	struct thaw_lazy_slot *s = append_locked(z);

	z->n_spaces++;
	if (s)
		s->m = (struct thaw_lazy_member){ .space = child, .parent = from, .pid = pid };
	else
		z->cut = true; /* it is served all the same; only nobody can name it */
}

/* A child is remembered by what it adds to its task: a server may fork without end. */
static void ended_locked(struct thaw_lazy *z, struct thaw_lazy_slot *s, bool finished)
{
	struct thaw_lazy_slot *root;

	z->n_ended++;
	if (!s)
		return;
	s->m.ended = true;
	s->m.finished = finished;
	s->m.last.size = sizeof(s->m.last);
	if (thaw_get_progress(z->h, s->m.space, &s->m.last))
		s->m.last = (struct thaw_progress){ 0 };
	if (!finished)
		s->m.missing += s->m.unavailable;
	root = root_locked(z, s); /* a root's pidfd stays: its children may be asked for, and its number may be another's */
	if (!s->m.parent || root == s)
		return;
	if (!finished)
		root->m.unavailable += s->m.unavailable;
	root->m.unregistered += s->m.unregistered;
	root->m.missing += s->m.missing;
	root->m.children++;
	root->m.children_placed += s->m.last.bytes_placed;
	root->m.children_faults += s->m.last.faults;
	memmove(s, s + 1, (z->slot + z->n_slots - (s + 1)) * sizeof(*s));
	z->n_slots--;
}

void thaw_lazy_event(void *opaque, const struct thaw_event_info *info)
{
	struct thaw_lazy *z = opaque;
	struct thaw_lazy_slot *s;

	lock(z);
	s = find_locked(z, info->space);
	switch (info->event) {
	case THAW_EVENT_FORKED:
		forked_locked(z, s, info->child);
		break;
	case THAW_EVENT_FINISHED:
	case THAW_EVENT_GONE:
		ended_locked(z, s, info->event == THAW_EVENT_FINISHED);
		break;
	case THAW_EVENT_UNAVAILABLE:
		if (s)
			s->m.unavailable += info->length;
		z->kill_wanted |= z->o.failure == THAW_LAZY_KILL;
		break;
	case THAW_EVENT_UNREGISTERED:
		if (s)
			s->m.unregistered += info->length;
		break;
	}
	unlock(z);
	ring(z);
}

/* ---- processes --------------------------------------------------------------------------------------------- */
size_t thaw_lazy_left(struct thaw_lazy *z)
{
	size_t left;

	lock(z);
	left = z->n_spaces - z->n_ended;
	unlock(z);
	return left;
}

/* Numbers of processes, each once, as a line has room for. */
struct pids {
	pid_t pid[64];
	unsigned n, more; /* more: that did not fit */
};

static void note_pid(struct pids *p, pid_t pid)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->pid[i] == pid)
			return;
	if (p->n < sizeof(p->pid) / sizeof(*p->pid))
		p->pid[p->n++] = pid;
	else
		p->more++;
}

static size_t append_pids(const struct pids *p, char *buf, size_t len, size_t at)
{
	unsigned i;

	for (i = 0; i < p->n && at + 48 < len; i++)
		at += snprintf(buf + at, len - at, "%s%d", i ? ", " : "", (int)p->pid[i]);
	if (p->more || i < p->n)
		at += snprintf(buf + at, len - at, " and others");
	return at;
}

static void write_pids(const struct pids *p, char *buf, size_t len)
{
	*buf = '\0';
	append_pids(p, buf, len, 0);
}

/* Roots by the number that they sent. Of children, whose numbers nobody has told, only whose they are: who looks for them by their memory
 * splits a mapping of theirs for good (owners.h), and these are to go on. */
void thaw_lazy_waiting(struct thaw_lazy *z, char *buf, size_t len)
{
	struct pids roots = { .n = 0 }, parents = { .n = 0 };
	bool strays;
	size_t at = 0;

	lock(z);
	strays = z->cut;
	for (size_t i = 0; i < z->n_slots; i++) {
		const struct thaw_lazy_slot *s = &z->slot[i], *root = root_locked(z, &z->slot[i]);

		if (!s->m.ended && !root->m.pid)
			strays = true;
		else if (!s->m.ended)
			note_pid(s->m.parent ? &parents : &roots, root->m.real > 0 ? root->m.real : root->m.pid);
	}
	unlock(z);
	*buf = '\0';
	if (roots.n)
		at = append_pids(&roots, buf, len / 2, (size_t)snprintf(buf, len, "pid "));
	if (parents.n)
		append_pids(&parents, buf, len, at + (size_t)snprintf(buf + at, len - at, "%schildren of pid ", at ? " and " : ""));
	else if (strays)
		snprintf(buf + at, len - at, "%schildren that are not known", at ? " and " : "");
}

/* ---- killing ----------------------------------------------------------------------------------------------- */
#define KILL_TRIES 200
#define KILL_PAUSE_MS 10

struct victims {
	struct pids names;
	int pidfd[256];
	unsigned n;
	bool cut; /* there were more: once again */
};

static int add_descendant(void *opaque, pid_t pid)
{
	struct victims *v = opaque;
	int fd;

	if (v->n == sizeof(v->pidfd) / sizeof(*v->pidfd)) {
		v->cut = true;
		return 0;
	}
	fd = thaw_sys_pidfd_open(pid);
	if (fd < 0)
		return 0; /* gone already: fine */
	v->pidfd[v->n++] = fd;
	note_pid(&v->names, pid);
	return 0;
}

/* Its descendants, then the root itself, unless it has all its memory. What its number led to counts only when the root still
 * has that number behind the look. */
static bool kill_tree(const struct thaw_lazy_slot *s, struct victims *v)
{
	struct pids before = v->names;
	bool lives;

	v->n = 0;
	v->cut = false;
	(void)thaw_procfs_descendants(s->m.real, add_descendant, v);
	lives = !thaw_sys_pidfd_exited(s->pidfd);
	if (!lives)
		v->names = before;
	for (unsigned i = 0; i < v->n; i++) {
		if (lives)
			(void)thaw_sys_pidfd_signal(v->pidfd[i], SIGKILL);
		close(v->pidfd[i]);
	}
	if (lives && v->cut)
		return true;
	if (lives && !s->m.finished && !thaw_sys_pidfd_signal(s->pidfd, SIGKILL))
		note_pid(&v->names, s->m.real);
	return false;
}

static void kill_owner(void *opaque, pid_t pid, int pidfd)
{
	if (!thaw_sys_pidfd_signal(pidfd, SIGKILL))
		note_pid(opaque, pid);
}

void thaw_lazy_kill(struct thaw_lazy *z, char *buf, size_t len)
{
	struct victims v = { .n = 0 };

	lock(z);
	for (size_t i = 0; i < z->n_slots; i++) {
		const struct thaw_lazy_slot *s = &z->slot[i];

		if (s->m.parent || s->pidfd < 0 || thaw_sys_pidfd_exited(s->pidfd))
			continue;
		for (unsigned tries = 0; tries < KILL_TRIES && kill_tree(s, &v); tries++)
			poll(NULL, 0, KILL_PAUSE_MS);
	}
	unlock(z);
	for (size_t i = 0; i < z->n_stray; i++) {
		int pid = thaw_sys_pid_of(z->stray[i]);

		if (pid > 0 && !thaw_sys_pidfd_signal(z->stray[i], SIGKILL))
			note_pid(&v.names, pid);
	}
	/* Whoever has lost its parent is found by its memory; and so are those who are being forked just now. */
	for (unsigned tries = 0; tries < KILL_TRIES && thaw_owners_each(kill_owner, &v.names); tries++)
		poll(NULL, 0, KILL_PAUSE_MS);
	write_pids(&v.names, buf, len);
}

/* ---- lines ------------------------------------------------------------------------------------------------- */
static void name_locked(struct thaw_lazy *z, int64_t space, char *buf, size_t len)
{
	const struct thaw_lazy_slot *s = find_locked(z, space);

	if (!s || !s->m.pid)
		snprintf(buf, len, "space %lld", (long long)space);
	else if (s->m.parent)
		snprintf(buf, len, "pid %d: a child of it (space %lld)", s->m.pid, (long long)space);
	else if (s->m.real > 0 && s->m.real != s->m.pid)
		snprintf(buf, len, "pid %d: (here %d)", s->m.pid, (int)s->m.real);
	else
		snprintf(buf, len, "pid %d", s->m.pid);
}

/* The engine knows spaces, its user processes: "space 3: ..." becomes "pid 7: ...". */
void thaw_lazy_log(void *opaque, enum thaw_log_level level, const char *line)
{
	struct thaw_lazy *z = opaque;
	long long space;
	char name[96] = "", text[1024];
	int n = 0;

	if (!thaw_lines_may(&z->lines, level))
		return;
	if (sscanf(line, "space %lld: %n", &space, &n) == 1 && n) {
		lock(z);
		name_locked(z, space, name, sizeof(name));
		unlock(z);
	}
	snprintf(text, sizeof(text), "%s%s%s", name, *name ? ": " : "", *name ? line + n : line);
	z->o.log(z->o.log_opaque, level, text);
}

void thaw_lazy_line(struct thaw_lazy *z, enum thaw_log_level level, const char *line)
{
	thaw_lines_say(&z->lines, level, line);
}

int thaw_lazy_lines_due(struct thaw_lazy *z)
{
	return thaw_lines_due(&z->lines);
}

void thaw_lazy_say(struct thaw_lazy *z, enum thaw_log_level level, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (level > z->o.log_most || !thaw_lines_may(&z->lines, level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	z->o.log(z->o.log_opaque, level, text);
}
