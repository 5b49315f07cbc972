// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/worker/check.c - the oracle: a page against what it may hold, and the name for what it holds instead */
#include "config.h"
#include "stress/worker/worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const uint64_t zeros[STRESS_WORDS];

/* ---- telling ---------------------------------------------------------------------------------------------------- */
static _Noreturn void give_up(struct stress_shared *s, int died, const char *fmt, va_list ap)
{
	vsnprintf(s->trouble, sizeof(s->trouble), fmt, ap);
	if (died)
		atomic_store(&s->died, 1);
	_exit(2);
}

_Noreturn void thaw_stress_trouble(struct stress_shared *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	give_up(s, 0, fmt, ap);
}

_Noreturn void thaw_stress_failure(struct stress_shared *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	give_up(s, 1, fmt, ap);
}

_Noreturn void thaw_stress_violation(struct stress_task *t, enum stress_class class, uint64_t addr, const char *expected,
				     const char *found, const char *fmt, ...)
{
	struct stress_violation *v = &t->s->violation;
	va_list ap;

	/* Of a process that is killed the marks are not known any more; its children are killed as well, a moment later. */
	if (t->track->depth && atomic_load(&t->s->doomed[t->track->process]))
		thaw_stress_pause_us(100000);
	if (!atomic_exchange(&v->claimed, 1)) {
		v->class = class;
		v->track = t->number;
		v->op = t->now ? (int32_t)t->op : -1;
		v->pid = getpid();
		v->address = addr;
		v->ns = thaw_stress_now_ns();
		snprintf(v->expected, sizeof(v->expected), "%s", expected);
		snprintf(v->found, sizeof(v->found), "%s", found);
		va_start(ap, fmt);
		vsnprintf(v->what, sizeof(v->what), fmt, ap);
		va_end(ap);
		atomic_store(&v->ready, 1);
	}
	atomic_store(&t->s->stop, 1);
	_exit(1);
}

_Noreturn void thaw_stress_failed(struct stress_task *t, uint64_t addr, const char *call, int err)
{
	char found[128];

	snprintf(found, sizeof(found), "%s: %s", call, strerror(err));
	thaw_stress_violation(t, STRESS_FAILED_CALL, addr, "success", found, "a call failed that has no reason to");
}

/* ---- names ------------------------------------------------------------------------------------------------------- */
static void name_content(const struct stress_shared *s, uint32_t from, uint32_t version, char *buf, size_t size)
{
	uint32_t process = s->initial_pages ? from / s->initial_pages : 0, first;

	if (version || from & STRESS_OWN) {
		snprintf(buf, size, "version %u, written to page number %u", version, from & ~STRESS_OWN);
		return;
	}
	first = from % s->initial_pages;
	for (uint32_t i = 0; i < s->n_ranges; i++) {
		const struct stress_range *g = &s->ranges[i];
		uint64_t base = g->arena == STRESS_BRK ? atomic_load(&s->brk[process]) : s->base + g->arena * s->stride;

		if (g->process == process && g->arena != STRESS_BIG && g->arena != STRESS_HELD && first >= g->first &&
		    first < g->first + g->pages) {
			snprintf(buf, size, "the checkpoint's content of page %#llx of process %u",
				 (unsigned long long)(base + (g->page + first - g->first) * STRESS_PAGE), process);
			return;
		}
	}
	snprintf(buf, size, "the checkpoint's content of page %u of process %u", first, process);
}

static void name_expected(const struct stress_shared *s, const struct stress_page *p, char *buf, size_t size)
{
	size_t n;

	if (p->holds == STRESS_ZERO) {
		snprintf(buf, size, "zero");
		return;
	}
	name_content(s, p->is.from, p->is.version, buf, size);
	n = strlen(buf);
	if (p->is.len)
		n += snprintf(buf + n, size - n, ", words %u to %u of version %u", p->is.at, p->is.at + p->is.len - 1, p->is.over);
	if (p->holds == STRESS_EITHER && n < size)
		snprintf(buf + n, size - n, ", or zero");
}

/* ---- comparing ----------------------------------------------------------------------------------------------------- */
static uint64_t word_of(uint64_t seed, const struct stress_content *c, unsigned i)
{
	return thaw_stress_word(seed, c->from, i >= c->at && i < c->at + c->len ? c->over : c->version, i);
}

void thaw_stress_expected(struct stress_task *t, const struct stress_page *p, uint64_t *words)
{
	for (unsigned i = 0; i < STRESS_WORDS; i++)
		words[i] = word_of(t->s->seed, &p->is, i);
}

