// SPDX-License-Identifier: LGPL-2.1-or-later
/* fuzz/fuzz_handshake.c - the words of a restorer, in pieces of any size with descriptors at any place; against a reading of the whole
 *
 * Input: the number of tasks, then chunks: a byte of length (low five bits) and descriptors (high three), and its bytes. A chunk longer
 * than what is wanted is received in several steps, its descriptors with the first byte, as the kernel does. */
#include "config.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lazy/handshake.h"
#include "util/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s (%s)\n", what, thaw_err_text());
	abort();
}

/* ---- the slow way: the whole stream is known, byte by byte with its descriptors ------------------------------ */
struct told {
	int kind, pid;
};
#define MOST 4096
static struct told want[MOST], have[MOST];
static unsigned n_want, n_have;
static uint8_t stream[MOST];
static unsigned fds[MOST];
static size_t n_stream;

static int32_t word_at(size_t at)
{
	int32_t w;

	memcpy(&w, stream + at, 4);
	return w;
}

static unsigned fds_in(size_t at, size_t len)
{
	unsigned n = 0;

	for (size_t i = at; i < at + len; i++)
		n += fds[i];
	return n;
}

/* Whether all of it is right as far as it goes; what it says is in want[]. */
static int read_whole(unsigned tasks)
{
	size_t at = 0;

	n_want = 0;
	for (unsigned i = 0; i < tasks; i++) {
		int32_t pid;

		if (n_stream - at < 4)
			return !fds_in(at, n_stream - at);
		if (fds_in(at, 4))
			return 0;
		pid = word_at(at);
		at += 4;
		if (!pid || pid == INT32_MIN)
			return 0;
		if (pid < 0) {
			want[n_want++] = (struct told){ THAW_HANDSHAKE_ZOMBIE, -pid };
			continue;
		}
		if (at == n_stream)
			return 1;
		if (fds[at] != 1)
			return 0;
		at++;
		want[n_want++] = (struct told){ THAW_HANDSHAKE_TASK, pid };
	}
	if (n_stream - at < 4)
		return !fds_in(at, n_stream - at);
	if (fds_in(at, 4) || (uint32_t)word_at(at) != THAW_HANDSHAKE_END)
		return 0;
	want[n_want++] = (struct told){ THAW_HANDSHAKE_ALL, 0 };
	return 1;
}

/* ---- the module ----------------------------------------------------------------------------------------------- */
static int feed(struct thaw_handshake *h, const uint8_t *bytes, size_t len, unsigned n_fds)
{
	while (len) {
		size_t wants = thaw_handshake_wants(h), n = wants < len ? wants : len;
		int pid = 0, ret;

		if (!wants)
			return 0; /* what comes behind is not looked at */
		check(h->told <= h->tasks, "more tasks than there are");
		ret = thaw_handshake_take(h, bytes, n, n_fds, &pid);
		if (ret < 0) {
			check(*thaw_err_text(), "refused without a sentence");
			return ret;
		}
		check(ret == THAW_HANDSHAKE_MORE || n_have < MOST, "says more than there is");
		if (ret != THAW_HANDSHAKE_MORE)
			have[n_have++] = (struct told){ ret, pid };
		bytes += n;
		len -= n;
		n_fds = 0;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned tasks = size ? data[0] % 9 : 0;
	struct thaw_handshake h;
	int bad = 0, right;

	thaw_handshake_begin(&h, tasks);
	n_stream = n_have = 0;
	memset(fds, 0, sizeof(fds));
	for (size_t i = 1; i < size;) {
		size_t len = data[i] & 31;
		unsigned n = data[i] >> 5;

		i++;
		len = len < size - i ? len : size - i;
		if (!len)
			continue;
		if (n_stream + len > MOST)
			break;
		memcpy(stream + n_stream, data + i, len);
		fds[n_stream] = n;
		n_stream += len;
		if (!bad)
			bad = feed(&h, data + i, len, n);
		i += len;
	}
	right = read_whole(tasks);
	check(n_have <= n_want && !memcmp(have, want, n_have * sizeof(*have)), "said something else");
	check(right == !bad, "right and wrong");
	check(bad || n_have == n_want, "left something out");
	if (!bad)
		check((thaw_handshake_end(&h) == 0) == (h.at == THAW_HANDSHAKE_OVER), "an end");
	return 0;
}
