// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_state.c - thaw.img of hostile bytes
 *
 * First byte odd: the rest is the file as it is. Even: a 16-bit length, the head's message and the process's, around
 * which right frames and checksums are put, since no fuzzer guesses a CRC. */
#include "config.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/state.h"
#include "util/crc32.h"
#include "util/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t frame(unsigned char *to, const uint8_t *payload, size_t len)
{
	uint32_t head[2] = { htole32((uint32_t)len), htole32(thaw_crc32(0, payload, len)) };

	memcpy(to, head, sizeof(head));
	memcpy(to + sizeof(head), payload, len);
	return sizeof(head) + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ThawState__Head *head;
	ThawState__Process *p;
	unsigned char *file;
	size_t len = 0;

	if (size < 3)
		return 0;
	file = malloc(size + 64);
	if (!file)
		return 0;
	if (data[0] & 1) {
		len = size - 1;
		memcpy(file, data + 1, len);
	} else {
		size_t first = (size_t)data[1] | (size_t)data[2] << 8;

		if (first > size - 3)
			first = size - 3;
		memcpy(file, "thawimg\n", 8);
		len = 8 + frame(file + 8, data + 3, first);
		len += frame(file + len, data + 3 + first, size - 3 - first);
	}
	thaw_err_clear();
	if (!thaw_state_parse(file, len, &head, &p)) {
		if (!head || !p || head->version != THAW_STATE_VERSION)
			abort();
		thaw_state_free(head, p);
	} else if (head || p || !strstr(thaw_err_text(), "thaw.img")) {
		fprintf(stderr, "refused without a sentence, or half\n");
		abort();
	}
	free(file);
	return 0;
}
