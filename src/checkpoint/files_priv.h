/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/files_priv.h - what the files_*.c share: the table of a dump, the state of a restore, functions by kind.
 * Rule      a dump function looks at one description through its duplicate t->dup and fills f; it never changes what
 *           the process can see. A restore function returns a descriptor for f; the caller puts it at its numbers
 * Threads   one
 * Errors    -errno with a sentence that starts with "fd N: " */
#ifndef THAW_CHECKPOINT_FILES_PRIV_H
#define THAW_CHECKPOINT_FILES_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "checkpoint/files.h"
#include "util/err.h"

typedef ThawState__File File;

/* ---- dump ---------------------------------------------------------------------------------- */

/* One descriptor of the process as /proc shows it. */
struct thaw_dfd {
	int num;
	unsigned flags;        /* O_*, without O_CLOEXEC */
	bool cloexec;
	int64_t pos;
	struct stat st;
	char *link;            /* "/tmp/x", "pipe:[77]", "anon_inode:[eventfd]" */
	char *info;            /* fdinfo text */
	int desc;              /* index of its description */
};

/* Somebody else who holds an object of ours. */
struct thaw_holder {
	pid_t pid;             /* 0: nobody */
	char comm[32];
};

/* One open file description: the descriptors that share it. */
struct thaw_desc {
	struct thaw_dfd *fd;   /* its lowest descriptor */
	int stdio;             /* the one of 0, 1, 2 that stands for it, -1: none */
	uint32_t id;           /* File.id; with stdio the File of that number */
	struct thaw_holder other; /* another process holds this description (anon) or object (pipe, socket, memfd) */
};

struct thaw_dump_files {
	pid_t pid;
	int pidfd;
	struct thaw_store *store;
	ThawState__Process *p;
	struct thaw_dfd *fds;
	size_t n_fds;
	struct thaw_desc *descs;
	size_t n_descs;
};

/* What a dump function gets. */
struct thaw_dt {
	struct thaw_dump_files *d;
	struct thaw_desc *desc;
	struct thaw_dfd *fd;   /* desc->fd */
	int dup;               /* our duplicate of the description */
};

