// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/pace.c - what a copy costs whatever its length, and what each of its pages */
#include "config.h"
#include "engine/pace.h"

#define FEW 4      /* pages of a copy that tells what comes with every copy */
#define SAMPLE 16  /* of so many copies one has */
#define SAMPLED 2  /* pages, whatever the others have: left to chance, nothing might show that things have changed */
#define LATEST 128 /* copies of a kind, before older ones begin to count less */
#define LEAST 64   /* copies of a kind, before anything is concluded */

/* What one counts as at most. A page that the host has to find takes 100 to 200 us, a thread that has lost its CPU more: one of those
 * in thirty short copies decides nothing. */
#define MOST_FEW_NS 50000
#define MOST_MANY_NS 200000

#define DEAR_NS 6000.0      /* on processors that do not trap there 1 to 3 us come with every copy */
#define DEAR_PAGES 8.0      /* both have to be: a slow machine has slow pages, too */
#define TIMES 8.0           /* what comes with every copy is a ninth of a copy then, */
#define MOST_PAGES 64.0     /* unless it would be longer than this, */
#define LONGEST_NS 100000.0 /* or last longer: that is what a fault may have to wait for */

static void add(struct thaw_pace_sum *s, uint64_t pages, uint64_t ns, uint64_t most_ns)
{
	if (s->copies == LATEST) {
		s->copies /= 2;
		s->pages /= 2;
		s->ns /= 2;
	}
	s->copies++;
	s->pages += pages;
	s->ns += ns < most_ns ? ns : most_ns;
}

static double least_of(double a, double b)
{
	return a < b ? a : b;
}

/* Through the averages of both kinds there is one line: what it says of no page at all, and of each page. */
static unsigned conclude(const struct thaw_pace_sum *few, const struct thaw_pace_sum *many, bool was_dear)
{
	double part = was_dear ? 0.5 : 1; /* of the limits, to go back: who is at one of them stays on one side of it */
	double x = (double)few->pages / few->copies, y = (double)few->ns / few->copies;
	double each = ((double)many->ns / many->copies - y) / ((double)many->pages / many->copies - x), every, pages = MOST_PAGES;

	if (each < 1) /* ns. By chance: a trap weighs more than the pages by which they differ */
		each = 1;
	every = y - each * x;
	if (every < part * DEAR_NS || every < part * DEAR_PAGES * each)
		return 0;
	pages = least_of(pages, TIMES * every / each);
	pages = least_of(pages, (LONGEST_NS - every) / each);
	return (unsigned)pages;
}

void thaw_pace_saw(struct thaw_pace *p, uint64_t pages, uint64_t ns)
{
	p->turn++; /* copies, not questions: one may be asked for in vain */
	if (pages <= FEW)
		add(&p->few, pages, ns, MOST_FEW_NS);
	else
		add(&p->many, pages, ns, MOST_MANY_NS);
	if (p->few.copies >= LEAST && p->many.copies >= LEAST)
		p->pages = conclude(&p->few, &p->many, p->pages);
}

uint64_t thaw_pace_pages(const struct thaw_pace *p, uint64_t pages, uint64_t most)
{
	if (p->turn % SAMPLE == SAMPLE - 1)
		pages = SAMPLED;
	else if (pages < p->pages)
		pages = p->pages;
	return pages < most ? pages : most;
}
