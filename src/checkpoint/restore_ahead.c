// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_ahead.c - words that the kernel reads or writes itself without waiting for their pages: they are there before
 *
 * Each is read, which waits for the monitor, and for ever when content cannot be had. So a thread of its own reads, and is waited for
 * as long as the restore is wanted. An address that cannot be read is the program's own affair. */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "kern/sys.h"
#include "util/err.h"

#define LOOK_MS 50 /* whether the restore is still wanted */

struct words {
	uint64_t robust_list, clear_child_tid, futex[2]; /* addresses; 0: none */
};

/* When nobody wants the restore any more, the thread that sleeps on a page stays behind until that page comes, or we end. */
struct ahead {
	pthread_mutex_t lock;
	pthread_cond_t change;
	bool done, left;       /* lock: all is read; nobody waits for that */
	pid_t pid;
	size_t n;
	struct words of[];     /* by thread */
};

static bool bring(const struct ahead *a, uint64_t at, void *buf, size_t len)
{
	return thaw_sys_vm_read(a->pid, at, buf, len) == 0;
}

static void bring_word(const struct ahead *a, uint64_t at)
{
	uint32_t word;

	if (at)
		bring(a, at, &word, sizeof(word));
}

/* What the kernel does for a thread that ends: it marks the robust futexes that the thread holds, and clears a word. Where a page is
 * missing it leaves that, and who waits for it does so for ever. The list is followed as the kernel does, and as far. What a thread
 * enters later it writes to, and to its neighbours in the list. */
static void bring_robust(const struct ahead *a, uint64_t head_at)
{
	struct robust_list_head head;
	uint64_t at;

	if (!head_at || !bring(a, head_at, &head, sizeof(head)))
		return;
	if (head.list_op_pending)
		bring_word(a, ((uint64_t)head.list_op_pending & ~1ULL) + (uint64_t)head.futex_offset);
	at = (uint64_t)head.list.next & ~1ULL; /* bit 0: with priority inheritance */
	for (int n = 0; n < ROBUST_LIST_LIMIT && at != head_at; n++) {
		struct robust_list entry;

		if (!bring(a, at, &entry, sizeof(entry)))
			return;
		bring_word(a, at + (uint64_t)head.futex_offset);
		at = (uint64_t)entry.next & ~1ULL;
	}
}

static void bring_words(const struct ahead *a, const struct words *w)
{
	bring_robust(a, w->robust_list);
	bring_word(a, w->clear_child_tid);
	bring_word(a, w->futex[0]);
	bring_word(a, w->futex[1]);
}

static void discard(struct ahead *a)
{
	pthread_cond_destroy(&a->change);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static bool is_left(struct ahead *a)
{
	bool left;

	pthread_mutex_lock(&a->lock);
	left = a->left;
	pthread_mutex_unlock(&a->lock);
	return left;
}

static void *read_words(void *opaque)
{
	struct ahead *a = opaque;
	bool left;

	for (size_t i = 0; i < a->n && !is_left(a); i++) /* else the number may be another process's by now */
		bring_words(a, &a->of[i]);
	pthread_mutex_lock(&a->lock);
	a->done = true;
	left = a->left;
	pthread_cond_signal(&a->change);
	pthread_mutex_unlock(&a->lock);
	if (left)
		discard(a);
	return NULL;
}

/* FUTEX_LOCK_PI that is made again would fail with EFAULT; the second word is that of FUTEX_WAIT_REQUEUE_PI. */
static struct words words_of(const ThawState__Thread *t)
{
	struct words w = { .robust_list = t->robust_list, .clear_child_tid = t->clear_child_tid };
	struct user_regs_struct regs;

	memcpy(&regs, t->regs.data, sizeof(regs));
	if (regs.orig_rax == SYS_futex) {
		w.futex[0] = regs.rdi;
		w.futex[1] = regs.r8;
	}
	return w;
}

static struct ahead *prepare(const struct thaw_restore *r)
{
	struct ahead *a = calloc(1, sizeof(*a) + r->p->n_threads * sizeof(a->of[0]));
	pthread_condattr_t monotonic;

	if (!a)
		return NULL;
	a->pid = r->pid;
	a->n = r->p->n_threads;
	for (size_t i = 0; i < a->n; i++)
		a->of[i] = words_of(r->p->threads[i]);
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&a->change, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return a;
}

/* left: it is not ours any more. */
static int await(const struct thaw_restore *r, struct ahead *a, bool *left)
{
	int err = 0;

	pthread_mutex_lock(&a->lock);
	while (!err && !a->done) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		if (pthread_cond_timedwait(&a->change, &a->lock, &until) != ETIMEDOUT)
			continue;
		pthread_mutex_unlock(&a->lock);
		err = thaw_restore_interrupted(r);
		if (!err && thaw_sys_pidfd_exited(r->pidfd)) /* its memory stays for as long as it is being read */
			err = thaw_err_set(-ESRCH, "process %d was killed before it ran: it was not restored", r->p->pid);
		pthread_mutex_lock(&a->lock);
	}
	*left = a->left = !a->done;
	pthread_mutex_unlock(&a->lock);
	return err;
}

int thaw_restore_bring_ahead(const struct thaw_restore *r)
{
	struct ahead *a;
	pthread_t reader;
	bool left = false;
	int err = 0;

	if (r->o.eager)
		return 0;
	a = prepare(r);
	if (!a)
		return thaw_err_set(-ENOMEM, "no memory");
	if (pthread_create(&reader, NULL, read_words, a)) {
		read_words(a);
	} else {
		err = await(r, a, &left);
		if (left)
			pthread_detach(reader);
		else
			pthread_join(reader, NULL);
	}
	if (!left)
		discard(a);
	return err;
}
