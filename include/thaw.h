/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* thaw.h - libthaw: post-copy restore of processes through userfaultfd.
 *
 * A tool that restores a process (it made the process, its mappings and its userfaultfd) hands the
 * userfaultfd over together with a description of where each page's content is. A monitor inside the
 * calling process then answers the process's page faults, follows its fork, mremap, madvise and munmap,
 * and copies the rest in the background, until every page is in or the process is gone.
 *
 * Errors     Functions return -1 (or NULL); thaw_get_error() and thaw_get_errno() of the same thread then tell.
 * Threads    Any thread may call anything, except that thaw_close() must be the last call on its handle.
 *            Set-up calls (thaw_set_*) are refused with EBUSY once thaw_start() has succeeded.
 * Callbacks  run on a monitor thread, with no lock held and under its system call filter: they must be short,
 *            and may call thaw_get_* and thaw_complete() but nothing that waits.
 * Structs    that cross the boundary begin with their size: set it to sizeof.
 */
#ifndef THAW_H
#define THAW_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define THAW_PUBLIC __attribute__((visibility("default")))

struct thaw;        /* a monitor: threads, spaces, settings */
struct thaw_source; /* where content comes from */

/* ---- errors and version ---------------------------------------------------------------------------------- */
THAW_PUBLIC const char *thaw_get_error(void);   /* this thread's last failure: "thaw_add_space: ..."; never NULL */
THAW_PUBLIC int thaw_get_errno(void);           /* and its errno; 0 if there is none */
THAW_PUBLIC const char *thaw_get_version(void); /* "0.1.0" */

/* ---- monitor --------------------------------------------------------------------------------------------- */
THAW_PUBLIC struct thaw *thaw_create(void);
THAW_PUBLIC void thaw_close(struct thaw *h); /* NULL is fine; stops, joins all threads, closes what it took */

enum thaw_background {
	THAW_BACKGROUND_RUN,      /* copy ahead at once */
	THAW_BACKGROUND_DELAYED,  /* copy ahead delay_ms after thaw_start() */
	THAW_BACKGROUND_STAY_LAZY /* only faults (and read-around) bring pages in */
};

enum thaw_io {
	THAW_IO_AUTO,  /* io_uring where the kernel and the container allow it, else the pool */
	THAW_IO_URING,
	THAW_IO_POOL   /* threads that call preadv(2) */
};

enum thaw_failure {
	THAW_FAILURE_WAIT,  /* a page whose content cannot be had keeps its readers waiting (default) */
	THAW_FAILURE_SIGBUS /* its readers get SIGBUS (UFFDIO_POISON, Linux 6.6); refused where the kernel lacks it */
};

THAW_PUBLIC int thaw_set_copiers(struct thaw *h, unsigned copiers);         /* 1..64 */
THAW_PUBLIC int thaw_set_readers(struct thaw *h, unsigned readers);         /* 1..16 */
THAW_PUBLIC int thaw_set_chunk(struct thaw *h, size_t bytes);               /* longest copy: 4 KiB..256 KiB, whole pages */
THAW_PUBLIC int thaw_set_background(struct thaw *h, enum thaw_background policy, unsigned delay_ms);
THAW_PUBLIC int thaw_set_read_around(struct thaw *h, unsigned pages);       /* 0..64 pages brought in beside a fault */
THAW_PUBLIC int thaw_set_spin(struct thaw *h, unsigned microseconds);       /* 0..200: a reader's spin after a fault */
THAW_PUBLIC int thaw_set_io(struct thaw *h, enum thaw_io io);
THAW_PUBLIC int thaw_set_failure(struct thaw *h, enum thaw_failure policy);
THAW_PUBLIC int thaw_set_sandbox(struct thaw *h, int on);                   /* system call filters: on by default */
/* The holder: a process that keeps every userfaultfd open when the monitor dies. On by default.
 * log_fd (-1: standard error) gets its one line when it has to speak; the library keeps its own duplicate. */
