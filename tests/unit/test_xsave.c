// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_xsave.c - extended state of another CPU is put only where this one looks for it: else it is refused by name */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "checkpoint/xsave.h"
#include "util/err.h"

#define BIT(n) (1ULL << (n))

/* A server of each make: AVX-512 and protection keys. */
static const struct thaw_xsave_layout intel = {
	.xcr0 = BIT(0) | BIT(1) | BIT(2) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(17) | BIT(18),
	.state = { [2] = { 576, 256 }, [5] = { 1088, 64 }, [6] = { 1152, 512 }, [7] = { 1664, 1024 }, [9] = { 2688, 8 },
		   [17] = { 2752, 64 }, [18] = { 2816, 8192 } },
};
static const struct thaw_xsave_layout amd = {
	.xcr0 = BIT(0) | BIT(1) | BIT(2) | BIT(5) | BIT(6) | BIT(7) | BIT(9),
	.state = { [2] = { 576, 256 }, [5] = { 832, 64 }, [6] = { 896, 512 }, [7] = { 1408, 1024 }, [9] = { 2432, 8 } },
};

static void expect(uint64_t in_use, const struct thaw_xsave_layout *then, const struct thaw_xsave_layout *now, const char *sentence)
{
	int err = thaw_xsave_compare(4711, in_use, then, now);

	if (!sentence) {
		cr_expect_eq(err, 0, "%s", thaw_err_text());
		return;
	}
	cr_expect_eq(err, -ENOTSUP);
	cr_expect(strstr(thaw_err_text(), "thread 4711") && strstr(thaw_err_text(), sentence), "%s", thaw_err_text());
}

Test(xsave, same)
{
	expect(intel.xcr0, &intel, &intel, NULL);
	expect(amd.xcr0, &amd, &amd, NULL);
}

Test(xsave, elsewhere)
{
	expect(BIT(0) | BIT(1) | BIT(2), &intel, &amd, NULL); /* where AVX is, is the same everywhere */
	expect(BIT(0) | BIT(2) | BIT(5), &intel, &amd, "state 5 (AVX-512 masks), which this CPU stores elsewhere (64 bytes at 832 instead "
	       "of 64 at 1088)");
	expect(BIT(9), &amd, &intel, "state 9 (protection keys), which this CPU stores elsewhere");
}

Test(xsave, missing)
{
	expect(BIT(1) | BIT(18), &intel, &amd, "state 18 (AMX tiles), which this CPU does not have");
	expect(BIT(40), &intel, &intel, "state 40");
}

Test(xsave, other_size)
{
	struct thaw_xsave_layout now = intel;

	now.state[18].size = 4096;
	expect(BIT(18), &intel, &now, "4096 bytes at 2816 instead of 8192");
}

/* What an image says is what this CPU says; and a thread of such an image is refused when it is not. */
Test(xsave, image)
{
	ThawState__Process p = THAW_STATE__PROCESS__INIT;
	ThawState__Thread t = THAW_STATE__THREAD__INIT, *threads[1] = { &t };
	ThawState__Head h = THAW_STATE__HEAD__INIT;
	unsigned char area[576] = { 0 };
	struct thaw_xsave_layout here;

	thaw_xsave_here(&here);
	thaw_xsave_to_state(&h);
	cr_assert(h.has_xcr0 && h.xcr0 == here.xcr0);
	if (!(here.xcr0 & BIT(2)))
		cr_skip_test("a CPU without AVX");
	cr_assert_eq(h.cpu_states[0]->number, 2);
	cr_assert_eq(h.cpu_states[0]->offset, 576);
	cr_assert_eq(h.cpu_states[0]->size, 256);
	t.tid = 4711;
	t.xsave = (ProtobufCBinaryData){ sizeof(area), area };
	area[THAW_XSAVE_IN_USE] = 7;
	p.threads = threads;
	p.n_threads = 1;
	cr_expect_eq(thaw_xsave_check(&h, &p), 0, "%s", thaw_err_text());
	h.cpu_states[0]->offset = 832;
	cr_expect_eq(thaw_xsave_check(&h, &p), -ENOTSUP);
	area[THAW_XSAVE_IN_USE] = 3; /* not used: wherever it may be */
	cr_expect_eq(thaw_xsave_check(&h, &p), 0, "%s", thaw_err_text());
	area[THAW_XSAVE_IN_USE] = 7;
	h.has_xcr0 = 0; /* an image from before */
	cr_expect_eq(thaw_xsave_check(&h, &p), 0, "%s", thaw_err_text());
	h.has_xcr0 = 1;
	h.cpu_states[0]->number = 64;
	cr_expect_eq(thaw_xsave_check(&h, &p), -EBADMSG);
}
