// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_restore_check.c - a state that reads well but makes no sense is refused by the sentence that says where */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/user.h>

#include "checkpoint/restore.h"
#include "checkpoint/state.h"
#include "util/err.h"

enum { MAPPINGS = 4, THREADS = 2, FILES = 2, TIMERS = 2 };
#define BASE 0x10000000ULL
#define VDSO 0x7fff00008000ULL

/* One process with a little of everything, and the parts that a case spoils. */
struct world {
	struct thaw_restore r;
	ThawState__Head head;
	ThawState__Process p;
	ThawState__Mapping m[MAPPINGS], *mp[MAPPINGS];
	ThawState__Range guard, *guards[1];
	ThawState__Thread t[THREADS], *tp[THREADS];
	ThawState__Creds creds;
	ThawState__Siginfo sig, *sigs[1];
	ThawState__File f[FILES], *fp[FILES];
	ThawState__Fd fd[FILES], *fdp[FILES];
	ThawState__PosixTimer timer[TIMERS], *timers[TIMERS];
	ThawState__Timespec zero;
	ThawState__Sigaction action, *actions[1];
	ThawState__Rlimit limit, *limits[1];
	siginfo_t info;
	uint32_t advice[1];
	uint64_t stored[1];
	unsigned char regs[sizeof(struct user_regs_struct)], xsave[576], cpus[8];
};

static void set_mappings(struct world *w)
{
	for (int i = 0; i < MAPPINGS; i++) {
		thaw_state__mapping__init(&w->m[i]);
		w->m[i].start = BASE + (uint64_t)i * 0x10000;
		w->m[i].end = w->m[i].start + 0x8000;
		w->m[i].prot = PROT_READ | PROT_WRITE;
		w->mp[i] = &w->m[i];
	}
	w->m[1].kind = THAW_STATE__MAPPING__KIND__FILE_PRIVATE;
	w->m[1].path = "/bin/true";
	w->m[2].kind = THAW_STATE__MAPPING__KIND__SHARED_ANON;
	w->m[2].has_stored = 1;
	thaw_state__range__init(&w->guard);
	w->guard.start = BASE + 0x1000;
	w->guard.end = BASE + 0x2000;
	w->guards[0] = &w->guard;
	w->m[0].guards = w->guards;
	w->m[0].n_guards = 1;
	w->advice[0] = MADV_DONTDUMP;
	w->m[0].madvise = w->advice;
	w->m[0].n_madvise = 1;
	w->p.mappings = w->mp;
	w->p.n_mappings = MAPPINGS;
}

static void set_threads(struct world *w)
{
	thaw_state__creds__init(&w->creds);
	thaw_state__siginfo__init(&w->sig);
	w->info.si_signo = SIGUSR1;
	w->sig.info.data = (uint8_t *)&w->info;
	w->sig.info.len = sizeof(w->info);
	w->sigs[0] = &w->sig;
	for (int i = 0; i < THREADS; i++) {
		thaw_state__thread__init(&w->t[i]);
		w->t[i].tid = 100 + i;
		w->t[i].regs = (ProtobufCBinaryData){ sizeof(w->regs), w->regs };
		w->t[i].xsave = (ProtobufCBinaryData){ sizeof(w->xsave), w->xsave };
		w->t[i].affinity = (ProtobufCBinaryData){ sizeof(w->cpus), w->cpus };
		w->t[i].creds = &w->creds;
		w->tp[i] = &w->t[i];
	}
	w->t[1].pending = w->sigs;
	w->t[1].n_pending = 1;
	w->p.threads = w->tp;
	w->p.n_threads = THREADS;
}

static void set_files(struct world *w)
{
	for (int i = 0; i < FILES; i++) {
		thaw_state__file__init(&w->f[i]);
		thaw_state__fd__init(&w->fd[i]);
		w->f[i].id = w->fd[i].file = 7 + (uint32_t)i;
		w->fd[i].fd = i;
		w->fp[i] = &w->f[i];
		w->fdp[i] = &w->fd[i];
	}
	w->p.files = w->fp;
	w->p.n_files = FILES;
	w->p.fds = w->fdp;
	w->p.n_fds = FILES;
}

static void set_rest(struct world *w)
{
	thaw_state__timespec__init(&w->zero);
	for (int i = 0; i < TIMERS; i++) {
		thaw_state__posix_timer__init(&w->timer[i]);
		w->timer[i].id = i;
		w->timer[i].value = w->timer[i].interval = &w->zero;
		w->timers[i] = &w->timer[i];
	}
	thaw_state__sigaction__init(&w->action);
	w->action.signo = SIGUSR1;
	w->actions[0] = &w->action;
	thaw_state__rlimit__init(&w->limit);
	w->limits[0] = &w->limit;
	w->p.timers = w->timers;
	w->p.n_timers = TIMERS;
	w->p.actions = w->actions;
	w->p.n_actions = 1;
	w->p.limits = w->limits;
	w->p.n_limits = 1;
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	cr_assert(w);
	thaw_state__head__init(&w->head);
	thaw_state__process__init(&w->p);
	w->head.stored_sizes = w->stored;
	w->head.n_stored_sizes = 1;
	w->head.vdso_start = VDSO;
	w->head.vvar_start = VDSO - 0x4000;
	w->head.vvar_len = 0x4000;
	w->r.special.vdso_start = VDSO;
	w->r.special.vdso_end = VDSO + 0x2000;
	w->p.pid = 100;
	w->p.cwd = w->p.root = "/";
	w->p.exe = "/bin/true";
	w->r.head = &w->head;
	w->r.p = &w->p;
	set_mappings(w);
	set_threads(w);
	set_files(w);
	set_rest(w);
	return w;
}

