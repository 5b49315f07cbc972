/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* thaw.h - libthaw: post-copy restore of processes through userfaultfd.
 *
 * A tool that restores a process (it made the process, its mappings and its userfaultfd) hands the
 * userfaultfd over together with a description of where each page's content is. A monitor inside the
 * calling process then answers the process's page faults, follows its fork, mremap, madvise and munmap,
 * and copies the rest in the background, until every page is in or the process is gone.
 *
 * Errors     Functions return -1 (or NULL); thaw_get_error() and thaw_get_errno() of the same thread then tell. Each
 *            function lists the errnos that it can give; an error of the kernel that is not listed comes as EIO, with
 *            the kernel's words in the sentence. EINVAL: an argument is NULL or out of its range (every function).
 * Threads    Any thread may call anything, except that thaw_close() must be the last call on its handle.
 *            Set-up calls (thaw_set_*) are refused with EBUSY once thaw_start() has been called.
 * Callbacks  run on a monitor thread, with no lock held and under its system call filter: they must be short,
 *            and may call thaw_get_* and thaw_complete() but nothing that waits. Several may run at once.
 * Signals    The monitor's threads block all signals but SIGSYS, whose handler is the library's while filters are on.
 * Structs    that cross the boundary begin with their size: set it to sizeof. A later library takes that of an earlier header, and
 *            what is new in it is as before. An earlier library takes that of a later header if what it does not know is 0
 *            (else EINVAL), and makes it 0 in what it fills. A struct that the library passes to a callback may be longer than
 *            the header's, never shorter. Elements of arrays do not grow.
 * Memory     Pages are 4096 bytes; addresses, lengths and offsets are bytes, whole pages.
 * Kernel     Linux 6.1 or later on x86-64; what needs a later one says so.
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
/* This thread's last failure, in a sentence that begins with the call: "thaw_add_space: ...". Never NULL; valid until the
 * next failure in this thread. A call that succeeds leaves it as it is. */
THAW_PUBLIC const char *thaw_get_error(void);
THAW_PUBLIC int thaw_get_errno(void);           /* and its errno, positive; 0 if nothing has failed in this thread */
THAW_PUBLIC const char *thaw_get_version(void); /* "0.1.0"; static */

/* ---- monitor --------------------------------------------------------------------------------------------- */
/* A monitor without spaces or threads. It takes two descriptors. NULL: ENOMEM, EMFILE, ENFILE. */
THAW_PUBLIC struct thaw *thaw_create(void);

/* Stops the monitor, joins its threads, closes what it took (userfaultfds, duplicates of pidfds), frees h. NULL is fine.
 * A userfaultfd whose process still lives and has memory absent is *not* closed, since the process would read zeros: the
 * log names the process, which waits at its next absent page; end it before. The holder, if on, then stays too.
 * Requests of a callback source that are still with the application may be completed after it. */
THAW_PUBLIC void thaw_close(struct thaw *h);

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

/* All of these: 0, or -1 with EINVAL (outside the range named) or EBUSY (after thaw_start()). */

/* Threads that copy ahead: 1..64; default 2, with one or two CPUs 1. They run at nice 5. */
THAW_PUBLIC int thaw_set_copiers(struct thaw *h, unsigned copiers);
/* Threads that read messages and serve faults: 1..16; default 1. More help when many processes fault at once. */
THAW_PUBLIC int thaw_set_readers(struct thaw *h, unsigned readers);
/* The longest single copy in bytes, whole pages: 4 KiB..256 KiB (default). It bounds how long a fault or an madvise() of
 * the process waits for a copy; while faults arrive, copies are at most 32 KiB anyway, unless a copy costs much whatever its length. */
