// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/xsave.c - layouts of the xsave area: found out, kept in the image, compared */
#include "config.h"
#include "checkpoint/xsave.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/dump.h"
#include "util/err.h"

#define FIRST 2
#define STATES 63           /* bit 63 of XCR0 extends it */
#define LEAF_XSAVE 0xd
#define OSXSAVE (1u << 27)  /* leaf 1, ecx: xgetbv is allowed */
#define SUPERVISOR 1u       /* leaf 0xd, ecx: not in this format */

static const char *const names[] = {
	[2] = "AVX registers", [3] = "MPX bounds", [4] = "MPX configuration", [5] = "AVX-512 masks", [6] = "upper halves of AVX-512",
	[7] = "further AVX-512 registers", [9] = "protection keys", [17] = "AMX configuration", [18] = "AMX tiles",
	[19] = "APX registers",
};

static uint64_t read_xcr0(void)
{
	uint32_t low, high, a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

void thaw_xsave_here(struct thaw_xsave_layout *l)
{
	uint32_t a, b, c, d;

	memset(l, 0, sizeof(*l));
	l->xcr0 = read_xcr0();
	for (unsigned i = FIRST; i < STATES; i++) {
		if (!(l->xcr0 >> i & 1) || !__get_cpuid_count(LEAF_XSAVE, i, &a, &b, &c, &d) || c & SUPERVISOR)
			continue;
		l->state[i].offset = b;
		l->state[i].size = a;
	}
}

int thaw_xsave_compare(pid_t tid, uint64_t in_use, const struct thaw_xsave_layout *then, const struct thaw_xsave_layout *now)
{
	for (unsigned i = FIRST; i < STATES; i++) {
		const char *name = i < sizeof(names) / sizeof(names[0]) && names[i] ? names[i] : "registers without a name here";

		if (!(in_use >> i & 1))
			continue;
		if (!now->state[i].size)
			return thaw_err_set(-ENOTSUP, "thread %d: uses CPU state %u (%s), which this CPU does not have: restore it on a "
					    "CPU that does", tid, i, name);
		if (then->state[i].offset != now->state[i].offset || then->state[i].size != now->state[i].size)
			return thaw_err_set(-ENOTSUP, "thread %d: uses CPU state %u (%s), which this CPU stores elsewhere (%u bytes at %u "
					    "instead of %u at %u): restore it on a CPU of the same kind", tid, i, name, now->state[i].size,
					    now->state[i].offset, then->state[i].size, then->state[i].offset);
	}
	return 0;
}

void thaw_xsave_to_state(ThawState__Head *h)
{
	struct thaw_xsave_layout l;

	thaw_xsave_here(&l);
	h->has_xcr0 = l.xcr0 != 0;
	h->xcr0 = l.xcr0;
	for (unsigned i = FIRST; i < STATES; i++) {
		ThawState__CpuState *m;

		if (!l.state[i].size)
			continue;
		m = thaw_dump_alloc(sizeof(*m));
		thaw_state__cpu_state__init(m);
		m->number = i;
		m->offset = l.state[i].offset;
		m->size = l.state[i].size;
		h->cpu_states = thaw_dump_grow(h->cpu_states, h->n_cpu_states, sizeof(*h->cpu_states));
		h->cpu_states[h->n_cpu_states++] = m;
	}
}

int thaw_xsave_check(const ThawState__Head *h, const ThawState__Process *p)
{
	struct thaw_xsave_layout then = { .xcr0 = h->xcr0 }, now;
	int err = 0;

	if (!h->has_xcr0)
		return 0; /* what is missing altogether the kernel refuses */
	for (size_t i = 0; i < h->n_cpu_states; i++) {
		if (h->cpu_states[i]->number >= STATES)
			return thaw_err_set(-EBADMSG, "thaw.img: CPU state %u", h->cpu_states[i]->number);
		then.state[h->cpu_states[i]->number].offset = h->cpu_states[i]->offset;
		then.state[h->cpu_states[i]->number].size = h->cpu_states[i]->size;
	}
	thaw_xsave_here(&now);
	for (size_t i = 0; i < p->n_threads && !err; i++) {
		uint64_t in_use;

		memcpy(&in_use, p->threads[i]->xsave.data + THAW_XSAVE_IN_USE, sizeof(in_use));
		err = thaw_xsave_compare(p->threads[i]->tid, in_use, &then, &now);
	}
	return err;
}
