/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/lazy.h - the parts of thaw lazy-pages: its options, its start as a daemon, its statistics.
 * Threads   the main thread only
 * Errors    -errno with a sentence in util/err.h */
#ifndef THAW_CLI_LAZY_H
#define THAW_CLI_LAZY_H

#include <stdbool.h>
#include <sys/types.h>

#include "cli/criu.h"
#include "cli/outfile.h"
#include "lazy/session.h"

#define THAW_LAZY_SCRIPTS 16
#define THAW_LAZY_CLOSES 64

struct thaw_lazy_command {
	struct thaw_lazy_options core;
	const char *images_dir, *work_dir, *log_file, *pidfile, *stats, *status_socket;
	const char *script[THAW_LAZY_SCRIPTS];
	unsigned n_scripts;
	int closes[THAW_LAZY_CLOSES]; /* --close FD */
	unsigned n_closes;
	bool detach, display_stats, version, help;
	int status_fd;                /* -1: none */
	long level;                   /* CRIU's: 1 errors, 2 and warnings, 3 and what is done, 4 and every detail */

	bool page_server;
	const char *address;
	long port;                    /* 0: none */
	int ps_socket;                /* -1: none */
	bool tls, tls_no_cn_verify;
	const char *tls_cacert, *tls_cacrl, *tls_cert, *tls_key;
	long protocol;                /* 24, 32; 0: as the images tell */
	long reconnect_timeout;       /* seconds; 0: for ever */
	bool copiers_given, delay_given;
	const char *ignored[THAW_CRIU_IGNORED]; /* names of options without a meaning here */
	unsigned n_ignored;
	const char *no_config;        /* --config FILE that cannot be read; NULL: none */
	int no_config_error;
};

extern const struct thaw_criu_option thaw_lazy_own_options[];
/* -1: go on; else the exit status. */
int thaw_lazy_parse(struct thaw_lazy_command *c, int argc, char **argv);

/* ---- start ------------------------------------------------------------------------------------------------- */
struct thaw_lazy_start {
	int imagesfd;
	int listenfd;
	int lockfd, watchfd;         /* the work directory, locked as long as it listens; an inotify that tells of the socket's file */
	dev_t dev;                   /* of the socket's file, to know it again */
	ino_t ino;
	int status;                  /* what --status-fd names, or a copy of it; -1: none */
	int ready;                   /* to the parent (-d); -1: none */
	int caller;                  /* the caller's standard error (-d), until it serves; -1: none */
};
/* Opens the image directory, goes to the work directory, opens the log. */
int thaw_lazy_enter(struct thaw_lazy_start *s, const struct thaw_lazy_command *c);
int thaw_lazy_listen(struct thaw_lazy_start *s);
/* watchfd is readable. -errno: the socket's file is not ours any more, so nobody can come. */
int thaw_lazy_watch(struct thaw_lazy_start *s);
/* One fork with -d. 0: go on here, as the daemon; > 0: the parent's part is done, *status is its exit status. */
int thaw_lazy_detach(struct thaw_lazy_start *s, const struct thaw_lazy_command *c, int *status);
/* The daemon serves (or has failed, with a nonzero status): tells the parent. */
void thaw_lazy_tell_parent(struct thaw_lazy_start *s, int status);
/* Action scripts, and the byte that says so. */
int thaw_lazy_ready(const struct thaw_lazy_start *s, const struct thaw_lazy_command *c);
/* The one connection; the socket and its file go. */
int thaw_lazy_accept(struct thaw_lazy_start *s);
/* No further one can come from here on; one that had connected before, or -EAGAIN. */
int thaw_lazy_accept_last(struct thaw_lazy_start *s);
void thaw_lazy_unlisten(struct thaw_lazy_start *s);

/* ---- what came of it --------------------------------------------------------------------------------------- */
void thaw_lazy_summary(struct thaw_lazy *z);               /* a line a task */
void thaw_lazy_display(struct thaw_lazy *z);               /* --display-stats: on standard output */
/* For free(); NULL: no memory. ps: NULL, local images. */
char *thaw_lazy_stats_json(struct thaw_lazy *z, struct thaw_pageserver *ps, bool complete);

#endif
