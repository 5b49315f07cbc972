// SPDX-License-Identifier: LGPL-2.1-or-later
/* proto/gets.c - wants, GETs and answers */
#include "config.h"
#include "proto/gets.h"

#include <errno.h>
#include <string.h>

#include "util/err.h"

#define PAGE 4096ULL
#define QUEUED_FEW (128ULL << 10)
#define QUEUED_MANY (512ULL << 10)
#define BASE_FOR_NS 5000000000ULL
#define SHY_FIRST_NS 200000000ULL
#define SHY_LAST_NS 10000000000ULL
#define SHY_URGENT_NS 1000000000ULL /* at most, if somebody sleeps on it: it may have been in its turn by chance */

/* ---- lists and bits ---------------------------------------------------------------------------------------- */
static void append(struct thaw_wants *l, struct thaw_want *w)
{
	w->next = NULL;
	w->prev = l->last;
	if (l->last)
		l->last->next = w;
	else
		l->first = w;
	l->last = w;
}

static void prepend(struct thaw_wants *l, struct thaw_want *w)
{
	w->prev = NULL;
	w->next = l->first;
	if (l->first)
		l->first->prev = w;
	else
		l->last = w;
	l->first = w;
}

static void take_out(struct thaw_wants *l, struct thaw_want *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		l->first = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		l->last = w->prev;
}

static struct thaw_wants *list_of(struct thaw_gets *g, const struct thaw_want *w)
{
	return w->urgent ? &g->urgent : &g->background;
}

static uint64_t bits(unsigned from, unsigned n)
{
	return (n >= 64 ? ~0ULL : (1ULL << n) - 1) << from;
}

/* The pages of w that lie in [addr, addr + pages) of the process, as bits. */
static uint64_t overlap(const struct thaw_want *w, uint64_t pid, uint64_t addr, uint64_t pages)
{
	uint64_t from = addr > w->addr ? addr : w->addr;
	uint64_t end = addr + pages * PAGE, own_end = w->addr + w->pages * PAGE;

	if (end > own_end)
		end = own_end;
	if (w->pid != pid || from >= end)
		return 0;
	return bits((unsigned)((from - w->addr) / PAGE), (unsigned)((end - from) / PAGE));
}

static struct thaw_get *head(struct thaw_gets *g)
{
	return &g->fifo[g->head];
}

static void mark_asked(struct thaw_gets *g, const struct thaw_get *get, unsigned from, bool asked)
{
	struct thaw_want *const first[] = { g->urgent.first, g->background.first };
	uint64_t addr = get->addr + from * PAGE, pages = get->pages - from;

	for (unsigned i = 0; i < 2; i++)
		for (struct thaw_want *w = first[i]; w; w = w->next) {
			uint64_t b = overlap(w, get->pid, addr, pages);

			w->asked = asked ? w->asked | b : w->asked & ~b;
		}
}

/* ---- wants ------------------------------------------------------------------------------------------------- */
void thaw_gets_init(struct thaw_gets *g)
{
	memset(g, 0, sizeof(*g));
	g->window = THAW_WINDOW_LEAST;
}

void thaw_gets_add(struct thaw_gets *g, struct thaw_want *w)
{
	w->have = w->asked = w->lost = w->shy = 0;
	w->error = 0;
	for (unsigned i = 0; i < g->n; i++) {
		const struct thaw_get *get = &g->fifo[(g->head + i) % THAW_GETS_MOST];
		uint64_t addr = get->addr, pages = get->pages;

		/* Of the answer that is coming in, what has not passed. What it will not bring is given free when it ends:
		 * asked for before that, it would be under way twice. */
		if (!i) {
			addr += g->reply_got / PAGE * PAGE;
			pages -= g->reply_got / PAGE;
		}
		w->asked |= overlap(w, get->pid, addr, pages);
	}
	if (w->asked)
		g->n_shared++;
	(w->soon ? prepend : append)(list_of(g, w), w);
	g->n_wants++;
}

