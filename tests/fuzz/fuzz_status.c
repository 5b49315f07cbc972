// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_status.c - a status document of hostile bytes; what is taken can be shown in every form, and read again */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct thaw_status s, again;
	char *text;

	if (!thaw_status_from_json(&s, (const char *)data, size)) {
		free(thaw_status_to_prometheus(&s));
		free(thaw_status_to_text(&s, 0));
		free(thaw_status_to_text(&s, size % 12));
		text = thaw_status_to_json(&s, size & 1);
		if (text) {
			if (thaw_status_from_json(&again, text, strlen(text)))
				abort();
			thaw_status_free(&again);
		}
		free(text);
	}
	thaw_status_free(&s);
	return 0;
}
