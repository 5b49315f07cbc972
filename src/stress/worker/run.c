// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/run.c - a track: its operations one after the other, and the look at everything behind them */
#include "config.h"
#include "stress/worker/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STRESS_OP_ENTRY(id, name, share, text) [STRESS_OP_##id] = thaw_stress_op_##id,
static stress_op_fn *const functions[STRESS_KINDS] = { STRESS_OPS(STRESS_OP_ENTRY) };

uint64_t thaw_stress_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void thaw_stress_pause_us(unsigned us)
{
	struct timespec t = { 0, us * 1000L };

	nanosleep(&t, NULL);
}

/* Relaxed: whoever looks on only wants to see that it goes on. */
void thaw_stress_beat(struct stress_task *t, uint64_t addr)
{
	atomic_store_explicit(&t->track->address, addr, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->track->beat, 1, memory_order_relaxed);
}

void thaw_stress_note(struct stress_task *t, uint64_t addr, uint64_t len, uint64_t to)
{
	struct stress_track *k = t->track;
	unsigned at = k->traced++ % STRESS_TRACES;

	k->trace[at] = (struct stress_trace){ thaw_stress_now_ns(), t->op, addr, len, to, 0 };
	thaw_stress_beat(t, addr);
}

/* One line for all pages of an operation, and none where it has told what it does: else they would push that out. */
void thaw_stress_touch(struct stress_task *t, uint64_t addr)
{
	struct stress_track *k = t->track;
	struct stress_trace *last = &k->trace[(k->traced - 1) % STRESS_TRACES];

	if (t->now && k->traced == t->told) {
		k->trace[k->traced++ % STRESS_TRACES] = (struct stress_trace){ thaw_stress_now_ns(), t->op, addr, 0, addr, 1 };
	} else if (t->now && last->pages) {
		last->to = addr;
		last->pages++;
	}
	thaw_stress_beat(t, addr);
}

/* A new one for every write of every track, until the numbers have gone round. */
uint32_t thaw_stress_next_version(struct stress_task *t)
{
	t->version++;
	return 1 + (t->number * 8191U + t->version) % (STRESS_VERSIONS - 1);
}

void thaw_stress_write(struct stress_task *t, struct stress_arena *r, uint32_t page)
{
	uint32_t version = thaw_stress_next_version(t), from = thaw_stress_own_number(t, r, page);

	thaw_stress_touch(t, (uintptr_t)thaw_stress_at(r, page));
	thaw_stress_fill(thaw_stress_at(r, page), t->s->seed, from, version);
	thaw_stress_set_content(&r->page[page], from, version);
}

uint32_t thaw_stress_own_number(const struct stress_task *t, const struct stress_arena *r, uint32_t page)
{
	return STRESS_OWN | (((t->track->process * STRESS_ARENAS + r->number) * t->s->window + page) & ~STRESS_OWN);
}

void thaw_stress_enter_track(struct stress_task *t, int number)
{
	t->number = number;
	t->track = &t->s->tracks[number];
	t->now = NULL;
	t->rnd = thaw_stress_mix(t->s->variety + number);
	atomic_store(&t->track->pid, gettid());
	atomic_store(&t->track->state, STRESS_RUNNING);
	thaw_stress_beat(t, 0);
}

/* A child that found something has said so itself. */
void thaw_stress_reap_one(struct stress_task *t, const struct stress_kid *k)
{
	int status = 0;

	atomic_store(&t->track->state, STRESS_WAITING);
	while (waitpid(k->pid, &status, 0) < 0 && errno == EINTR)
		;
	atomic_store(&t->s->tracks[k->track].state, STRESS_ENDED);
	if (status && !(k->doomed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
		if (!WIFEXITED(status) && !atomic_load(&t->s->stop) && !t->s->trouble[0])
			thaw_stress_failure(t->s, "a child (track %d) ended by signal %d", k->track, WTERMSIG(status));
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	atomic_store(&t->track->state, STRESS_RUNNING);
	thaw_stress_beat(t, 0);
}

void thaw_stress_reap(struct stress_task *t, unsigned keep)
{
	while (t->kids > keep) {
		struct stress_kid k = t->kid[0];

		memmove(&t->kid[0], &t->kid[1], --t->kids * sizeof(t->kid[0]));
		thaw_stress_reap_one(t, &k);
	}
}

void thaw_stress_run(struct stress_task *t)
{
	const struct stress_op *ops = &t->s->ops[t->track->first_op];

	for (uint32_t i = 0; i < t->track->n_ops && !atomic_load_explicit(&t->s->stop, memory_order_relaxed); i++) {
		enum stress_done done;

		t->op = i;
		t->told = t->track->traced;
		t->now = &ops[i];
		atomic_store_explicit(&t->track->began_ns, thaw_stress_now_ns(), memory_order_relaxed);
		thaw_stress_beat(t, 0);
		done = functions[ops[i].kind](t, &ops[i]);
		atomic_fetch_add_explicit(done == STRESS_DONE ? &t->s->done[ops[i].kind] : &t->s->refused[ops[i].kind], 1,
					  memory_order_relaxed);
		atomic_store_explicit(&t->track->done, i + 1, memory_order_relaxed);
	}
	t->now = NULL;
}

/* ---- the end: every byte ------------------------------------------------------------------------------------------- */
static void open_up(struct stress_arena *r)
{
	for (uint32_t i = 0; i < r->pages;) {
		uint32_t n = 1;

		if (r->page[i].holds == STRESS_UNMAPPED) {
			i++;
			continue;
		}
		n = thaw_stress_extent(r, i, r->pages - i);
		if (r->page[i].attr & (STRESS_READONLY | STRESS_NO_ACCESS)) {
			mprotect(thaw_stress_at(r, i), n * STRESS_PAGE, PROT_READ | PROT_WRITE);
			thaw_stress_attr(r, i, n, 0, STRESS_READONLY | STRESS_NO_ACCESS);
		}
		i += n;
	}
}

static void look_at(struct stress_task *t, struct stress_arena *r, uint32_t most)
{
	uint32_t step = most && r->mapped > most ? r->mapped / most : 1;
	uint32_t from = step > 1 ? thaw_stress_random(&t->rnd) % step : 0;

	if (r->owned)
		open_up(r);
	for (uint32_t i = from; i < r->pages; i += step)
		if (r->page[i].holds != STRESS_UNMAPPED)
			thaw_stress_check(t, r, i);
}

void thaw_stress_final(struct stress_task *t, uint32_t most)
{
	look_at(t, t->arena, most);
	if (t->brk)
		look_at(t, t->brk, most);
	if (t->big)
		thaw_stress_big_check(t);
	if (t->common)
		look_at(t, t->common, most);
}
