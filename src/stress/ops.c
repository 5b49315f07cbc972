// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/ops.c - the operations by name */
#include "config.h"
#include "stress/ops.h"

#include <string.h>

#define INFO(id, name, share, text) [STRESS_OP_##id] = { name, share, text },
const struct stress_kind_info thaw_stress_kinds[STRESS_KINDS] = { STRESS_OPS(INFO) };

int thaw_stress_kind_find(const char *name, unsigned len)
{
	for (int i = 0; i < STRESS_KINDS; i++)
		if (strlen(thaw_stress_kinds[i].name) == len && !memcmp(thaw_stress_kinds[i].name, name, len))
			return i;
	return -1;
}
