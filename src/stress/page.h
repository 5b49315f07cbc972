/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stress/page.h - content whose every word tells where it belongs.
 *
 * A word of 64 bits is a mixed (page, version, place in the page), and can be taken apart again: what is found in a page is named,
 * not just called wrong. A page is one of all restored processes' pages (32 bits), version 0 is the checkpoint's.
 *
 * Rule      pure functions of their arguments; used by the program and by its worker alike
 * Threads   any */
#ifndef THAW_STRESS_PAGE_H
#define THAW_STRESS_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRESS_PAGE 4096UL
#define STRESS_WORDS 512U
#define STRESS_VERSIONS (1U << 22)

uint64_t thaw_stress_mix(uint64_t x); /* a bijection */
uint64_t thaw_stress_random(uint64_t *state);

uint64_t thaw_stress_word(uint64_t seed, uint32_t page, uint32_t version, unsigned word);
void thaw_stress_fill(void *to, uint64_t seed, uint32_t page, uint32_t version);

/* The opposite of thaw_stress_word(). False: no word of ours. */
bool thaw_stress_decode(uint64_t seed, uint64_t value, uint32_t *page, uint32_t *version, unsigned *word);

#endif
