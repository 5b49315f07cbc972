// SPDX-License-Identifier: LGPL-2.1-or-later
/* lazy/handshake.c - the restorer's words, one state each */
#include "config.h"
#include "lazy/handshake.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "util/err.h"

void thaw_handshake_begin(struct thaw_handshake *h, size_t tasks)
{
	*h = (struct thaw_handshake){ .tasks = tasks, .at = tasks ? THAW_HANDSHAKE_PID : THAW_HANDSHAKE_WORD };
}

size_t thaw_handshake_wants(const struct thaw_handshake *h)
{
	switch (h->at) {
	case THAW_HANDSHAKE_PID:
	case THAW_HANDSHAKE_WORD:
		return sizeof(h->word) - h->have;
	case THAW_HANDSHAKE_FD:
		return 1;
	case THAW_HANDSHAKE_OVER:
		break;
	}
	return 0;
}

static void next_task(struct thaw_handshake *h)
{
	h->at = ++h->told == h->tasks ? THAW_HANDSHAKE_WORD : THAW_HANDSHAKE_PID;
}

static int take_pid(struct thaw_handshake *h, int32_t word, int *pid)
{
	if (!word || word == INT32_MIN)
		return thaw_err_set(-EPROTO, "the restorer sent %d as the process number of task %zu of %zu", word, h->told + 1,
				    h->tasks);
	if (word > 0) {
		h->pid = word;
		h->at = THAW_HANDSHAKE_FD;
		return THAW_HANDSHAKE_MORE;
	}
	*pid = -word;
	next_task(h);
	return THAW_HANDSHAKE_ZOMBIE;
}

static int take_end(struct thaw_handshake *h, uint32_t word)
{
	if (word != THAW_HANDSHAKE_END)
		return thaw_err_set(-EPROTO, "the restorer sent 0x%08x behind its %zu tasks, instead of the word 0x%08x that ends"
				    " the restore: is it another version's, or another tree's?", word, h->tasks,
				    THAW_HANDSHAKE_END);
	h->at = THAW_HANDSHAKE_OVER;
	return THAW_HANDSHAKE_ALL;
}

static int take_word(struct thaw_handshake *h, const void *bytes, size_t len, unsigned n_fds, int *pid)
{
	uint32_t word;

	if (n_fds)
		return thaw_err_set(-EPROTO, "the restorer sent %u descriptors with the %s, where none belongs", n_fds,
				    h->at == THAW_HANDSHAKE_PID ? "number of a process" : "word that ends the restore");
	memcpy(h->word + h->have, bytes, len);
	h->have += len;
	if (h->have < sizeof(h->word))
		return THAW_HANDSHAKE_MORE;
	h->have = 0;
	memcpy(&word, h->word, sizeof(word)); /* the byte order is the machine's */
	return h->at == THAW_HANDSHAKE_PID ? take_pid(h, (int32_t)word, pid) : take_end(h, word);
}

static int take_fd(struct thaw_handshake *h, unsigned n_fds, int *pid)
{
	if (n_fds != 1)
		return thaw_err_set(-EPROTO, n_fds ? "pid %d: the restorer sent %u descriptors instead of one userfaultfd" :
				    "pid %d: the restorer sent no userfaultfd", h->pid, n_fds);
	*pid = h->pid;
	next_task(h);
	return THAW_HANDSHAKE_TASK;
}

int thaw_handshake_take(struct thaw_handshake *h, const void *bytes, size_t len, unsigned n_fds, int *pid)
{
	if (!len || len > thaw_handshake_wants(h))
		return thaw_err_set(-EPROTO, "%zu bytes were received where %zu are wanted", len, thaw_handshake_wants(h));
	return h->at == THAW_HANDSHAKE_FD ? take_fd(h, n_fds, pid) : take_word(h, bytes, len, n_fds, pid);
}

int thaw_handshake_end(const struct thaw_handshake *h)
{
	if (h->at == THAW_HANDSHAKE_OVER)
		return 0;
	if (h->at == THAW_HANDSHAKE_FD)
		return thaw_err_set(-EPROTO, "the restorer closed the connection before the userfaultfd of pid %d: the restore has"
				    " failed, its log says why", h->pid);
	if (h->have)
		return thaw_err_set(-EPROTO, "the restorer closed the connection within a word of four bytes (%zu of %zu tasks are"
				    " here): the restore has failed, its log says why", h->told, h->tasks);
	if (h->at == THAW_HANDSHAKE_WORD)
		return thaw_err_set(-EPROTO, "the restorer closed the connection with all %zu tasks here, before they ran: the"
				    " restore has failed, its log says why", h->tasks);
	return thaw_err_set(-EPROTO, "the restorer closed the connection when %zu of %zu tasks were here: the restore has failed,"
			    " its log says why", h->told, h->tasks);
}