THAW_PUBLIC int thaw_set_holder(struct thaw *h, int on, int log_fd);

enum thaw_log_level { THAW_LOG_ERROR, THAW_LOG_WARNING, THAW_LOG_INFO, THAW_LOG_DEBUG };
typedef void thaw_log_fn(void *opaque, enum thaw_log_level level, const char *line);
THAW_PUBLIC int thaw_set_log(struct thaw *h, thaw_log_fn *fn, void *opaque, enum thaw_log_level most);

enum thaw_event {
	THAW_EVENT_FINISHED,    /* every page is in; the userfaultfd has been closed */
	THAW_EVENT_GONE,        /* the process has exited or called exec */
	THAW_EVENT_UNAVAILABLE, /* content of [address, address+length) could not be had: see error */
	THAW_EVENT_FORKED       /* a child's space has been made; child is its id */
};
struct thaw_event_info {
	size_t size;
	enum thaw_event event;
	int64_t space;
	int64_t child;
	uint64_t address, length;
	int error; /* errno */
};
typedef void thaw_event_fn(void *opaque, const struct thaw_event_info *info);
THAW_PUBLIC int thaw_set_event(struct thaw *h, thaw_event_fn *fn, void *opaque);

/* ---- sources --------------------------------------------------------------------------------------------- */
/* A source is made once, may serve several spaces, and lives until thaw_source_close() and the last of its spaces.
 * What can be checked is checked when it is made. NULL: thaw_get_errno() tells, besides ENOMEM and EMFILE: */

/* A directory of CRIU images (pagemap-PID.img, pages-N.img, and through the link `parent` those of earlier dumps).
 * dirfd stays the caller's. ENOENT: an image is missing; EBADMSG: one is corrupt, truncated or of another kind (the
 * sentence names the file and the byte); EPERM: directory or file could have been written by others than root
 * and the caller's user; ELOOP: parents in a circle, more than 64 of them, or an image that is a symbolic link; ENOTSUP:
 * pages that the dump did not store (criu dump --lazy-pages); EINVAL: no pid; EFBIG, EIO, EACCES: reading failed. */
THAW_PUBLIC struct thaw_source *thaw_source_images(int dirfd, int pid);

/* A plain file: run-time ranges and where they lie in it. Ranges must not overlap. fd stays the caller's (it is
 * duplicated; its content must not change while the source lives). EINVAL: no ranges, not whole pages, ranges that overlap,
 * go beyond the address space or the end of the file; EBADF: fd is not open for reading; ESPIPE: it is no file. */
struct thaw_memfile_range {
	uint64_t address, length, offset; /* bytes, whole pages */
};
THAW_PUBLIC struct thaw_source *thaw_source_memfile(int fd, const struct thaw_memfile_range *ranges, size_t n);

/* A function. It is asked for [address, address+length) (the checkpointed addresses, whole pages, at most 256 KiB) and
 * either fills buf and returns 0, or returns THAW_LATER and calls thaw_complete(request, ...) exactly once from any
 * thread (even before it returns), or returns a negative errno. buf is written by the tool until then only. EINVAL: no fn. */
struct thaw_request;
#define THAW_LATER 1
typedef int thaw_read_fn(void *opaque, uint64_t address, size_t length, void *buf, struct thaw_request *request);
THAW_PUBLIC struct thaw_source *thaw_source_callback(thaw_read_fn *fn, void *opaque);
THAW_PUBLIC void thaw_complete(struct thaw_request *request, int error); /* 0 or an errno; ends the request */

THAW_PUBLIC void thaw_source_close(struct thaw_source *s); /* drops the caller's reference; NULL is fine */

