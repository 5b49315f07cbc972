/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/crc32.h - the CRC-32 of IEEE 802.3, for files that are small.
 * Threads   any; pure */
#ifndef THAW_UTIL_CRC32_H
#define THAW_UTIL_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* crc: 0, or the result so far. */
uint32_t thaw_crc32(uint32_t crc, const void *buf, size_t len);

#endif