THAW_PUBLIC int thaw_set_chunk(struct thaw *h, size_t bytes);
/* When memory is copied ahead; default RUN. delay_ms: milliseconds after thaw_start(), for DELAYED only. */
THAW_PUBLIC int thaw_set_background(struct thaw *h, enum thaw_background policy, unsigned delay_ms);
/* Pages brought in beside a fault at most, when memory is used in order or read from a disk, or by the pointers in it where pointers
 * are being followed (then 5 at most): 0..64; default 16. */
THAW_PUBLIC int thaw_set_read_around(struct thaw *h, unsigned pages);
/* For how many microseconds a reader looks for the next fault before it sleeps: 0..200; default 50. */
THAW_PUBLIC int thaw_set_spin(struct thaw *h, unsigned microseconds);
/* How content that is not in memory is read; default AUTO. URING fails in thaw_start() where it may not be used. */
THAW_PUBLIC int thaw_set_io(struct thaw *h, enum thaw_io io);
/* What becomes of readers of content that cannot be had; default WAIT: they are tried again, 1 to 16 seconds apart.
 * SIGBUS: ENOTSUP where the kernel has no UFFDIO_POISON (Linux 6.6), which is asked of a userfaultfd: also what thaw_uffd_open()
 * gives where none can be had. Nobody is ever given a zero instead. */
THAW_PUBLIC int thaw_set_failure(struct thaw *h, enum thaw_failure policy);
/* System call filters (seccomp) on the monitor's threads and the holder: nonzero on (default), 0 off. A call that is not
 * allowed ends the process by SIGSYS, after a line on standard error that names thread and call. The calling thread has none. */
THAW_PUBLIC int thaw_set_sandbox(struct thaw *h, int on);
/* Numbered messages, where the kernel has them (the patches in contrib/kernel): nonzero use them (default), 0 as on any other kernel. They
 * tell the order of changes (all but that of discards), and pages are placed without excluding the reader. Without them nothing changes.
 * It holds for all spaces, whenever they were added. This one and thaw_set_failure(): EBUSY also after a start that failed. */
THAW_PUBLIC int thaw_set_numbering(struct thaw *h, int on);
/* The holder: a process that shares the descriptor table and keeps every userfaultfd open when the monitor dies, so
 * that the processes wait instead of reading zeros. on: nonzero (default) or 0. log_fd (-1: standard error) gets its one
 * line when it has to speak; the library keeps a duplicate of its own. Also EBADF, EMFILE. */
THAW_PUBLIC int thaw_set_holder(struct thaw *h, int on, int log_fd);

enum thaw_log_level { THAW_LOG_ERROR, THAW_LOG_WARNING, THAW_LOG_INFO, THAW_LOG_DEBUG };
/* line: no newline at its end; valid during the call. Several threads may call at once; the function may write(2). */
typedef void thaw_log_fn(void *opaque, enum thaw_log_level level, const char *line);
/* Where lines up to level `most` go; default, and with fn NULL: nowhere. The library never writes to standard error
 * itself, but for the last words of a filter or of the holder. 0, or -1 with EINVAL, EBUSY. */
THAW_PUBLIC int thaw_set_log(struct thaw *h, thaw_log_fn *fn, void *opaque, enum thaw_log_level most);

enum thaw_event {
	THAW_EVENT_FINISHED,    /* every page is in; the userfaultfd has been closed */
	THAW_EVENT_GONE,        /* the process has exited or called exec; the userfaultfd has been closed */
	THAW_EVENT_UNAVAILABLE, /* content of [address, address+length) could not be had: see error */
	THAW_EVENT_FORKED,      /* a child's space has been made; child is its id */
	THAW_EVENT_UNREGISTERED /* [address, address+length) was never registered: its content is lost to the process */
};
struct thaw_event_info {
	size_t size;
	enum thaw_event event;
	int64_t space;            /* whose it is */
	int64_t child;            /* FORKED only */
	uint64_t address, length; /* UNAVAILABLE, UNREGISTERED: bytes, at the process's addresses of now */
	int error;                /* UNAVAILABLE only: positive errno; ENODATA: the file ends before, EBADMSG: a wrong checksum */
};
/* info is valid during the call. FINISHED or GONE comes exactly once for each space, UNAVAILABLE once for each run,
 * UNREGISTERED once for each mapping. */