static uint64_t needs(const struct thaw_want *w)
{
	return bits(0, w->pages) & ~(w->have | w->asked);
}

static struct thaw_want *first_needy(const struct thaw_wants *l)
{
	for (struct thaw_want *w = l->first; w; w = w->next)
		if (needs(w) & ~w->shy)
			return w;
	return NULL;
}

static struct thaw_want *first_shy(const struct thaw_wants *l)
{
	for (struct thaw_want *w = l->first; w; w = w->next)
		if (needs(w) & w->shy)
			return w;
	return NULL;
}

static uint64_t shy_wait(const struct thaw_gets *g)
{
	return g->shy_wait_ns > SHY_URGENT_NS && first_shy(&g->urgent) ? SHY_URGENT_NS : g->shy_wait_ns;
}

/* One whose turn it is to be tried again, before the others: it has waited. */
static struct thaw_want *take_shy(struct thaw_gets *g, uint64_t now_ns)
{
	struct thaw_want *w;

	if (!g->any_shy || now_ns < g->shy_next_ns)
		return NULL;
	w = first_shy(&g->urgent);
	if (!w)
		w = first_shy(&g->background);
	g->any_shy = w;
	g->shy_next_ns = now_ns + shy_wait(g);
	return w;
}

/* The first pages of w to be asked for at once: *from, and how many. */
static unsigned choose(const struct thaw_want *w, bool shy, unsigned *from)
{
	uint64_t need = needs(w) & (shy ? w->shy : ~w->shy);
	unsigned n;

	*from = (unsigned)__builtin_ctzll(need);
	if (shy || w->lost >> *from & 1)
		return 1;
	need = (need & ~w->lost) >> *from;
	n = need == ~0ULL ? 64 : (unsigned)__builtin_ctzll(~need);
	return !w->urgent && n > THAW_GET_PAGES ? THAW_GET_PAGES : n;
}

bool thaw_gets_next(struct thaw_gets *g, uint64_t now_ns, struct thaw_frame *f)
{
	struct thaw_want *w;
	struct thaw_get *get;
	unsigned from, n;
	bool shy;

	if (g->n == THAW_GETS_MOST)
		return false;
	w = take_shy(g, now_ns);
	shy = w;
	if (!w)
		w = first_needy(&g->urgent);
	if (!w && g->background_bytes && g->background_bytes + THAW_GET_PAGES * PAGE > g->window)
		return false;
	if (!w)
		w = first_needy(&g->background);
	if (!w)
		return false;
	n = choose(w, shy, &from);
	get = &g->fifo[(g->head + g->n++) % THAW_GETS_MOST];
	*get = (struct thaw_get){ w, w->pid, w->addr + from * PAGE, n, w->urgent, false, now_ns };
	mark_asked(g, get, 0, true);
	if (!w->urgent) {
		g->background_bytes += n * PAGE;
		get->limited = g->background_bytes + THAW_GET_PAGES * PAGE > g->window;
	}
	g->n_gets++;
	*f = (struct thaw_frame){ THAW_FRAME_GET, 0, n, get->addr, get->pid };
	return true;
}

/* ---- answers ----------------------------------------------------------------------------------------------- */
int thaw_gets_reply(struct thaw_gets *g, const struct thaw_frame *f)
{
	const struct thaw_get *get = head(g);

	if (!g->n)
		return thaw_err_set(-EPROTO, "it sent something that nobody had asked for (command %#x)", f->command);
	if (f->command != THAW_FRAME_ADD_F || !(f->flags & THAW_FRAME_PRESENT))
		return thaw_err_set(-EPROTO, "it answered with command %#x, flags %#x instead of pages", f->command, f->flags);
	if (f->addr != get->addr || f->id != get->pid)
		return thaw_err_set(-EPROTO, "asked for %#lx of process %lu, it answered with %#lx of process %lu", get->addr,
				    get->pid, f->addr, f->id);
	if (!f->pages || f->pages > get->pages)
		return thaw_err_set(-EPROTO, "asked for %u pages at %#lx of process %lu, it answered with %lu", get->pages,
				    get->addr, get->pid, f->pages);
	g->reply_bytes = f->pages * PAGE;
	g->reply_got = 0;
	return 0;
}

