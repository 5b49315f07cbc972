/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lazy/handshake.h - what a restorer says on lazy-pages.socket, byte by byte.
 *
 * For each task of the tree, in any order: its pid as in the images (int32); for a positive one then a byte that carries the
 * task's userfaultfd; a negative one is a zombie, and has no memory. Then one word that says that all mappings are
 * registered and that user code is about to run. What comes behind that is not looked at.
 *
 * Rule      pure: no descriptor is touched here. The caller receives as many bytes as wanted, never more: a descriptor
 *           belongs to the byte that it came with
 * Threads   owned by its session
 * Errors    -EPROTO with a sentence; the state is of no use then */
#ifndef THAW_LAZY_HANDSHAKE_H
#define THAW_LAZY_HANDSHAKE_H

#include <stddef.h>
#include <stdint.h>

#define THAW_HANDSHAKE_END 0x52535446u

enum thaw_handshake_at {
	THAW_HANDSHAKE_PID, /* 4 bytes, none of them with a descriptor */
	THAW_HANDSHAKE_FD,  /* 1 byte with exactly one descriptor */
	THAW_HANDSHAKE_WORD, /* 4 bytes */
	THAW_HANDSHAKE_OVER
};

struct thaw_handshake {
	enum thaw_handshake_at at;
	size_t tasks, told; /* how many there are in the images; how many have been told */
	unsigned have;      /* bytes of the word that is coming in */
	unsigned char word[4];
	int pid;            /* the one that is being told */
};

enum thaw_handshake_told {
	THAW_HANDSHAKE_MORE,   /* nothing whole yet */
	THAW_HANDSHAKE_TASK,   /* pid; the descriptor that came is its userfaultfd */
	THAW_HANDSHAKE_ZOMBIE, /* pid */
	THAW_HANDSHAKE_ALL     /* all mappings are registered */
};

void thaw_handshake_begin(struct thaw_handshake *h, size_t tasks);
/* How many bytes may be received next; 0: none is expected any more. */
size_t thaw_handshake_wants(const struct thaw_handshake *h);
/* len bytes (at most what is wanted) with n_fds descriptors have come. Returns enum thaw_handshake_told (*pid set where it
 * says so), or -EPROTO. */
int thaw_handshake_take(struct thaw_handshake *h, const void *bytes, size_t len, unsigned n_fds, int *pid);
/* The stream has ended: 0 when it may, or -EPROTO with a sentence that says in which step. */
int thaw_handshake_end(const struct thaw_handshake *h);

#endif