typedef void thaw_event_fn(void *opaque, const struct thaw_event_info *info);
/* fn NULL (default): nobody is told. 0, or -1 with EINVAL, EBUSY. */
THAW_PUBLIC int thaw_set_event(struct thaw *h, thaw_event_fn *fn, void *opaque);

/* ---- sources --------------------------------------------------------------------------------------------- */
/* A source is made once, may serve several spaces, and lives until thaw_source_close() and the last of its spaces.
 * What can be checked is checked when it is made. NULL: thaw_get_errno() tells, besides ENOMEM and EMFILE: */

/* A directory of CRIU images (pagemap-PID.img, pages-N.img, and through the link `parent` those of earlier dumps).
 * dirfd stays the caller's. Where there is a pages-N.sum.img (thaw checkpoint makes it), pages are compared with it
 * before they are placed; one that does not match is content that cannot be had (EBADMSG).
 * ENOENT: an image is missing; EBADMSG: one is corrupt, truncated, of another kind or another dump (the
 * sentence names the file and the byte); EPERM: directory or file could have been written by others than root
 * and the caller's user; ELOOP: parents in a circle, more than 64 of them, or an image that is a symbolic link; ENOTSUP:
 * pages that the dump did not store (criu dump --lazy-pages); EINVAL: no pid; EFBIG, EIO, EACCES: reading failed. */
THAW_PUBLIC struct thaw_source *thaw_source_images(int dirfd, int pid);

/* A plain file: run-time ranges and where they lie in it. Ranges must not overlap. fd stays the caller's (it is
 * duplicated; its content must not change while the source lives). EINVAL: no ranges, not whole pages, ranges that overlap,
 * go beyond the address space or the end of the file; EBADF: fd is not open for reading; ESPIPE: it is no file. */
