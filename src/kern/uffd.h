/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/uffd.h - userfaultfd: the calls, and what their answers mean.
 * Rule      no call here logs or retries; an expected answer is an outcome, not an error
 * Threads   any; the kernel synchronises
 * Errors    functions returning int: -errno, with a sentence where the cause is for the user (open) */
#ifndef THAW_KERN_UFFD_H
#define THAW_KERN_UFFD_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/userfaultfd.h>

/* ABI newer than Debian 12's headers (6.1). */
#ifndef UFFD_FEATURE_POISON /* Linux 6.6 */
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef _UFFDIO_POISON
#define _UFFDIO_POISON (0x08)
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif
#ifndef USERFAULTFD_IOC_NEW /* Linux 6.1 */
#define USERFAULTFD_IOC 0xAA
#define USERFAULTFD_IOC_NEW _IO(USERFAULTFD_IOC, 0x00)
#endif

/* Numbered messages: a kernel patched with the series in contrib/kernel. uffd_msg's bytes 4 to 7 are the number of an event; a
 * fill's mode can demand that no event has been raised since a number (else EAGAIN, also where it retakes its locks). */
#ifndef UFFD_FEATURE_EVENT_SEQ
#define UFFD_FEATURE_EVENT_SEQ (1ULL << 30)
#define UFFDIO_MODE_MATCH_SEQ (1ULL << 31)
#define UFFDIO_MODE_SEQ(n) ((__u64)(n) << 32)
#endif

#define THAW_UFFD_EVENTS \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

enum thaw_outcome {
	THAW_PLACED,   /* all of it */
	THAW_PARTIAL,  /* `done` bytes; ask again behind them for the reason */
	THAW_CHANGING, /* EAGAIN: an event is pending or its thread has not run yet; look up again after an X */
	THAW_PRESENT,  /* EEXIST: the first page is there; nobody was woken */
	THAW_NO_VMA,   /* ENOENT: not within one registered VMA; nobody was woken */
	THAW_DEAD,     /* ESRCH: the mm is gone */
	THAW_NO_MEMORY,/* ENOMEM: memcg or page table; EINTR: a signal that ends us. May pass */
	THAW_BROKEN    /* anything else; the errno is in `error` */
};
struct thaw_fill {
	enum thaw_outcome outcome;
	uint64_t done; /* bytes placed */
	int error;     /* positive errno, 0 for THAW_PLACED */
};

/* A userfaultfd of the calling process: /dev/userfaultfd first, then the system call; O_CLOEXEC|O_NONBLOCK;
 * UFFDIO_API done. `features`: wanted; missing ones are an error with a sentence. *kernel_features (or NULL): all that
 * the kernel has. Returns the descriptor. (The public thaw_uffd_open() asks for THAW_UFFD_EVENTS.) */
int thaw_uffd_open_features(uint64_t features, uint64_t *kernel_features);

/* The two ways one by one, for the probe: a bare descriptor (no UFFDIO_API yet) or -errno, no sentence. */
int thaw_uffd_open_node(void);
int thaw_uffd_open_call(void);
/* Linux older than 6.1 (mmap_changing is a bool there): -EOPNOTSUPP with a sentence. */
int thaw_uffd_check_release(void);

/* Does this kernel number its messages? Found by trying, once; false also when no userfaultfd can be had. */
bool thaw_uffd_has_numbers(void);

/* Does the kernel tell of a mremap() that shrinks while it moves with the length from before (6.1 and 6.12 do, 6.18 does not)?
 * Found out once, by trying, which makes a thread: not below a filter. Where it cannot be tried it is taken from the release. */
bool thaw_uffd_tells_old_length(void);
/* Up to 6.14 a close with anything registered may never end, beside a thread that the kernel faults in for: engine/areas.h. */
bool thaw_uffd_close_can_spin(void);
uint32_t thaw_uffd_number(const struct uffd_msg *msg);
/* The demand that `number` is the last one given: for the calls with `match`, whose 0 is no demand. */
static inline uint64_t thaw_uffd_match(uint32_t number)
{
	return UFFDIO_MODE_MATCH_SEQ | UFFDIO_MODE_SEQ(number);
}
/* From fdinfo: the last number given, the events that are raised and not over, those of them not read yet. -errno, or -ENODATA where
 * the kernel does not number. */
int thaw_uffd_events(int uffd, uint32_t *last, unsigned *raised, unsigned *queued);

bool thaw_uffd_is_one(int fd); /* a userfaultfd, or something else */
int thaw_uffd_register(int uffd, uint64_t addr, uint64_t len); /* MISSING */
/* Memory that is registered so watches writes, too, from now on: only UNREGISTER ends it. As no page is protected, none is held up. */
int thaw_uffd_watch_writes(int uffd, uint64_t addr, uint64_t len);
struct thaw_fill thaw_uffd_copy(int uffd, uint64_t dst, const void *src, uint64_t len, bool wake);
struct thaw_fill thaw_uffd_copy_match(int uffd, uint64_t dst, const void *src, uint64_t len, bool wake, uint64_t match);
struct thaw_fill thaw_uffd_zero(int uffd, uint64_t dst, uint64_t len);   /* UFFDIO_ZEROPAGE, wakes */
struct thaw_fill thaw_uffd_zero_match(int uffd, uint64_t dst, uint64_t len, uint64_t match);
struct thaw_fill thaw_uffd_poison(int uffd, uint64_t dst, uint64_t len);
int thaw_uffd_unregister(int uffd, uint64_t addr, uint64_t len); /* never of a part: it splits the mapping */
int thaw_uffd_wake(int uffd, uint64_t addr, uint64_t len);
/* Non-blocking read of whole messages: bytes read, 0 when nothing is there, else -errno. X only. */
int thaw_uffd_read(int uffd, struct uffd_msg *msgs, unsigned n);
/* Is the page in a registered mapping? THAW_PRESENT: yes; THAW_NO_VMA: no; THAW_CHANGING, THAW_DEAD as above. Kernels
 * from 6.9 on may answer THAW_NO_VMA while something is changing: thaw_uffd_probe() behind it tells. Changes nothing. */
enum thaw_outcome thaw_uffd_is_registered(int uffd, uint64_t addr);
/* Is the mm alive? THAW_NO_VMA: alive; THAW_CHANGING: alive, event pending; THAW_DEAD: gone. */
enum thaw_outcome thaw_uffd_probe(int uffd);
enum thaw_outcome thaw_uffd_probe_match(int uffd, uint64_t match);

#endif
