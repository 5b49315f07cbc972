// SPDX-License-Identifier: LGPL-2.1-or-later
// Dump of the descriptor table: finds the kind of every description and has it written down, or refuses it by name.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>

#include "checkpoint/files_priv.h"

int thaw_refuse(int fd, const char *fmt, ...)
{
	char text[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return thaw_err_set(-EOPNOTSUPP, "fd %d: %s", fd, text);
}

int thaw_nomem(void)
{
	return thaw_err_set(-ENOMEM, "out of memory for the descriptor table");
}

void *thaw_bytes(ProtobufCBinaryData *b, const void *data, size_t len)
{
	b->data = malloc(len ? len : 1);
	b->len = b->data ? len : 0;
	if (b->data && len)
		memcpy(b->data, data, len);
	return b->data;
}

uint64_t thaw_dump_object(const struct thaw_dt *t)
{
	return thaw_store_object(t->d->store, t->fd->st.st_dev, t->fd->st.st_ino);
}

static int unknown(const struct thaw_dfd *e)
{
	return thaw_refuse(e->num, "%s: not supported; close it before the checkpoint", e->link);
}

static int dump_anon(struct thaw_dt *t, File *f)
{
	static const struct {
		const char *name;
		int (*dump)(struct thaw_dt *, File *);
	} kinds[] = {
		{ "[eventfd]", thaw_dump_eventfd }, { "[timerfd]", thaw_dump_timerfd }, { "[signalfd]", thaw_dump_signalfd },
		{ "[eventpoll]", thaw_dump_epoll }, { "inotify", thaw_dump_inotify },
	};
	const char *what = t->fd->link + 11;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (strcmp(what, kinds[i].name))
			continue;
		if (t->desc->other.pid)
			return thaw_refuse(t->fd->num, "%s that process %d (%s) also has open: not supported; close it in one of the two",
					   what, t->desc->other.pid, t->desc->other.comm);
		return kinds[i].dump(t, f);
	}
	return unknown(t->fd);
}

static int dump_kind(struct thaw_dt *t, File *f)
{
	const struct thaw_dfd *e = t->fd;

	if (!strncmp(e->link, "anon_inode:", 11))
		return dump_anon(t, f);
	if (!(e->flags & O_PATH)) {
		int rc = thaw_dump_stdio(t, f);

		if (rc <= 0)
			return rc;
	}
	if (S_ISSOCK(e->st.st_mode) && !(e->flags & O_PATH))
		return thaw_dump_socket(t, f);
	if (S_ISFIFO(e->st.st_mode) && !(e->flags & O_PATH))
		return thaw_dump_pipe(t, f);
	if (e->link[0] != '/')
		return unknown(e);
	if (!strncmp(e->link, "/memfd:", 7) && !e->st.st_nlink)
		return thaw_dump_memfd(t, f);
	if (e->flags & O_PATH)
		return thaw_dump_path(t, f);
	if (S_ISCHR(e->st.st_mode))
		return thaw_dump_chr(t, f);
	if (S_ISREG(e->st.st_mode) || S_ISDIR(e->st.st_mode))
		return thaw_dump_path(t, f);
	if (S_ISBLK(e->st.st_mode))
		return thaw_refuse(e->num, "block device %s: not supported; close it before the checkpoint", e->link);
	return unknown(e);
}

static File *new_file(ThawState__Process *p, uint32_t id)
{
	File *f = malloc(sizeof(*f));

	if (!f)
		return NULL;
	thaw_state__file__init(f);
	f->id = id;
	p->files[p->n_files++] = f;
	return f;
}

/* 0, 1 and 2 come from the restoring program one by one, also where they were one description. */
static int split_stdio(struct thaw_dt *t, const File *f, uint32_t ids[3])
{
	for (size_t i = 0; i < t->d->n_fds; i++) {
		const struct thaw_dfd *e = &t->d->fds[i];
		File *g;

		if (e->num > 2 || e->desc != t->fd->desc || e->num == f->inherit)
			continue;
		g = new_file(t->d->p, ids[e->num]);
		if (!g)
			return thaw_nomem();
		g->kind = f->kind;
		g->flags = f->flags;
		g->has_inherit = true;
		g->inherit = e->num;
	}
	return 0;
}

static int dump_desc(struct thaw_dump_files *d, struct thaw_desc *s, uint32_t ids[3])
{
	struct thaw_dt t = { .d = d, .desc = s, .fd = s->fd };
	File *f = new_file(d->p, s->id);
	int rc;

	if (!f)
		return thaw_nomem();
	f->flags = s->fd->flags;
	f->pos = (uint64_t)s->fd->pos;
	t.dup = thaw_fdtable_dup(d, s->fd->num);
	if (t.dup < 0)
		return t.dup;
	rc = dump_kind(&t, f);
	if (!rc && f->kind != KIND(PATH))
		rc = thaw_dump_owner(&t, f);
	if (!rc)
		rc = thaw_dump_locks(&t, f);
	close(t.dup);
	if (!rc && f->kind == KIND(INHERITED)) {
		for (int k = 0; k <= 2; k++)
			if (s->stdio == k)
				ids[k] = s->id;
		rc = split_stdio(&t, f, ids);
	}
	return rc;
}

