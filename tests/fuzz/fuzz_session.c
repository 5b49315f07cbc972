// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_session.c - the server of the page-server protocol: hostile bytes, in pieces of any size
 *
 * First byte: the layout that is given or guessed, that of the images, the size of pieces. Whatever comes out of it is a request for a
 * page that there is, or the end; and bytes in other pieces say the same. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/session.h"
#include "util/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s (%s)\n", what, thaw_err_text());
	abort();
}

static bool find(void *opaque, uint64_t id, uint64_t addr)
{
	return id && id < 100000 && addr >= 0x10000 && addr < 0x7fff00000000;
}

static uint64_t run(const uint8_t *data, size_t size, unsigned how, unsigned piece)
{
	static const enum thaw_frame_layout layouts[] = { THAW_FRAME_UNKNOWN, THAW_FRAME_OLD, THAW_FRAME_NEW, THAW_FRAME_UNKNOWN };
	struct thaw_session s;
	uint64_t sum = 0;

	thaw_session_init(&s, layouts[how & 3], how & 4 ? THAW_FRAME_OLD : THAW_FRAME_NEW, find, NULL);
	while (size) {
		unsigned char *at;
		size_t room = thaw_session_room(&s, &at), n = room < piece ? room : piece;
		struct thaw_frame f;
		int got;

		check(room && room <= THAW_FRAME_MOST && at >= s.buf && at + room <= s.buf + sizeof(s.buf), "no room");
		n = n > size ? size : n;
		memcpy(at, data, n);
		data += n;
		size -= n;
		thaw_err_clear();
		got = thaw_session_filled(&s, n, &f);
		if (!got)
			continue;
		if (got < 0) {
			check(*thaw_err_text(), "refused without a sentence");
			return sum + 1;
		}
		check(s.layout == THAW_FRAME_OLD || s.layout == THAW_FRAME_NEW, "a request in no layout");
		check(f.command == THAW_FRAME_CLOSE || f.command == THAW_FRAME_FORCE_CLOSE ||
		      (f.command == THAW_FRAME_GET && f.pages && !(f.addr & 4095) && find(NULL, f.id, f.addr)), "a request for nothing");
		sum = sum * 31 + f.addr + f.pages * 3 + f.id * 5 + f.command;
	}
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t whole;

	if (!size)
		return 0;
	whole = run(data + 1, size - 1, data[0], 1000);
	check(whole == run(data + 1, size - 1, data[0], 1 + (data[0] >> 3)), "other pieces say something else");
	return 0;
}
