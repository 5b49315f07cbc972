// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/pace.c - what a copy costs whatever its length, and what each of its pages */
#include "config.h"
#include "engine/pace.h"

#define FEW 4               /* pages of a copy that tells what comes with every copy */
#define LATEST 32           /* copies of a kind, before older ones begin to count less */
#define LEAST 8             /* copies of a kind, before anything is concluded */
#define DISTURBED_NS 500000 /* the thread lost its CPU in between */
#define DEAR_NS 6000.0      /* on processors that do not trap there 1 to 3 us come with every copy */
#define DEAR_PAGES 8.0      /* both have to be: a slow machine has slow pages, too */
#define TIMES 4.0           /* then a copy is so long that a fifth of its time at most comes with every copy, */
#define MOST_PAGES 64.0     /* within reason */
#define SAMPLE 16           /* of so many long copies one is short, to see whether that is still so */

static void add(struct thaw_pace_sum *s, uint64_t pages, uint64_t ns)
{
	if (s->copies == LATEST) {
		s->copies /= 2;
		s->pages /= 2;
		s->ns /= 2;
	}
	s->copies++;
	s->pages += pages;
	s->ns += ns;
}

/* Through the averages of both kinds there is one line: what it says of no page at all, and of each page. */
static unsigned conclude(const struct thaw_pace_sum *few, const struct thaw_pace_sum *many)
{
	double x = (double)few->pages / few->copies, y = (double)few->ns / few->copies;
	double each = ((double)many->ns / many->copies - y) / ((double)many->pages / many->copies - x), every, pages;

	if (each < 0) /* by chance */
		each = 0;
	every = y - each * x;
	if (every < DEAR_NS || every < DEAR_PAGES * each)
		return 0;
	pages = each * MOST_PAGES < TIMES * every ? MOST_PAGES : TIMES * every / each;
	return (unsigned)pages;
}

void thaw_pace_saw(struct thaw_pace *p, uint64_t pages, uint64_t ns)
{
	if (ns >= DISTURBED_NS)
		return;
	add(pages <= FEW ? &p->few : &p->many, pages, ns);
	if (p->few.copies >= LEAST && p->many.copies >= LEAST)
		p->pages = conclude(&p->few, &p->many);
}

uint64_t thaw_pace_pages(struct thaw_pace *p, uint64_t few, uint64_t most)
{
	if (few < p->pages && ++p->turn % SAMPLE)
		few = p->pages;
	return few < most ? few : most;
}