static File *file_by_id(ThawState__Process *p, uint32_t id)
{
	/* mostly the id is the place */
	if (id && id <= p->n_files && p->files[id - 1]->id == id)
		return p->files[id - 1];
	for (size_t i = 0; i < p->n_files; i++)
		if (p->files[i]->id == id)
			return p->files[i];
	return NULL;
}

/* The File that a number refers to: with inherited stdio 0, 1 and 2 have one each. */
static uint32_t file_of(struct thaw_dump_files *d, const struct thaw_dfd *e, const uint32_t ids[3])
{
	uint32_t id = d->descs[e->desc].id;
	const File *f = e->num <= 2 ? file_by_id(d->p, id) : NULL;

	return f && f->kind == KIND(INHERITED) && f->inherit != e->num && d->descs[e->desc].stdio >= 0 ? ids[e->num] : id;
}

static int by_num(const void *pa, const void *pb)
{
	const ThawState__Fd *const *a = pa, *const *b = pb;

	return ((*a)->fd > (*b)->fd) - ((*a)->fd < (*b)->fd);
}

static int list_fds(struct thaw_dump_files *d, const uint32_t ids[3])
{
	ThawState__Process *p = d->p;

	p->fds = calloc(d->n_fds + 1, sizeof(*p->fds));
	if (!p->fds)
		return thaw_nomem();
	for (size_t i = 0; i < d->n_fds; i++) {
		const struct thaw_dfd *e = &d->fds[i];
		ThawState__Fd *fd = malloc(sizeof(*fd));

		if (!fd)
			return thaw_nomem();
		thaw_state__fd__init(fd);
		fd->fd = e->num;
		fd->file = file_of(d, e, ids);
		fd->cloexec = e->cloexec;
		p->fds[p->n_fds++] = fd;
	}
	qsort(p->fds, p->n_fds, sizeof(*p->fds), by_num);
	return 0;
}

/* An epoll item of an inherited number: the File of that number. */
static void settle_epolls(struct thaw_dump_files *d, const uint32_t ids[3])
{
	for (size_t i = 0; i < d->p->n_files; i++) {
		File *f = d->p->files[i];

		for (size_t k = 0; k < f->n_epoll; k++) {
			ThawState__EpollItem *it = f->epoll[k];
			const File *g = file_by_id(d->p, it->file);

			if (g && g->kind == KIND(INHERITED) && it->fd >= 0 && it->fd <= 2 && ids[it->fd])
				it->file = ids[it->fd];
		}
	}
}

static int desc_by_num(const void *pa, const void *pb)
{
	const struct thaw_desc *const *a = pa, *const *b = pb;

	return ((*a)->fd->num > (*b)->fd->num) - ((*a)->fd->num < (*b)->fd->num);
}

static int dump_all(struct thaw_dump_files *d)
{
	struct thaw_desc **order = calloc(d->n_descs + 1, sizeof(*order));
	uint32_t ids[3] = { (uint32_t)d->n_descs + 1, (uint32_t)d->n_descs + 2, (uint32_t)d->n_descs + 3 };
	int rc = 0;

	d->p->files = calloc(d->n_descs + 4, sizeof(*d->p->files));
	if (!order || !d->p->files) {
		free(order);
		return thaw_nomem();
	}
	for (size_t i = 0; i < d->n_descs; i++)
		order[i] = &d->descs[i];
	qsort(order, d->n_descs, sizeof(*order), desc_by_num);
	for (size_t i = 0; i < d->n_descs; i++)
		order[i]->id = (uint32_t)i + 1;
	for (size_t i = 0; i < d->n_descs && !rc; i++)
		rc = dump_desc(d, order[i], ids);
	if (!rc)
		rc = list_fds(d, ids);
	if (!rc)
		settle_epolls(d, ids);
	free(order);
	return rc;
}

int thaw_files_dump(ThawState__Process *p, pid_t pid, int pidfd, struct thaw_store *st)
{
	struct thaw_dump_files d = { .pid = pid, .pidfd = pidfd, .store = st, .p = p };
	int rc = thaw_fdtable_read(&d);

	if (!rc)
		rc = thaw_others_scan(&d);
	if (!rc)
		rc = thaw_inotify_unread(&d);
	if (!rc)
		rc = dump_all(&d);
	thaw_fdtable_free(&d);
	return rc;
}
