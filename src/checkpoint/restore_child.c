// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_child.c - what the new process does itself, as a fork of us: session, userfaultfd, files, signal actions */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/files.h"
#include "kern/sys.h"
#include "kern/uffd.h"
#include "util/err.h"

#define RSEQ_LEN_MAX 256u

/* Session and group are kept where they exist; a process that led its own leads its own again; else it gets new ones (in
 * the foreground only a group, so that the terminal can be handed to it). */
static void join_session(const struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;

	if (p->sid == p->pid || (p->sid != r->sid && !r->o.foreground)) {
		setsid(); /* fails for a session leader only, which a fresh process is only as process 1 of a namespace */
		return;
	}
	if (p->sid == r->sid && p->pgid == r->pgid)
		return;
	if (p->pgid == p->pid || p->sid != r->sid || setpgid(0, p->pgid))
		setpgid(0, 0);
}

static int open_objects(struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;

	for (size_t i = 0; i < p->n_mappings; i++) {
		const ThawState__Mapping *m = p->mappings[i], *e;

		if (!m->has_stored || m->kind == THAW_STATE__MAPPING__KIND__SPECIAL)
			continue;
		for (size_t j = 0; j < i && r->map_first[i] < 0; j++) {
			e = p->mappings[j];
			if (r->map_first[j] >= 0 && e->has_stored && e->stored == m->stored && e->object == m->object)
				r->map_first[i] = r->map_first[j];
		}
		if (r->map_first[i] >= 0)
			continue;
		r->map_fd[i] = thaw_files_object(p, r->dirfd, m);
		if (r->map_fd[i] < 0)
			return r->map_fd[i];
		r->map_first[i] = (int)i;
	}
	return 0;
}

/* Every descriptor at its number; those for the mappings get out of the way, and the report says where they are. */
static int restore_files(struct thaw_restore *r)
{
	const ThawState__Process *p = r->p;
	struct thaw_child_report *rep = r->report;
	int **keep = malloc(sizeof(*keep) * (p->n_mappings + 2)), err;
	unsigned n = 0;

	if (!keep)
		return thaw_err_set(-ENOMEM, "no memory for the files of %zu mappings", p->n_mappings);
	rep->exe_fd = r->exe_fd;
	keep[n++] = &rep->exe_fd;
	if (rep->uffd >= 0)
		keep[n++] = &rep->uffd;
	for (size_t i = 0; i < p->n_mappings; i++) {
		rep->map[i].fd = r->map_fd[i];
		rep->map[i].first = r->map_first[i];
		if (r->map_first[i] == (int)i)
			keep[n++] = &rep->map[i].fd;
	}
	err = thaw_files_restore(p, r->dirfd, keep, n);
	for (size_t i = 0; i < p->n_mappings; i++)
		rep->map[i].fd = r->map_first[i] >= 0 ? rep->map[r->map_first[i]].fd : -1;
	free(keep);
	return err;
}

static int enter_directories(const ThawState__Process *p)
{
	if (chdir(p->cwd))
		return thaw_err_set(-errno, "%s: %s: it was the current directory of the process", p->cwd, strerror(errno));
	if (strcmp(p->root, "/") && chroot(p->root))
		return thaw_err_set(-errno, "%s: chroot: %s", p->root, strerror(errno));
	umask((mode_t)p->umask);
	return 0;
}

/* As the kernel takes it. */
struct action { uint64_t handler, flags, restorer, mask; };

static int set_actions(const ThawState__Process *p)
{
	struct action a = { .handler = (uintptr_t)SIG_DFL };

	/* All signals are blocked: none of the handlers can run before the program is there. */
	for (int sig = 1; sig <= 64; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			syscall(SYS_rt_sigaction, sig, &a, NULL, sizeof(a.mask));
	for (size_t i = 0; i < p->n_actions; i++) {
		const ThawState__Sigaction *s = p->actions[i];

		a = (struct action){ s->handler, s->flags, s->restorer, s->mask };
		if (s->signo == SIGKILL || s->signo == SIGSTOP)
			continue;
		if (syscall(SYS_rt_sigaction, (int)s->signo, &a, NULL, sizeof(a.mask)))
			return thaw_err_set(-errno, "action for signal %u: %s", s->signo, strerror(errno));
	}
	return 0;
}

/* The area that the C library registered goes away with our memory; the kernel would kill the process over it. The length
 * must be the registered one, which the library does not tell. */
static int leave_rseq(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	if (!__rseq_size)
		return 0;
	for (unsigned len = 32; len <= RSEQ_LEN_MAX; len += 4)
		if (!syscall(SYS_rseq, area, len, 1 /* RSEQ_FLAG_UNREGISTER */, 0x53053053))
			return 0;
	return thaw_err_set(-errno, "leaving restartable sequences: %s", strerror(errno));
}

static int first_phase(struct thaw_restore *r)
{
	int err;

	join_session(r);
	if (!r->o.eager) {
		r->report->uffd = thaw_uffd_open();
		if (r->report->uffd < 0)
			return thaw_err_code() ? thaw_err_code() : -EPERM;
	}
	err = open_objects(r);
	if (!err)
		err = restore_files(r);
	if (!err)
		err = enter_directories(r->p);
	if (!err)
		err = set_actions(r->p);
	return err ? err : leave_rseq();
}

_Noreturn void thaw_restore_child(struct thaw_restore *r, pid_t parent)
{
	struct thaw_child_report *rep = r->report;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* until it is traced with PTRACE_O_EXITKILL */
	if (parent && getppid() != parent)
		_exit(1);
	err = first_phase(r);
	if (err) {
		snprintf(rep->text, sizeof(rep->text), "%s", thaw_err_text());
		__atomic_store_n(&rep->code, err, __ATOMIC_RELEASE); /* text before code */
		thaw_sys_futex_wake((uint32_t *)&rep->ready, 1, true);
		_exit(1);
	}
	__atomic_store_n((uint32_t *)&rep->ready, 1, __ATOMIC_RELEASE); /* numbers before ready */
	thaw_sys_futex_wake((uint32_t *)&rep->ready, 1, true);
	for (;;)
		syscall(SYS_pause);
}
