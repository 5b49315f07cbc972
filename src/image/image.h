/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image/image.h - image files in CRIU's format: magic numbers, then records of a length and a protobuf message.
 *
 * Rule      what is read is not trusted: every length, order and sum is checked before it is used
 * Threads   any; a file belongs to its reader
 * Errors    -errno with a sentence that names the file and the byte: -EBADMSG corrupt or truncated, -EPERM others could
 *           have written it, -ENOTSUP a version or kind that is not read */
#ifndef THAW_IMAGE_IMAGE_H
#define THAW_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "image/image.pb-c.h"

#define THAW_IMAGE_INVENTORY_MAGIC 0x58313116u /* the one file without the common magic in front */
#define THAW_IMAGE_COMMON_MAGIC 0x54564319u
#define THAW_IMAGE_PSTREE_MAGIC 0x50273030u
#define THAW_IMAGE_PAGEMAP_MAGIC 0x56084025u
#define THAW_IMAGE_MM_MAGIC 0x57492820u

enum { THAW_PE_PARENT = 1, THAW_PE_LAZY = 2, THAW_PE_PRESENT = 4 };

/* Vma.status */
#define THAW_VMA_REGULAR (1u << 0)
#define THAW_VMA_STACK (1u << 1)
#define THAW_VMA_VSYSCALL (1u << 2)
#define THAW_VMA_VDSO (1u << 3)
#define THAW_VMA_HEAP (1u << 5)
#define THAW_VMA_FILE_PRIVATE (1u << 6)
#define THAW_VMA_FILE_SHARED (1u << 7)
#define THAW_VMA_ANON_SHARED (1u << 8)
#define THAW_VMA_ANON_PRIVATE (1u << 9)
#define THAW_VMA_SYSVIPC (1u << 10)
#define THAW_VMA_VVAR (1u << 12)
#define THAW_VMA_MEMFD (1u << 14)
#define THAW_VMA_GUARD (1u << 16)

/* What belongs to the user who has become root with sudo is read from now on, too. For a program that stands beside CRIU: what it reads
 * makes no process, criu restore has made it from the same images. Before threads are made. */
void thaw_image_trust_caller(void);
bool thaw_image_is_ours(uid_t uid); /* root's, the caller's own, or those */
/* Refuses (-EPERM) what others than these could have written, or made another's. */
int thaw_image_check_owner(int fd, const char *name);
/* Opens a regular file of the directory (never through a symbolic link) that nobody else can write. Returns the
 * descriptor. */
int thaw_image_open_file(int dirfd, const char *name);

/* ---- records ----------------------------------------------------------------------------------------------- */
struct thaw_image_file {
	char name[32];
	unsigned char *owned; /* the content when it was read from a file */
	const unsigned char *buf;
	size_t len;
	size_t at;            /* the next record */
	size_t record;        /* the last one: for sentences */
};

/* The whole file in memory, its magic checked. */
int thaw_image_load(struct thaw_image_file *f, int dirfd, const char *name, uint32_t magic);
/* The same over bytes that stay the caller's. */
int thaw_image_parse(struct thaw_image_file *f, const char *name, const void *buf, size_t len, uint32_t magic);
/* 1: *out is the next message (protobuf_c_message_free_unpacked), 0: the end, else -errno. A record longer than `most`
 * is refused before anything is made of it. */
int thaw_image_next(struct thaw_image_file *f, const ProtobufCMessageDescriptor *type, size_t most,
		    ProtobufCMessage **out);
void thaw_image_unload(struct thaw_image_file *f);

/* ---- what a process's images say ----------------------------------------------------------------------------- */
/* A run of pages of a pagemap: neighbours with the same flags are one run. */
struct thaw_image_run {
	uint64_t addr;
	uint64_t pages;
	uint64_t off;   /* in pages-N.img, bytes; only with THAW_PE_PRESENT */
	unsigned flags; /* THAW_PE_* */
};
struct thaw_image_pagemap {
	uint32_t pages_id;
	bool wide;            /* entries have field nr_pages: CRIU 4.2 or later */
	uint64_t file_pages;  /* how many pages pages-N.img holds */
	size_t n, room;
	struct thaw_image_run *run;
};
int thaw_image_pagemap_load(int dirfd, int pid, struct thaw_image_pagemap *pm);
int thaw_image_pagemap_parse(struct thaw_image_file *f, struct thaw_image_pagemap *pm);
void thaw_image_pagemap_free(struct thaw_image_pagemap *pm);

/* Mappings are checked: whole pages, in order, none over another. Free with thaw_image__mm__free_unpacked(mm, NULL). */
int thaw_image_mm_load(int dirfd, int pid, ThawImage__Mm **mm);
int thaw_image_mm_parse(struct thaw_image_file *f, ThawImage__Mm **mm);

/* ---- a directory ------------------------------------------------------------------------------------------- */
struct thaw_image_task {
	int pid, ppid, pgid, sid;
	unsigned threads;
};
struct thaw_image_index {
	unsigned version;
	size_t n;
	struct thaw_image_task *task;
};
/* inventory.img and pstree.img, and whether others could have written the directory. */
int thaw_image_index_load(int dirfd, struct thaw_image_index *index);
int thaw_image_inventory_parse(struct thaw_image_file *f, unsigned *version);
int thaw_image_pstree_parse(struct thaw_image_file *f, struct thaw_image_index *index);
void thaw_image_index_free(struct thaw_image_index *index);

#endif