struct thaw_memfile_range { /* an array's element: stays as it is for good */
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

/* ---- pages of a page server ------------------------------------------------------------------------------- */
/* A connection to a page server (thaw page-server, criu page-server --lazy-pages, criu dump --lazy-pages), shared by the sources of
 * all processes of a restore. It has a thread of its own, which asks for many pages at once, those that somebody sleeps on
 * first. When the connection is lost, whoever needs a page waits, and never reads a zero; it is made again, and what was
 * under way is asked for again. Until thaw_pageserver_finish() the connection is never ended in a way that means "all is done": it
 * is reset, whatever this process ends by, so that a source resumes its processes instead of killing them; and it
 * is left open as long as a holder keeps processes here waiting. */
struct thaw_pageserver;
enum thaw_pageserver_state {
	THAW_PAGESERVER_CONNECTED,
	THAW_PAGESERVER_LOST,   /* being made again */
	THAW_PAGESERVER_FAILED, /* given up: the time is over (without fail_reads it is tried on, and may be found again), the socket was
				 * inherited, or answers make no sense */
	THAW_PAGESERVER_CLOSED  /* the end was told */
};
struct thaw_pageserver_event {
	size_t size;
	enum thaw_pageserver_state state, previous;
	int error;       /* positive errno; 0: none */
	const char *why; /* a sentence */
};
/* On the connection's thread; e is valid during the call. */
typedef void thaw_pageserver_fn(void *opaque, const struct thaw_pageserver_event *e);
struct thaw_pageserver_options {
	size_t size;
	const char *address;   /* a name or a number, IPv4 or IPv6; all that a name stands for are tried */
	int port;
	int socket;            /* -1, or a connected socket instead: taken over on success. It cannot be made again */
	int protocol;          /* 24 or 32: bytes of a header (CRIU up to 4.1; since 4.2). 0: the images tell */
	int reconnect_timeout; /* seconds that it may be lost, or answer nothing, before it counts as lost; 0: for ever */
	int fail_reads;        /* when given up, reads of those who sleep fail (THAW_FAILURE_SIGBUS); else they wait on */
	int tls;               /* nonzero: TLS, both sides with certificates, in PEM files; NULL: where CRIU has them */
	const char *tls_cacert, *tls_cacrl, *tls_cert, *tls_key;
	int tls_no_cn_verify;  /* the certificate may be for another name than `address` */
	int no_sandbox;        /* no system call filter on the thread */
	thaw_log_fn *log;      /* may be NULL */
	void *log_opaque;
	enum thaw_log_level log_most;
	thaw_pageserver_fn *changed; /* may be NULL */
	void *opaque;
};
/* Connects: names are resolved and files read now, not later. NULL: EINVAL, ENOENT (no such name or file), ENOMEM, EMFILE,
 * ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ECONNRESET, ETIMEDOUT, EACCES (a certificate is refused), EPROTO (no TLS),
 * EBADF (socket), EAGAIN (no thread), EPERM, EIO. */
THAW_PUBLIC struct thaw_pageserver *thaw_pageserver_open(const struct thaw_pageserver_options *options);

/* Only lazy pages have content, the rest is restored by others (criu restore). Else all of the images has. */
#define THAW_PAGESERVER_LAZY_ONLY (1u << 0)
/* The memory of process pid of a directory of images, with its lazy pages at the page server (whether they lie here or not) and
 * parents in files. NULL: as thaw_source_images(), and EBADMSG when images of both protocols meet at one connection. */
THAW_PUBLIC struct thaw_source *thaw_source_pageserver(struct thaw_pageserver *ps, int dirfd, int pid, unsigned flags);

/* All pages are in: tells the page server so, and waits for its answer; a source ends its processes then. timeout_ms -1: for ever. 0,
 * or -1 with ENOTCONN (lost before), ETIMEDOUT, EIO: the source may have resumed its processes. */
THAW_PUBLIC int thaw_pageserver_finish(struct thaw_pageserver *ps, int timeout_ms);

/* Ends the connection (by a reset, without finish) and its thread; requests under way end with ECANCELED, so close the monitor
 * before. Sources may be closed later. NULL is fine. */
THAW_PUBLIC void thaw_pageserver_close(struct thaw_pageserver *ps);

struct thaw_pageserver_stats {
	size_t size;
	enum thaw_pageserver_state state;
	uint64_t since_ns;        /* CLOCK_MONOTONIC: connected, or lost, since */
	uint64_t bytes;           /* of pages that came */
	uint64_t gets;            /* requests sent */
	uint64_t in_flight, in_flight_bytes; /* requests without an answer; bytes of those that nobody sleeps on */
	uint64_t window;          /* the most of the latter */
	uint64_t waiting;         /* reads of the monitor that are not complete */
	uint64_t missing_pages;   /* of those */
	uint64_t rtt_ns;          /* smoothed time from request to answer; 0: none yet */
	uint64_t short_answers;
	uint64_t shared;          /* reads that found some of their pages under way already */
	uint64_t lost;            /* how often the connection was */
	uint64_t silent_since_ns; /* CLOCK_MONOTONIC: connected, and an answer is due since, for ten seconds or more; 0: not so */
};
THAW_PUBLIC int thaw_pageserver_get_stats(struct thaw_pageserver *ps, struct thaw_pageserver_stats *s); /* 0, or -1: EINVAL */

THAW_PUBLIC void thaw_source_close(struct thaw_source *s); /* drops the caller's reference; NULL is fine */

/* ---- spaces ---------------------------------------------------------------------------------------------- */
enum thaw_kind {
	THAW_KIND_ANON,   /* private anonymous memory */
	THAW_KIND_SHMEM,  /* refused (ENOTSUP): MADV_REMOVE and MADV_DONTNEED send the same message */
	THAW_KIND_HUGETLB /* refused (ENOTSUP) */
};
#define THAW_RANGE_WIPEONFORK (1u << 0) /* MADV_WIPEONFORK is set: zero in children */
#define THAW_RANGE_DONTFORK   (1u << 1) /* MADV_DONTFORK is set: absent in children */
struct thaw_range { /* an array's element: stays as it is for good */
	uint64_t address, length; /* bytes, whole pages */
	enum thaw_kind kind;
	int prot;                 /* PROT_* of the mapping */
	unsigned flags;           /* THAW_RANGE_* */
};
struct thaw_space {
	size_t size;
	int uffd;                   /* non-blocking, UFFDIO_API done with the four events: see thaw_uffd_open(). Taken over on
				     * success. The process must not keep it open: the library ends by closing it */
	int pidfd;                  /* of the process; duplicated. Or -1, then pid */
	int pid;                    /* 0: unknown, its end is then seen within a quarter of a second */
	struct thaw_source *source; /* a reference is taken */
	const struct thaw_range *ranges; /* not overlapping, in any order; copied */
	size_t n_ranges;            /* at least 1 */
	int register_ranges;        /* nonzero: the library registers the ranges (UFFDIO_REGISTER, MISSING) */
	int registers_later;        /* nonzero: somebody else registers them, and is not done: see thaw_space_registered() */
};
/* A process whose memory is to be brought in. Content of the source that lies in no range is ignored; what lies in a range
 * without content reads as zero. Returns the space's id (>= 1; a forked child gets the next free one), before or
 * after thaw_start(). EBADF (uffd, pidfd), EINVAL (also: not a userfaultfd, blocking, without the events, a range that
 * cannot be registered), EBUSY (a range is registered with another userfaultfd), EPERM (a range may not be registered), ENOTSUP
 * (kind), EEXIST (the source describes a page twice; the userfaultfd, or what it is a duplicate of, is that of a space that has
 * not ended), ESRCH (the process is gone), ECANCELED (after thaw_stop()), EMFILE, ENOMEM. After a failure
 * uffd is the caller's as before, and what of the ranges was not registered with it is not now. */
THAW_PUBLIC int64_t thaw_add_space(struct thaw *h, const struct thaw_space *space);

/* What was added with registers_later has been registered now, mapping by mapping as in its ranges: of one space and its
 * children, or (0) of all. Until then faults are served, a page that cannot be placed because its mapping is not
 * registered is no page lost, nothing is copied ahead and the space does not finish. Then content in mappings that turn out
 * not to be registered is told (UNREGISTERED) and given up, and the background copy begins (a delay counts from here). 0, or
 * -1 with EINVAL, ENOENT (no such space), ECANCELED (after thaw_stop()). */
THAW_PUBLIC int thaw_space_registered(struct thaw *h, int64_t space);

/* Starts the holder, then the threads, each under its filter when this returns. Raises the soft RLIMIT_NOFILE to the hard
 * one: each forked child brings a descriptor. Once a handle. 0, or -1 with EBUSY (started before), ENOTSUP (a kernel older than
 * 6.1), ENOSYS, EPERM or EACCES (io_uring asked for and not to be had; filters), EAGAIN (no thread), EMFILE, ENFILE, ENOMEM; then
 * nothing runs and it may be called again. */
THAW_PUBLIC int thaw_start(struct thaw *h);

/* Until a space (0: all there are, children included) is finished or gone. timeout_ms: milliseconds, -1: for ever. Any
 * number of threads may wait. 0, or -1 with ETIMEDOUT, ECANCELED (thaw_stop()), ENOENT (no such space). */
THAW_PUBLIC int thaw_wait(struct thaw *h, int64_t space, int timeout_ms);

/* Ends the threads, and returns when there are none, also beside another thread's thaw_stop(). The userfaultfds stay open, and
 * processes with absent pages waiting. For good: a stopped monitor is not started again. 0 (also when stopped already), or
 * -1 with EINVAL (never started). Not from a callback. */
THAW_PUBLIC int thaw_stop(struct thaw *h);

struct thaw_progress {
	size_t size;
	uint64_t bytes_total;   /* content that was there to place, children's included (but not what one inherited and never had) */
	uint64_t bytes_placed;  /* of it, what is in. Never runs backwards; placed + gone <= total, equal when all is done */
	uint64_t bytes_gone;    /* discarded by the process before it was needed */
	uint64_t spaces, spaces_done; /* children included */
	uint64_t faults;        /* messages read */
	uint64_t elapsed_ns;    /* since thaw_start(), until all was done */
	uint64_t rate;          /* bytes per second, over the last second or so */
	uint64_t left_ns;       /* estimate; UINT64_MAX: unknown */
};
/* A snapshot, of one space or (0) of all, at any time. 0, or -1 with EINVAL (also: p->size), ENOENT (no such space; a
 * child's that has ended counts in the sum of all only), ENOMEM. */
THAW_PUBLIC int thaw_get_progress(struct thaw *h, int64_t space, struct thaw_progress *p);

struct thaw_stats {
	size_t size;
	uint64_t faults;                                  /* messages read */
	uint64_t latency_count;                           /* of faults: read to page placed, nanoseconds */
	uint64_t latency_p50, latency_p90, latency_p99, latency_p999; /* within 1/32 */
	uint64_t latency_max;
	uint64_t pages_fault, pages_around, pages_background, pages_zero; /* placed, by cause */
	uint64_t pages_gone;
	uint64_t eagain, eexist, enoent, partial, esrch;  /* outcomes of the establishing ioctls */
	uint64_t events_fork, events_remap, events_remove, events_unmap;
	uint64_t bytes_placed;                            /* pages_fault, _around, _background and _found, as in progress */
	uint64_t bytes_read;                              /* brought in from the source by I/O */
	uint64_t io_errors;
	uint64_t rate_drain;                              /* bytes per second of the background copy while it ran */
	uint64_t first_ns, complete_ns;                   /* since thaw_start(): first page placed; last (0: not yet) */
	uint64_t state_bytes;                             /* the monitor's own state: maps and spaces */
	uint64_t staging_bytes;                           /* its bounded staging pool */
	uint64_t pages_found;                             /* with content, there already when they were to be placed */
};
/* As thaw_get_progress(), same errnos. first_ns, rate_drain and staging_bytes are always the monitor's. */
THAW_PUBLIC int thaw_get_stats(struct thaw *h, int64_t space, struct thaw_stats *s);

/* ---- subscribers ----------------------------------------------------------------------------------------- */
/* Who keeps translations of a space of its own (a table of where its pages are, copies of them, a cache of pins) subscribes, and is
 * told of each change around the moment at which the monitor takes it up: begin drops what it has of the ranges, end says that
 * the change is over. Changes of several spaces and batches may be in progress at once: begin and end nest. In between nothing may
 * be looked up for keeping, and what was looked up before must not be kept:
 *
 *	again:	seq = thaw_subscriber_sample(s);
 *		page = look up in the process;
 *		lock;                                  (the lock that begin takes to drop what it has)
 *		if (thaw_subscriber_retry(s, seq)) {   (something is changing, or has changed)
 *			unlock; goto again;
 *		}
 *		keep page; unlock;
 *
 * When begin is called the process may have gone on by some microseconds already: the kernel lets it go on when the message is read, and
 * for a fork, a move and an unmap the memory has changed even before that. But each of them is in progress, for sample and retry,
 * from before the message is read; and for a discard, which the process carries out after its message has been read, until all of
 * it was seen to be carried out (at most a fifth of a second, which MADV_FREE takes, since its pages stay; longer while a large one is
 * seen to get on; where the process is not known some milliseconds, more for a large one, up to a fifth of a second). So what is kept
 * is dropped by begin or was looked up after the change.
 * Who subscribes while a change is in progress is told of it, or it was over before; but a discard whose message was read just before may
 * still be carried out: so nothing that is sampled in the first milliseconds behind thaw_subscribe() holds, if the monitor runs. */
enum thaw_changed {
	THAW_CHANGED_DISCARDED, /* madvise(2): reads as zero from then on */
	THAW_CHANGED_UNMAPPED,
	THAW_CHANGED_MOVED,     /* mremap(2): address to `to`; what was at `to` is gone. Both are to be dropped */
	THAW_CHANGED_FORK,      /* everything is shared with a child from then on: what may be written must be looked up again */
	THAW_CHANGED_ENDED      /* the space has ended and is not followed any more: nothing of it may be kept from then on */
};
struct thaw_change_info { /* an array's element: stays as it is for good */
	size_t size;
	enum thaw_changed change;
	int64_t space;
	uint64_t address, length; /* bytes; FORK, ENDED: all there is */
	uint64_t to;              /* MOVED only */
	int64_t child;            /* FORK only: 0 at begin (but for one that subscribed in between); at end the child's space,
				   * -1: it could not be made, 0: not made yet */
};
/* n changes of one space, in order. Called on a monitor thread, with no lock held and under its filter, on several at once for several
 * spaces. It may sleep: the space's copying and its faults wait as long; other spaces do not where there is another reader
 * (thaw_set_readers()). It must not wait for a page of the space, nor call thaw_unsubscribe(). */
typedef void thaw_change_fn(void *opaque, const struct thaw_change_info *changes, size_t n);
struct thaw_subscriber_ops {
	size_t size;
	thaw_change_fn *begin; /* needed */
	thaw_change_fn *end;   /* or NULL */
};
struct thaw_subscriber;
/* space: one, or 0 for all, children and those to come included. Before or after thaw_start(). For a space that has been given its content
 * already THAW_CHANGED_ENDED may come at once. Callbacks may run before it has returned. NULL: ENOENT (no such space,
 * or it has ended), EBUSY (16 subscribers), ENOMEM. */
THAW_PUBLIC struct thaw_subscriber *thaw_subscribe(struct thaw *h, int64_t space, const struct thaw_subscriber_ops *ops,
						   void *opaque);
/* Returns when no callback of it runs any more; frees s. Before thaw_close(), which frees those that are left. NULL is fine. */
THAW_PUBLIC void thaw_unsubscribe(struct thaw_subscriber *s);
THAW_PUBLIC uint64_t thaw_subscriber_sample(const struct thaw_subscriber *s);
/* 1: what was looked up since the sample must not be kept; 0: it may be. */
THAW_PUBLIC int thaw_subscriber_retry(const struct thaw_subscriber *s, uint64_t sample);

/* ---- userfaultfd help for tools --------------------------------------------------------------------------- */
/* A userfaultfd for the *calling* process's memory (call it in the process to be restored): /dev/userfaultfd (Linux 6.1),
 * then the system call; O_CLOEXEC and O_NONBLOCK; UFFDIO_API done with the four events. The descriptor, or -1 with EPERM
 * or EACCES (the sentence says which capability, sysctl or device node would help), ENOSYS (no userfaultfd), ENOTSUP (the kernel lacks
 * an event, or is too old), EMFILE, ENFILE, ENOMEM. */
THAW_PUBLIC int thaw_uffd_open(void);
/* Can this kernel and user do it at all? 0, or -1 with the cause and the remedy in thaw_get_error(): ENOSYS (the kernel
 * cannot), ENOTSUP (it is too old, or lacks an event), EPERM or EACCES (this user may not), EMFILE, ENFILE, ENOMEM. */
THAW_PUBLIC int thaw_probe(void);

#ifdef __cplusplus
}
#endif
#endif