size_t thaw_gets_room(const struct thaw_gets *g, unsigned char **at)
{
	const struct thaw_get *get = &g->fifo[g->head];

	*at = get->want->buf + (get->addr - get->want->addr) + g->reply_got;
	return g->reply_bytes - g->reply_got;
}

static void hand_out(struct thaw_gets *g, struct thaw_want *w, uint64_t addr, const unsigned char *page)
{
	uint64_t bit = 1ULL << (addr - w->addr) / PAGE;
	unsigned char *to = w->buf + (addr - w->addr);

	if (w->have & bit)
		return;
	if (to != page)
		memcpy(to, page, PAGE);
	w->have |= bit;
	w->asked &= ~bit;
	if (w->shy & bit) /* it can be had again, and so may be the others */
		g->shy_wait_ns = g->shy_next_ns = 0;
	if (w->have != bits(0, w->pages))
		return;
	take_out(list_of(g, w), w);
	g->n_wants--;
	append(&g->done, w);
}

static void page_came(struct thaw_gets *g, struct thaw_want *owner, uint64_t pid, uint64_t addr, const unsigned char *page)
{
	struct thaw_want *const first[] = { g->urgent.first, g->background.first };

	for (unsigned i = 0; i < 2; i++)
		for (struct thaw_want *w = first[i], *next; w; w = next) {
			next = w->next;
			if (w != owner && overlap(w, pid, addr, 1))
				hand_out(g, w, addr, page);
		}
	hand_out(g, owner, addr, page); /* last: it may be done with this, and its buffer another's */
}

/* The quickest answer of the last seconds is what the way takes when nothing is queued on it. */
static void note_time(struct thaw_gets *g, uint64_t took, uint64_t now_ns)
{
	if (!g->base_ns || took < g->base_ns)
		g->base_ns = took;
	if (now_ns - g->base_since_ns > BASE_FOR_NS) {
		g->base_old_ns = g->base_ns;
		g->base_ns = took;
		g->base_since_ns = now_ns;
	}
}

/* What is under way beyond what the way itself holds stands in a queue, in front of whatever is urgent. */
static void adapt(struct thaw_gets *g, const struct thaw_get *get, uint64_t now_ns)
{
	uint64_t took = now_ns > get->sent_ns ? now_ns - get->sent_ns : 1, base, queued;

	note_time(g, took, now_ns);
	base = g->base_old_ns && g->base_old_ns < g->base_ns ? g->base_old_ns : g->base_ns;
	queued = (uint64_t)((double)g->window * (double)(took - base) / (double)took);
	if (queued < QUEUED_FEW && get->limited)
		g->window += get->pages * PAGE;
	else if (queued > QUEUED_MANY)
		g->window -= get->pages * PAGE / 2;
	if (g->window < THAW_WINDOW_LEAST)
		g->window = THAW_WINDOW_LEAST;
	if (g->window > THAW_WINDOW_MOST)
		g->window = THAW_WINDOW_MOST;
}

static void note_rtt(struct thaw_gets *g, const struct thaw_get *get, uint64_t now_ns)
{
	uint64_t took = now_ns > get->sent_ns ? now_ns - get->sent_ns : 1;

	if (g->rtt_urgent && !get->urgent)
		return;
	if (!g->rtt_ns || g->rtt_urgent != get->urgent)
		g->rtt_ns = took;
	else
		g->rtt_ns = g->rtt_ns - g->rtt_ns / 8 + took / 8;
	g->rtt_urgent = get->urgent;
}