/* -EOPNOTSUPP with "fd N: ..." */
int thaw_refuse(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int thaw_nomem(void);
uint64_t thaw_dump_object(const struct thaw_dt *t); /* File.object for the inode of t */
/* The number after "key:" in fdinfo text; false when there is no such line. */
bool thaw_info_u64(const char *info, const char *key, int base, uint64_t *v);
void *thaw_bytes(ProtobufCBinaryData *b, const void *data, size_t len); /* NULL: no memory */

int thaw_fdtable_read(struct thaw_dump_files *d);
void thaw_fdtable_free(struct thaw_dump_files *d);
int thaw_fdtable_dup(const struct thaw_dump_files *d, int num); /* pidfd_getfd; sentence */
/* The description of ours that descriptor fd of process pid refers to, NULL: none. link: its link text. */
struct thaw_desc *thaw_fdtable_same(struct thaw_dump_files *d, pid_t pid, int fd, const char *link);
int thaw_others_scan(struct thaw_dump_files *d); /* fills desc->other */
bool thaw_others_find(const char *link, pid_t except, struct thaw_holder *h); /* who has this link open */
void thaw_comm(pid_t pid, char *buf, size_t len);

int thaw_dump_path(struct thaw_dt *t, File *f);     /* regular, directory, O_PATH, deleted */
int thaw_dump_chr(struct thaw_dt *t, File *f);
int thaw_dump_memfd(struct thaw_dt *t, File *f);
int thaw_dump_pipe(struct thaw_dt *t, File *f);     /* and FIFO */
int thaw_dump_stdio(struct thaw_dt *t, File *f);    /* 0 done, 1 not inherited: go on by kind */
int thaw_pipe_ends(const struct thaw_dt *t); /* which ends the process holds: 1 read, 2 write */
int thaw_dump_eventfd(struct thaw_dt *t, File *f);
int thaw_dump_timerfd(struct thaw_dt *t, File *f);
int thaw_dump_signalfd(struct thaw_dt *t, File *f);
int thaw_dump_epoll(struct thaw_dt *t, File *f);
int thaw_dump_inotify(struct thaw_dt *t, File *f);
int thaw_inotify_unread(const struct thaw_dump_files *d); /* events that wait are refused */
int thaw_dump_socket(struct thaw_dt *t, File *f);
int thaw_dump_tcp(struct thaw_dt *t, File *f);
int thaw_dump_unix(struct thaw_dt *t, File *f);
int thaw_socket_leads_out(struct thaw_dt *t);      /* 1: connected to somebody outside the process, 0 not, -errno */
const char *thaw_strange_fs(int fd);
int thaw_copy_sparse(int in, int out, off_t size);
int thaw_dump_locks(struct thaw_dt *t, File *f);
int thaw_dump_owner(struct thaw_dt *t, File *f);
bool thaw_is_tty(const struct stat *st);

/* What sock_diag says about a UNIX socket. */
struct thaw_unix {
	int type, state;       /* state: TCP_LISTEN, TCP_ESTABLISHED, TCP_CLOSE */
	bool has_peer;         /* peer 0: it has one that is closed */
	uint64_t peer;
	bool has_vfs;
	uint64_t vfs_dev;
	uint32_t vfs_ino;      /* low 32 bits */
	uint32_t pending, backlog; /* of a listening socket */
	uint32_t shut;
};
int thaw_unix_diag(int num, uint64_t ino, struct thaw_unix *u);
int thaw_sock_new(struct thaw_dt *t, File *f); /* f->socket with domain, type, protocol, address and options */
void thaw_sock_text(const void *addr, size_t len, char *buf, size_t room); /* "127.0.0.1:80", "/run/x.sock", "@name" */
int thaw_dump_queue(struct thaw_dt *t, ThawState__Socket *s);

/* ---- restore ------------------------------------------------------------------------------- */

struct thaw_fr {
	const ThawState__Process *p;
	int dirfd;
	int stdio[3];          /* thaw's own 0, 1, 2 out of the way */
	int *at;               /* where File i is now (one of its own numbers), -1: not yet */
	int *first, *next;     /* lists of the numbers of a File: first[i] and next[k] are indices in p->fds, -1: end */
	unsigned char *taken;  /* bit map of the numbers that belong to the checkpoint */
	unsigned n_taken;
	struct thaw_undo *undo; /* names made in the file system */
	size_t n_undo;
};

bool thaw_fr_is_taken(const struct thaw_fr *r, int fd);
/* The same description at a number that nobody wants; fd is closed unless it was good. Close-on-exec. -errno. */
int thaw_fr_out(const struct thaw_fr *r, int fd);
int thaw_fr_dup_out(const struct thaw_fr *r, int fd); /* fd stays */
int thaw_fr_place(struct thaw_fr *r, size_t i, int fd); /* takes fd */
int thaw_fr_num(const struct thaw_fr *r, const File *f); /* the lowest number of f, for sentences; -1: none */
ssize_t thaw_fr_index(const struct thaw_fr *r, uint32_t id);
int thaw_fr_setfl(const struct thaw_fr *r, const File *f, int fd); /* status flags of F_SETFL as they were */
/* Through /proc/self/fd: a description of its own for the same inode. */
int thaw_reopen(int fd, int flags);
/* After a failure this name goes away again. */
int thaw_fr_undo_add(struct thaw_fr *r, const char *path);
void thaw_fr_undo_end(struct thaw_fr *r, bool failed);

int thaw_restore_path(struct thaw_fr *r, const File *f);
int thaw_restore_chr(struct thaw_fr *r, const File *f);
int thaw_restore_stored(struct thaw_fr *r, const File *f);  /* deleted files, memfds */
int thaw_restore_stdio(struct thaw_fr *r, const File *f);   /* INHERITED and TTY */
int thaw_restore_pipes(struct thaw_fr *r);                  /* all pipes and FIFOs; places them */
int thaw_restore_event(struct thaw_fr *r, const File *f);   /* eventfd, timerfd, signalfd */
int thaw_restore_inotify(struct thaw_fr *r, const File *f);
int thaw_restore_epolls(struct thaw_fr *r);                 /* makes, places and fills them */
int thaw_restore_socket(struct thaw_fr *r, const File *f);  /* listening and fresh ones */
int thaw_restore_pairs(struct thaw_fr *r);
int thaw_restore_owners(struct thaw_fr *r);                 /* F_SETOWN, F_SETSIG, O_ASYNC */
int thaw_restore_locks(struct thaw_fr *r);
int thaw_sock_set_options(const ThawState__Socket *s, int fd, int num);
/* Binds with the process's root and cwd around; sun_path as it was. */
int thaw_unix_bind(struct thaw_fr *r, const File *f, int fd);

/* Objects with stored content, kept between mappings and descriptors. Moves them out of the way, adds their numbers to
 * stay[n...] and returns the new n. */
size_t thaw_objects_move(struct thaw_fr *r, int *stay, size_t n);
size_t thaw_objects_count(void);
int thaw_objects_finish(struct thaw_fr *r); /* owner, mode, seals; closes them */
bool thaw_seals_wait(const ThawState__Process *p, const File *f); /* a mapping comes first */

static inline bool thaw_file_is(const File *f, ThawState__File__Kind k)
{
	return f->kind == k;
}
#define KIND(x) THAW_STATE__FILE__KIND__##x

#endif