static bool is_content(uint64_t seed, const struct stress_content *c, const uint64_t *w)
{
	for (unsigned i = 0; i < STRESS_WORDS; i++)
		if (w[i] != word_of(seed, c, i))
			return false;
	return true;
}

/* What a page holds instead: one content all over, or several. */
static enum stress_class classify(struct stress_task *t, const struct stress_page *p, const uint64_t *w, char *found, size_t size)
{
	const struct stress_shared *s = t->s;
	uint32_t from, version, other_from, other_version;
	unsigned word, i;
	size_t n;

	if (!memcmp(w, zeros, STRESS_PAGE)) {
		snprintf(found, size, "zero");
		return STRESS_LOST_ZERO;
	}
	if (p->has_old && is_content(s->seed, &p->old, w)) {
		name_content(s, p->old.from, p->old.version, found, size);
		n = strlen(found);
		snprintf(found + n, size - n, ", which it held before");
		return STRESS_STALE;
	}
	if (!w[0] || !thaw_stress_decode(s->seed, w[0], &from, &version, &word) || word != 0) {
		for (i = 0; i < STRESS_WORDS - 1 && w[i] == w[0]; i++)
			;
		snprintf(found, size, "word 0 is %#llx%s, word %u is %#llx", (unsigned long long)w[0],
			 w[0] ? " (nothing of ours)" : "", i, (unsigned long long)w[i]);
		return STRESS_TORN;
	}
	for (i = 1; i < STRESS_WORDS && w[i] == thaw_stress_word(s->seed, from, version, i); i++)
		;
	name_content(s, from, version, found, size);
	n = strlen(found);
	if (i == STRESS_WORDS && p->holds != STRESS_ZERO && from == p->is.from && version < p->is.version) {
		snprintf(found + n, size - n, ", which it held before");
		return STRESS_STALE;
	}
	if (i == STRESS_WORDS)
		return STRESS_WRONG_PAGE;
	if (!w[i])
		snprintf(found + n, size - n, "; from word %u on zero", i);
	else if (thaw_stress_decode(s->seed, w[i], &other_from, &other_version, &word) && word == i) {
		n += snprintf(found + n, size - n, "; from word %u on ", i);
		name_content(s, other_from, other_version, found + n, size - n);
	} else
		snprintf(found + n, size - n, "; word %u is %#llx", i, (unsigned long long)w[i]);
	return STRESS_TORN;
}

void thaw_stress_check_bytes(struct stress_task *t, struct stress_page *p, uint64_t addr, const void *have)
{
	uint64_t w[STRESS_WORDS];
	char expected[256], found[256];
	enum stress_class class;

	memcpy(w, have, STRESS_PAGE);
	atomic_fetch_add_explicit(&t->s->pages_checked, 1, memory_order_relaxed);
	if (p->holds != STRESS_CONTENT && !memcmp(w, zeros, STRESS_PAGE)) {
		if (p->holds == STRESS_EITHER)
			thaw_stress_discard(p); /* once zero, it stays so */
		return;
	}
	if (p->holds != STRESS_ZERO && is_content(t->s->seed, &p->is, w))
		return;
	class = classify(t, p, w, found, sizeof(found));
	name_expected(t->s, p, expected, sizeof(expected));
	thaw_stress_violation(t, class, addr, expected, found, "%s", "");
}

void thaw_stress_check(struct stress_task *t, struct stress_arena *r, uint32_t page)
{
	void *at = thaw_stress_at(r, page);

	thaw_stress_touch(t, (uintptr_t)at);
	thaw_stress_check_bytes(t, &r->page[page], (uintptr_t)at, at);
}

void thaw_stress_check_range(struct stress_task *t, struct stress_arena *r, uint32_t page, uint32_t pages)
{
	for (uint32_t i = page; i < page + pages; i++)
		thaw_stress_check(t, r, i);
}

bool thaw_stress_is_fading(uint64_t seed, const struct stress_page *p, uint64_t addr, enum stress_class *class)
{
	const volatile uint64_t *w = (const volatile uint64_t *)(uintptr_t)addr;
	bool zero = p->holds == STRESS_ZERO;

	for (unsigned i = 0; i < STRESS_WORDS; i++) {
		uint64_t have = w[i];

		if (!have) {
			zero = true;
			continue;
		}
		if (have == word_of(seed, &p->is, i) && p->holds != STRESS_ZERO) {
			if (!zero)
				continue;
			*class = STRESS_STALE; /* it was gone, and is there again */
			return false;
		}
		*class = STRESS_WRONG_PAGE;
		return false;
	}
	return true;
}
