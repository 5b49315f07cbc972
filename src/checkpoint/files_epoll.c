// SPDX-License-Identifier: LGPL-2.1-or-later
// epoll descriptors with their interest lists. The kernel keys an entry by (description, number at the time), and keeps
// it while the description lives, whatever the number is now: kcmp tells which description an entry means.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "checkpoint/files_priv.h"

/* Bits that stay when EPOLLONESHOT has fired and the entry sleeps. */
#define PRIVATE_BITS (EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)

/* ---- dump ---- */

struct line {
	int tfd;
	unsigned events;
	unsigned long long data;
	unsigned nth;          /* of the entries with this number, in the kernel's order */
};

static bool is_target(const struct thaw_dt *t, const struct line *l, int num)
{
	struct kcmp_epoll_slot slot = { .efd = (uint32_t)t->fd->num, .tfd = (uint32_t)l->tfd, .toff = l->nth };

	return syscall(SYS_kcmp, t->d->pid, t->d->pid, KCMP_EPOLL_TFD, (unsigned long)num, &slot) == 0;
}

static const struct thaw_desc *find_target(const struct thaw_dt *t, const struct line *l)
{
	/* mostly the number still means what it meant */
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < t->d->n_fds; i++) {
			const struct thaw_dfd *e = &t->d->fds[i];

			if ((e->num == l->tfd) == (pass == 0) && is_target(t, l, e->num))
				return &t->d->descs[e->desc];
		}
	return NULL;
}

static int add_item(struct thaw_dt *t, File *f, const struct line *l, size_t *room)
{
	const struct thaw_desc *target = find_target(t, l);
	ThawState__EpollItem *it;

	if (!target)
		return thaw_refuse(t->fd->num, "epoll watches a file that was fd %d and that this process has open no more: not supported; remove it with EPOLL_CTL_DEL before closing it",
				   l->tfd);
	if (f->n_epoll == *room) {
		ThawState__EpollItem **more = reallocarray(f->epoll, *room = *room ? *room * 2 : 16, sizeof(*more));

		if (!more)
			return thaw_nomem();
		f->epoll = more;
	}
	it = malloc(sizeof(*it));
	if (!it)
		return thaw_nomem();
	thaw_state__epoll_item__init(it);
	it->fd = l->tfd;
	it->events = l->events;
	it->data = l->data;
	it->file = target->id;
	f->epoll[f->n_epoll++] = it;
	return 0;
}

int thaw_dump_epoll(struct thaw_dt *t, File *f)
{
	size_t room = 0;

	f->kind = KIND(EPOLL);
	for (const char *p = t->fd->info; p; p = strchr(p, '\n')) {
		struct line l = { 0 };
		int rc;

		p += *p == '\n';
		if (strncmp(p, "tfd:", 4))
			continue;
		if (sscanf(p, "tfd: %d events: %x data: %llx", &l.tfd, &l.events, &l.data) != 3)
			return thaw_refuse(t->fd->num, "epoll: fdinfo of this kernel is not understood: not supported");
		for (size_t i = 0; i < f->n_epoll; i++)
			l.nth += f->epoll[i]->fd == l.tfd;
		rc = add_item(t, f, &l, &room);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- restore ---- */

static bool is_asleep(const ThawState__EpollItem *it)
{
	return (it->events & EPOLLONESHOT) && !(it->events & ~(uint32_t)PRIVATE_BITS);
}

/* Adds the description at number `at` under the number `num`, which may belong to another one now. */
static int add_as(struct thaw_fr *r, int ep, int at, int num, struct epoll_event *ev)
{
	int flags = at == num ? -1 : fcntl(num, F_GETFD), saved = -1, rc;

	if (at == num)
		return epoll_ctl(ep, EPOLL_CTL_ADD, num, ev);
	if (flags >= 0) {
		saved = thaw_fr_out(r, fcntl(num, F_DUPFD_CLOEXEC, num + 1));
		if (saved < 0)
			return -1;
	}
	rc = dup2(at, num) < 0 ? -1 : epoll_ctl(ep, EPOLL_CTL_ADD, num, ev);
	if (saved < 0) {
		close(num);
		return rc;
	}
	if (dup3(saved, num, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0)
		rc = -1;
	close(saved);
	return rc;
}

/* The number of any descriptor of the item's description: its own if it is still that. */
static int number_of(struct thaw_fr *r, const ThawState__EpollItem *it)
{
	ssize_t i = thaw_fr_index(r, it->file);

	for (int k = i < 0 ? -1 : r->first[i]; k >= 0; k = r->next[k])
		if (r->p->fds[k]->fd == it->fd)
			return it->fd;
	return i < 0 ? -1 : r->at[i];
}

static int add(struct thaw_fr *r, const File *f, int ep, const ThawState__EpollItem *it)
{
	struct epoll_event ev = { .events = it->events, .data.u64 = it->data }, out;
	int at = number_of(r, it), rc;

	if (at < 0)
		return thaw_err_set(-EINVAL, "fd %d: epoll: entry for fd %d has no file; the image is damaged", thaw_fr_num(r, f), it->fd);
	if (is_asleep(it))  /* fires at once if there is anything at all, and sleeps then */
		ev.events |= EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;
	rc = add_as(r, ep, at, it->fd, &ev);
	if (rc && errno == EPERM)
		return thaw_err_set(-EPERM, "fd %d: epoll watches fd %d, which is now a file that cannot be watched; restore with a terminal or pipe as standard I/O",
				    thaw_fr_num(r, f), it->fd);
	if (rc)
		return thaw_err_set(-errno, "fd %d: epoll: fd %d cannot be added again: %s", thaw_fr_num(r, f), it->fd,
				    strerrordesc_np(errno));
	if (is_asleep(it) && epoll_wait(ep, &out, 1, 0) == 0 && at == it->fd) {
		ev.events = it->events;  /* nothing to fire: at least only errors can wake it */
		epoll_ctl(ep, EPOLL_CTL_MOD, at, &ev);
	}
	return 0;
}

static int fill(struct thaw_fr *r, const File *f, int ep)
{
	int rc = 0;

	/* the sleeping ones first: an epoll_wait must find nobody else's event */
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < f->n_epoll && !rc; i++)
			if (is_asleep(f->epoll[i]) == (pass == 0))
				rc = add(r, f, ep, f->epoll[i]);
	return rc;
}

int thaw_restore_epolls(struct thaw_fr *r)
{
	int rc = 0;

	/* all of them exist before one is filled: they may watch each other */
	for (size_t i = 0; i < r->p->n_files && !rc; i++) {
		const File *f = r->p->files[i];
		int fd;

		if (f->kind != KIND(EPOLL))
			continue;
		fd = epoll_create1(EPOLL_CLOEXEC);
		rc = fd < 0 ? thaw_err_set(-errno, "fd %d: no epoll: %s", thaw_fr_num(r, f), strerrordesc_np(errno)) :
			      thaw_fr_setfl(r, f, fd);
		if (!rc)
			rc = thaw_fr_place(r, i, fd);
	}
	for (size_t i = 0; i < r->p->n_files && !rc; i++)
		if (r->p->files[i]->kind == KIND(EPOLL))
			rc = fill(r, r->p->files[i], r->at[i]);
	return rc;
}
