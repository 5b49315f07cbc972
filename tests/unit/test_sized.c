// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/unit/test_sized.c - structures of programs older and newer than the library */
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "util/sized.h"

struct first { /* the first release's */
	size_t size;
	uint32_t a, b;
};
struct now {
	size_t size;
	uint32_t a, b;
	uint64_t later;
};
struct newer {
	size_t size;
	uint32_t a, b;
	uint64_t later, unknown;
};
#define LEAST THAW_SIZED_UPTO(struct now, b)

Test(sized, taken)
{
	struct first f = { sizeof(f), 1, 2 };
	struct now n = { sizeof(n), 3, 4, 5 }, own;
	struct newer w = { sizeof(w), 6, 7, 8, 0 };

	memset(&own, 0xee, sizeof(own));
	cr_assert_eq(thaw_sized_take(&own, sizeof(own), LEAST, &f, "f"), 0);
	cr_expect(own.size == sizeof(own) && own.a == 1 && own.b == 2 && own.later == 0);
	cr_assert_eq(thaw_sized_take(&own, sizeof(own), LEAST, &n, "n"), 0);
	cr_expect(own.size == sizeof(own) && own.a == 3 && own.b == 4 && own.later == 5);
	cr_assert_eq(thaw_sized_take(&own, sizeof(own), LEAST, &w, "w"), 0);
	cr_expect(own.size == sizeof(own) && own.a == 6 && own.b == 7 && own.later == 8);
	w.unknown = 1ULL << 63;
	cr_expect_eq(thaw_sized_take(&own, sizeof(own), LEAST, &w, "w"), -EINVAL);
}

Test(sized, no_size_at_all)
{
	struct now n = { 0 }, own;

	for (n.size = 0; n.size < LEAST; n.size++)
		cr_expect_eq(thaw_sized_take(&own, sizeof(own), LEAST, &n, "n"), -EINVAL);
	n.size = SIZE_MAX;
	cr_expect_eq(thaw_sized_take(&own, sizeof(own), LEAST, &n, "n"), -EINVAL);
	n.size = 4097;
	cr_expect_eq(thaw_sized_check(n.size, LEAST, "n"), -EINVAL);
}

Test(sized, given)
{
	struct now own = { 0, 1, 2, 3 };
	struct { struct first f; uint64_t behind; } f = { { sizeof(f.f), 0, 0 }, 77 };
	struct newer w = { sizeof(w), 0, 0, 0, 99 };

	thaw_sized_give(&f, &own, sizeof(own));
	cr_expect(f.f.size == sizeof(f.f) && f.f.a == 1 && f.f.b == 2 && f.behind == 77);
	thaw_sized_give(&w, &own, sizeof(own));
	cr_expect(w.size == sizeof(w) && w.a == 1 && w.b == 2 && w.later == 3 && w.unknown == 0);
}