Test(restore_check, sound)
{
	struct world *w = world_new();

	cr_assert_eq(thaw_restore_check(&w->r), 0, "%s", thaw_err_text());
	free(w);
}

#define SPOIL(name, code, sentence) \
	Test(restore_check, name) \
	{ \
		struct world *w = world_new(); \
		int err; \
		code; \
		err = thaw_restore_check(&w->r); \
		cr_assert_lt(err, 0, "it was accepted"); \
		cr_assert(strstr(thaw_err_text(), sentence), "%s", thaw_err_text()); \
		free(w); \
	}

SPOIL(pid_zero, w->p.pid = 0, "process id 0")
SPOIL(pid_one, w->p.pid = 1, "--pidns")
SPOIL(no_mappings, w->p.n_mappings = 0, "no mappings")
SPOIL(unaligned, w->m[1].start += 1, "mapping 1")
SPOIL(backwards, w->m[1].end = w->m[1].start - 0x1000, "mapping 1")
SPOIL(kernel_half, w->m[3].end = 0xffff800000000000ULL, "mapping 3")
SPOIL(overlapping, w->m[0].end = w->m[1].start + 0x1000, "overlaps the one before")
SPOIL(over_vdso, (w->m[3].start = VDSO - 0x1000, w->m[3].end = VDSO), "overlaps the vdso")
SPOIL(vdso_elsewhere, w->head.vdso_start = 0x1000, "vvar")
SPOIL(offset_unaligned, w->m[1].pgoff = 100, "mapping 1")
SPOIL(protection, w->m[0].prot = 0x100, "protection")
SPOIL(kind, w->m[0].kind = (ThawState__Mapping__Kind)99, "kind")
SPOIL(no_path, w->m[1].path = NULL, "without a path")
SPOIL(no_content, w->m[2].has_stored = 0, "without content")
SPOIL(stored_out_of_range, w->m[2].stored = 1, "stored object 1 of 1")
SPOIL(stored_negative, w->m[2].stored = -1, "stored object -1")
SPOIL(lazy_file, w->m[1].lazy = 1, "is lazy")
SPOIL(lazy_locked, w->m[0].lazy = w->m[0].locked = 1, "is lazy")
SPOIL(lazy_droppable, (w->m[0].lazy = 1, w->m[0].map_flags = THAW_MAP_DROPPABLE), "may lose its content")
SPOIL(guard_outside, w->guard.end = BASE + 0x9000, "guard range 0")
SPOIL(advice_poison, w->advice[0] = 100, "advice 100")
SPOIL(advice_discard, w->advice[0] = MADV_DONTNEED, "advice 4")
SPOIL(no_threads, w->p.n_threads = 0, "0 threads")
SPOIL(leader_not_first, w->t[0].tid = 55, "thread 0")
SPOIL(leader_twice, w->t[1].tid = 100, "thread 1")
SPOIL(tid_negative, w->t[1].tid = -3, "id -3")
SPOIL(regs_short, w->t[1].regs.len = 8, "bytes of registers")
SPOIL(xsave_short, w->t[1].xsave.len = 512, "xsave")
SPOIL(xsave_long, w->t[1].xsave.len = 1 << 20, "xsave")
SPOIL(no_cpus, w->t[0].affinity.len = 0, "CPU mask")
SPOIL(nodes_odd, (w->t[0].has_mempolicy_nodes = 1, w->t[0].mempolicy_nodes.len = 7), "7 bytes of nodes")
SPOIL(pending_short, w->sig.info.len = 4, "pending signal 0 has 4 bytes")
SPOIL(pending_kill, w->info.si_signo = SIGKILL, "is number 9")
SPOIL(pending_number, w->info.si_signo = 65, "is number 65")
SPOIL(fd_negative, w->fd[0].fd = -1, "descriptor -1")
SPOIL(fd_twice, w->fd[1].fd = 0, "descriptor 0 is there twice")
SPOIL(fd_of_nothing, w->fd[1].file = 1000, "file 1000, which is not there")
SPOIL(file_twice, w->f[1].id = 7, "file 7 is there twice")
SPOIL(file_stored, (w->f[0].has_stored = 1, w->f[0].stored = 5), "stored object 5 of 1")
SPOIL(timer_order, w->timer[1].id = 0, "timer 1")
SPOIL(timer_time, w->zero.nsec = 1000000000, "time out of range")
SPOIL(action_number, w->action.signo = 0, "action for signal 0")
SPOIL(limit_number, w->limit.resource = 99, "resource limit 99")
SPOIL(auxv_odd, w->p.auxv.len = 15, "auxiliary vector")
SPOIL(relative_root, w->p.root = "x", "a path")