/* ---- spaces ---------------------------------------------------------------------------------------------- */
enum thaw_kind {
	THAW_KIND_ANON,   /* private anonymous memory */
	THAW_KIND_SHMEM,  /* refused (ENOTSUP): MADV_REMOVE and MADV_DONTNEED send the same message */
	THAW_KIND_HUGETLB /* refused (ENOTSUP) */
};
#define THAW_RANGE_WIPEONFORK (1u << 0) /* MADV_WIPEONFORK is set: zero in children */
#define THAW_RANGE_DONTFORK   (1u << 1) /* MADV_DONTFORK is set: absent in children */
struct thaw_range {
	uint64_t address, length; /* bytes, whole pages */
	enum thaw_kind kind;
	int prot;                 /* PROT_* of the mapping */
	unsigned flags;           /* THAW_RANGE_* */
};
struct thaw_space {
	size_t size;
	int uffd;                   /* non-blocking, UFFDIO_API done; taken over on success */
	int pidfd;                  /* duplicated; or -1, then pid (0: unknown) */
	int pid;
	struct thaw_source *source; /* a reference is taken */
	const struct thaw_range *ranges;
	size_t n_ranges;
	int register_ranges;        /* nonzero: the library registers the ranges (UFFDIO_REGISTER, MISSING) */
};
/* Returns the space's id (>= 1). Before or after thaw_start(). */
THAW_PUBLIC int64_t thaw_add_space(struct thaw *h, const struct thaw_space *space);

THAW_PUBLIC int thaw_start(struct thaw *h);
/* space 0: all of them. timeout_ms -1: for ever. 0: finished (or gone). -1 with ETIMEDOUT, ECANCELED after thaw_stop(). */
THAW_PUBLIC int thaw_wait(struct thaw *h, int64_t space, int timeout_ms);
/* Ends the threads. The userfaultfds stay open (and processes with absent pages waiting) until thaw_close(). */
THAW_PUBLIC int thaw_stop(struct thaw *h);

struct thaw_progress {
	size_t size;
	uint64_t bytes_total;   /* content that was there to place, children's included */
	uint64_t bytes_placed;
	uint64_t bytes_gone;    /* discarded by the process before it was needed */
	uint64_t spaces, spaces_done;
	uint64_t faults;
	uint64_t elapsed_ns;    /* since thaw_start() */
	uint64_t rate;          /* bytes per second, over the last second or so */
	uint64_t left_ns;       /* estimate; UINT64_MAX: unknown */
};
THAW_PUBLIC int thaw_get_progress(struct thaw *h, int64_t space, struct thaw_progress *p); /* space 0: all */

struct thaw_stats {
	size_t size;
	uint64_t faults;                                  /* messages read */
	uint64_t latency_count;                           /* of faults: read to page placed, nanoseconds */
	uint64_t latency_p50, latency_p90, latency_p99, latency_p999, latency_max;
	uint64_t pages_fault, pages_around, pages_background, pages_zero; /* placed, by cause */
	uint64_t pages_gone;
	uint64_t eagain, eexist, enoent, partial, esrch;  /* outcomes of the establishing ioctls */
	uint64_t events_fork, events_remap, events_remove, events_unmap;
	uint64_t bytes_placed, bytes_read;                /* read: brought in from the source by I/O */
	uint64_t io_errors;
	uint64_t rate_drain;                              /* bytes per second of the background copy while it ran */
	uint64_t first_ns, complete_ns;                   /* since thaw_start(): first page placed; last (0: not yet) */
	uint64_t state_bytes;                             /* the monitor's own state: maps and spaces */
	uint64_t staging_bytes;                           /* its bounded staging pool */
};
THAW_PUBLIC int thaw_get_stats(struct thaw *h, int64_t space, struct thaw_stats *s); /* space 0: all */

/* ---- userfaultfd help for tools --------------------------------------------------------------------------- */
/* A userfaultfd for the *calling* process's memory (call it in the process to be restored): /dev/userfaultfd, then
 * the system call; O_CLOEXEC and O_NONBLOCK; UFFDIO_API done with the four events. */
THAW_PUBLIC int thaw_uffd_open(void);
/* Can this kernel and user do it at all? 0, or -1 with the cause and the remedy in thaw_get_error(). */
THAW_PUBLIC int thaw_probe(void);

#ifdef __cplusplus
}
#endif
#endif
