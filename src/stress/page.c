// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/page.c - the words of a page, mixed and taken apart */
#include "config.h"
#include "stress/page.h"

#define ODD1 0xbf58476d1ce4e5b9ULL
#define ODD2 0x94d049bb133111ebULL
#define STEP 0x9e3779b97f4a7c15ULL

uint64_t thaw_stress_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * ODD1;
	x = (x ^ (x >> 27)) * ODD2;
	return x ^ (x >> 31);
}

uint64_t thaw_stress_random(uint64_t *state)
{
	return thaw_stress_mix(*state += STEP);
}

/* x with x * odd = 1: each turn doubles the number of right bits. */
static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;

	for (int i = 0; i < 6; i++)
		x *= 2 - odd * x;
	return x;
}

static uint64_t unshift(uint64_t x, int by)
{
	uint64_t y = x;

	for (int done = by; done < 64; done += by)
		y = x ^ (y >> by);
	return y;
}

static uint64_t unmix(uint64_t x)
{
	x = unshift(x, 31) * inverse(ODD2);
	x = unshift(x, 27) * inverse(ODD1);
	return unshift(x, 30);
}

static uint64_t key(uint64_t seed)
{
	return thaw_stress_mix(seed + STEP);
}

/* Page, version, word and one bit that is always set, so that few numbers are words at all. */
static uint64_t label(uint32_t page, uint32_t version, unsigned word)
{
	return (uint64_t)page << 32 | (uint64_t)version << 10 | word << 1 | 1;
}

uint64_t thaw_stress_word(uint64_t seed, uint32_t page, uint32_t version, unsigned word)
{
	return thaw_stress_mix(label(page, version, word) ^ key(seed));
}

void thaw_stress_fill(void *to, uint64_t seed, uint32_t page, uint32_t version)
{
	uint64_t *w = to, k = key(seed);

	for (unsigned i = 0; i < STRESS_WORDS; i++)
		w[i] = thaw_stress_mix(label(page, version, i) ^ k);
}

bool thaw_stress_decode(uint64_t seed, uint64_t value, uint32_t *page, uint32_t *version, unsigned *word)
{
	uint64_t l = unmix(value) ^ key(seed);

	*page = l >> 32;
	*version = l >> 10 & (STRESS_VERSIONS - 1);
	*word = l >> 1 & (STRESS_WORDS - 1);
	return l & 1;
}