static void reply_ends(struct thaw_gets *g, uint64_t now_ns)
{
	struct thaw_get get = *head(g);
	unsigned came = (unsigned)(g->reply_bytes / PAGE);

	g->head = (g->head + 1) % THAW_GETS_MOST;
	g->n--;
	g->reply_bytes = g->reply_got = 0;
	note_rtt(g, &get, now_ns);
	if (!get.urgent) {
		g->background_bytes -= get.pages * PAGE;
		adapt(g, &get, now_ns);
	}
	if (came < get.pages) {
		g->n_short++;
		mark_asked(g, &get, came, false);
	}
}

void thaw_gets_filled(struct thaw_gets *g, size_t bytes, uint64_t now_ns)
{
	const struct thaw_get *get = head(g);
	struct thaw_want *owner = get->want;
	const unsigned char *buf = owner->buf + (get->addr - owner->addr);
	uint64_t before = g->reply_got / PAGE, after, addr = get->addr, pid = get->pid;
	bool ends;

	g->reply_got += bytes;
	g->bytes += bytes;
	after = g->reply_got / PAGE;
	ends = g->reply_got == g->reply_bytes;
	if (ends) /* first: the last page may end the want, which nothing under way may point to then */
		reply_ends(g, now_ns);
	for (uint64_t i = before; i < after; i++)
		page_came(g, owner, pid, addr + i * PAGE, buf + i * PAGE);
}

struct thaw_want *thaw_gets_pop(struct thaw_gets *g)
{
	struct thaw_want *w = g->done.first;

	if (w)
		take_out(&g->done, w);
	return w;
}

/* ---- when it goes wrong ------------------------------------------------------------------------------------ */
/* What was to come next may be why it was lost: the rest of the GET that was being answered. */
static void note_loss(struct thaw_gets *g, uint64_t now_ns)
{
	const struct thaw_get *get = head(g);
	unsigned came = (unsigned)(g->reply_got / PAGE), n = get->pages - came;
	struct thaw_want *w = get->want;
	uint64_t b = bits((unsigned)((get->addr - w->addr) / PAGE) + came, n) & ~w->have;

	if (n > 1 || !(w->lost & b)) {
		w->lost |= b;
		return;
	}
	w->shy |= b;
	g->any_shy = true;
	g->shy_wait_ns = g->shy_wait_ns ? g->shy_wait_ns * 2 : SHY_FIRST_NS;
	if (g->shy_wait_ns > SHY_LAST_NS)
		g->shy_wait_ns = SHY_LAST_NS;
	g->shy_next_ns = now_ns + shy_wait(g);
}

void thaw_gets_reset(struct thaw_gets *g, uint64_t now_ns)
{
	struct thaw_want *const first[] = { g->urgent.first, g->background.first };

	for (unsigned i = 0; i < 2; i++)
		for (struct thaw_want *w = first[i]; w; w = w->next) {
			w->asked = 0;
			g->any_shy |= w->shy != 0; /* it may have been under way */
		}
	if (g->n) /* now that nothing counts as asked for: it looks at who needs a shy page */
		note_loss(g, now_ns);
	g->head = g->n = 0;
	g->background_bytes = g->reply_bytes = g->reply_got = 0;
	g->window = THAW_WINDOW_LEAST;
	g->base_ns = g->base_old_ns = g->base_since_ns = 0;
}

void thaw_gets_fail(struct thaw_gets *g, int error, bool all)
{
	struct thaw_wants *const lists[] = { &g->urgent, &g->background };
	struct thaw_want *w;

	for (unsigned i = 0; i < (all ? 2 : 1); i++)
		while ((w = lists[i]->first)) {
			take_out(lists[i], w);
			g->n_wants--;
			w->error = error;
			append(&g->done, w);
		}
}

uint64_t thaw_gets_missing(const struct thaw_gets *g)
{
	struct thaw_want *const first[] = { g->urgent.first, g->background.first };
	uint64_t pages = 0;

	for (unsigned i = 0; i < 2; i++)
		for (const struct thaw_want *w = first[i]; w; w = w->next)
			pages += (uint64_t)__builtin_popcountll(bits(0, w->pages) & ~w->have);
	return pages;
}
