/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint/state.h - thaw.img, the state of the process beside its memory, as a file.
 *
 * File: "thawimg\n", then two records (Head, Process), each a little-endian 32-bit length, the CRC-32 of the payload, the
 * payload. Nothing behind.
 *
 * Threads   any
 * Errors    -errno with a sentence that names the file and the place in it */
#ifndef THAW_CHECKPOINT_STATE_H
#define THAW_CHECKPOINT_STATE_H

#include <stddef.h>
#include "checkpoint/state.pb-c.h"

#define THAW_STATE_FILE "thaw.img"
#define THAW_STATE_VERSION 2 /* 1 had no checksums of the other files: not read */
#define THAW_MAP_DROPPABLE 0x08 /* MAP_DROPPABLE, Linux 6.11 */

/* Makes the file in dirfd (mode 0600, must not exist) and fills it; the caller syncs. Returns its descriptor. */
int thaw_state_write(int dirfd, const ThawState__Head *head, const ThawState__Process *p);

/* Reads and checks it: nobody but its owner can write directory and file, and the owner is root or us; frame, checksum,
 * version. Free both with thaw_state_free. */
int thaw_state_load(int dirfd, ThawState__Head **head, ThawState__Process **p);
void thaw_state_free(ThawState__Head *head, ThawState__Process *p);

/* The kernel's name for the time since this machine was started (Head.boot_id); "" when it has none. */
void thaw_state_boot_id(char id[64]);

/* The payloads from a buffer: what thaw_state_load does once the file is in memory (and the fuzzer). */
int thaw_state_parse(const unsigned char *buf, size_t len, ThawState__Head **head, ThawState__Process **p);

#endif
