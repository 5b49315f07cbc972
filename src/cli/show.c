// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/show.c - thaw show: what is in a checkpoint, and whether it is whole.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/whole.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "util/err.h"

/* ---- reading ---------------------------------------------------------------------------------------------- */
static void count_mappings(struct thaw_show *s)
{
	for (size_t i = 0; i < s->process->n_mappings; i++)
		s->kinds[s->process->mappings[i]->kind]++;
}

static int load(struct thaw_show *s)
{
	int dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dirfd < 0)
		return thaw_err_set(-errno, "%s: cannot be opened: %s", s->dir, strerror(errno));
	int r = thaw_state_load(dirfd, &s->head, &s->process);
	if (!r)
		r = thaw_whole_check(dirfd, s->head, s->process);
	if (!r)
		r = thaw_show_memory(s, dirfd);
	if (!r)
		count_mappings(s);
	else
		thaw_err_wrap("%s", s->dir);
	close(dirfd);
	return r;
}

/* ---- words ------------------------------------------------------------------------------------------------ */
const ThawState__File *thaw_show_file(const struct thaw_show *s, const ThawState__Fd *fd)
{
	for (size_t i = 0; i < s->process->n_files; i++)
		if (s->process->files[i]->id == fd->file)
			return s->process->files[i];
	return NULL;
}

const char *thaw_show_kind(const ThawState__File *f)
{
	static const char *const names[] = {
		[THAW_STATE__FILE__KIND__REG] = "file",
		[THAW_STATE__FILE__KIND__DIR] = "directory",
		[THAW_STATE__FILE__KIND__CHR] = "device",
		[THAW_STATE__FILE__KIND__PIPE] = "pipe",
		[THAW_STATE__FILE__KIND__FIFO] = "fifo",
		[THAW_STATE__FILE__KIND__EVENTFD] = "eventfd",
		[THAW_STATE__FILE__KIND__TIMERFD] = "timerfd",
		[THAW_STATE__FILE__KIND__SIGNALFD] = "signalfd",
		[THAW_STATE__FILE__KIND__EPOLL] = "epoll",
		[THAW_STATE__FILE__KIND__INOTIFY] = "inotify",
		[THAW_STATE__FILE__KIND__MEMFD] = "memfd",
		[THAW_STATE__FILE__KIND__TCP_LISTEN] = "tcp listener",
		[THAW_STATE__FILE__KIND__UNIX_LISTEN] = "unix listener",
		[THAW_STATE__FILE__KIND__UNIX_PAIR] = "unix pair",
		[THAW_STATE__FILE__KIND__INHERITED] = "inherited",
		[THAW_STATE__FILE__KIND__TTY] = "terminal",
		[THAW_STATE__FILE__KIND__PATH] = "path",
	};

	return f && (size_t)f->kind < sizeof(names) / sizeof(*names) && names[f->kind] ? names[f->kind] : "unknown";
}

const char *thaw_show_taken(const struct thaw_show *s, char *buf, size_t len)
{
	time_t t = s->head->taken_realtime_ns / 1000000000ull;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, len, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(buf, len, "unknown");
	return buf;
}

/* ---- text ------------------------------------------------------------------------------------------------- */
static void text_files(const struct thaw_show *s)
{
	const ThawState__Process *p = s->process;

	printf("  files       %zu descriptors, %zu open files\n", p->n_fds, p->n_files);
	for (size_t i = 0; i < p->n_fds; i++) {
		const ThawState__File *f = thaw_show_file(s, p->fds[i]);

		printf("    %5d     %s", p->fds[i]->fd, thaw_show_kind(f));
		if (f && f->path && *f->path)
			printf(" %s", f->path);
		if (f && f->kind == THAW_STATE__FILE__KIND__INHERITED)
			printf(" (%d of the restore)", f->inherit);
		if (f && f->kind == THAW_STATE__FILE__KIND__REG)
			printf(", at %" PRIu64 "%s", f->pos, f->has_stored ? ", stored" : "");
		putchar('\n');
	}
}

static void text(const struct thaw_show *s)
{
	const ThawState__Process *p = s->process;
	const ThawState__Creds *c = p->threads[0]->creds;
	char a[32], b[32], when[32];

	printf("%s: process %d (%s), whole\n", s->dir, p->pid, p->threads[0]->name);
	printf("  taken       %s on Linux %s\n", thaw_show_taken(s, when, sizeof(when)), s->head->kernel);
	printf("  program     %s\n", p->exe);
	printf("  directory   %s, root %s\n", p->cwd, p->root);
	printf("  ids         pid %d, group %d, session %d; uid %u, gid %u\n", p->pid, p->pgid, p->sid, c->euid, c->egid);
	printf("  threads     %zu\n", p->n_threads);
	printf("  mappings    %zu: %u anonymous, %u private file, %u shared file, %u shared anonymous, %u special\n",
	       p->n_mappings, s->kinds[THAW_STATE__MAPPING__KIND__ANON], s->kinds[THAW_STATE__MAPPING__KIND__FILE_PRIVATE],
	       s->kinds[THAW_STATE__MAPPING__KIND__FILE_SHARED], s->kinds[THAW_STATE__MAPPING__KIND__SHARED_ANON],
	       s->kinds[THAW_STATE__MAPPING__KIND__SPECIAL]);
	printf("  memory      %s follows the process, %s is there before it runs\n",
	       thaw_say_bytes(a, sizeof(a), s->lazy_bytes), thaw_say_bytes(b, sizeof(b), s->eager_bytes));
	text_files(s);
}

int thaw_cmd_show(const struct thaw_command *c, int argc, char **argv)
{
	struct thaw_show s = { 0 };
	bool as_json = false;
	struct thaw_option own[] = {
		{ 'D', "images", "DIR", "the checkpoint", THAW_OPTION_STRING, &s.dir },
		{ 0, "json", NULL, "as one JSON object", THAW_OPTION_FLAG, &as_json },
		{ .kind = THAW_OPTION_END }
	};
	int status = thaw_options_parse(c, own, argc, argv);

	if (status >= 0)
		return status;
	if (!s.dir)
		return thaw_options_refuse(c, "which checkpoint? -D DIR is missing");
	status = load(&s) < 0 ? thaw_say_failure() : THAW_EXIT_OK;
	if (status == THAW_EXIT_OK && as_json)
		thaw_show_json(&s);
	else if (status == THAW_EXIT_OK && !thaw_cli.quiet)
		text(&s);
	thaw_state_free(s.head, s.process);
	return status;
}
