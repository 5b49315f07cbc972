/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* util/inject.h - named points at which a debug build can be told to fail.
 *
 * A wrapper of a kernel call asks before it calls:
 *
 *	int err = THAW_INJECT("uffd.copy");
 *	if (err)
 *		return err;
 *
 * and THAW_INJECT=uffd.copy:EAGAIN:3 in the environment makes the third call answer -EAGAIN. A rule is POINT:WHAT:COUNT.
 * WHAT is
 *	ERRNO	a name or a number: the call is not made, and answers this
 *	short	the call is made for a part of what was asked (whole pages, messages, bytes: see the list); where a call
 *		says so itself, its answer is that of a part done
 *	delay=N	the call is made N later: us, ms or s behind the number
 * COUNT may be
 *	N	the Nth call only
 *	N+	the Nth call and every one after it
 *	N/M	N of M calls, drawn at random (THAW_INJECT_SEED makes the draw repeatable for one thread)
 * THAW_INJECT_TOLD=FILE gets a line with the name of each point that has failed, so that a test can see that a call came by at all.
 * Several rules are separated by commas; the first that fires with an errno is the answer, delays add up. THAW_INJECT=list
 * writes the points to standard output and ends the program. A specification that cannot be read, or in the environment a point that is
 * not in the list, ends the program: a test that injects nothing by mistake would pass.
 *
 * An answer must not be a lie about the process, else the page is wrong and it is not the engine's fault. So EEXIST of a copy is given
 * after the first page has really been placed, ENOENT of a copy only to a run of several pages, and ESRCH is never given.
 *
 * Rule      compiled only into debug builds; elsewhere the macro is the constant 0 and costs nothing
 * Threads   any; counting is atomic
 * Errors    a negative errno that the caller returns as if the kernel had said it, or 0 */
#ifndef THAW_UTIL_INJECT_H
#define THAW_UTIL_INJECT_H

/* name, what it stands before and what can be asked of it */
#define THAW_INJECT_POINTS(X) \
	X("uffd.node", "opening /dev/userfaultfd") \
	X("uffd.call", "userfaultfd(2)") \
	X("uffd.api", "UFFDIO_API") \
	X("uffd.register", "UFFDIO_REGISTER") \
	X("uffd.registered", "the question whether a page's mapping is registered: EAGAIN") \
	X("uffd.watch", "UFFDIO_REGISTER that has writes watched, too, to find out whose a userfaultfd is") \
	X("uffd.unregister", "UFFDIO_UNREGISTER") \
	X("uffd.copy", "UFFDIO_COPY: EAGAIN, EEXIST, ENOENT, ENOMEM, EFAULT; short: some whole pages") \
	X("uffd.copy.page", "UFFDIO_COPY of one page: ENOENT, true or not (for the test of a move that overtakes)") \
	X("uffd.zero", "UFFDIO_ZEROPAGE: EAGAIN, ENOMEM; short: some whole pages") \
	X("uffd.poison", "UFFDIO_POISON") \
	X("uffd.wake", "UFFDIO_WAKE: delays only, since a wake that is not carried out is a lie") \
	X("uffd.probe", "the question whether the memory still exists: EAGAIN") \
	X("uffd.read", "read() of messages: EIO, EINTR; short: fewer messages (EMFILE would say that a fork has been overtaken)") \
	X("epoll.create", "epoll_create1()") \
	X("epoll.add", "EPOLL_CTL_ADD of a userfaultfd") \
	X("epoll.arm", "EPOLL_CTL_MOD of a userfaultfd: it is not told of any more") \
	X("epoll.process", "EPOLL_CTL_ADD of a pidfd") \
	X("epoll.stop", "EPOLL_CTL_ADD of the eventfd that ends the readers") \
	X("epoll.wait", "epoll_pwait2(): EINTR") \
	X("eventfd.make", "eventfd()") \
	X("eventfd.raise", "write() to one") \
	X("content.stat", "fstat() of a content file") \
	X("content.map", "mmap() of a content file") \
	X("content.unlock", "munlock() of that mapping") \
	X("content.mincore", "mincore() of a window of its mapping") \
	X("content.populate", "MADV_POPULATE_READ of such a window") \
	X("content.size", "statx() of its file, when it is mapped and before each copy from it") \
	X("content.end", "statx() of a content file behind a read") \
	X("content.ahead", "preadv2() of a copier's window; short: some bytes") \
	X("content.read", "preadv2() of content: EAGAIN, EINTR, EIO; short: some bytes") \
	X("fetch.close", "thaw_close() lets go of reads that an application has: delays only") \
	X("ring.setup", "the probe for io_uring") \
	X("ring.make", "the ring itself") \
	X("ring.submit", "io_uring_enter(): EINTR, EAGAIN, EBUSY") \
	X("ring.read", "a read through the ring or the pool: EIO, EINTR, EAGAIN; short: some bytes") \
	X("holder.start", "the start of the holder as a whole") \
	X("holder.memory", "mmap() of what holder and monitor share") \
	X("holder.clone", "clone() of the holder") \
	X("holder.add", "telling the holder of a process: any errno, and it is not told") \
	X("holder.poll", "the holder's sleep: EINTR") \
	X("holder.list", "its opening a directory of /proc") \
	X("holder.entries", "its reading one") \
	X("holder.link", "its readlink() of a descriptor") \
	X("holder.open", "its opening a file of /proc/PID") \
	X("holder.probe", "its question whether a process still exists: EAGAIN") \
	X("holder.write", "its one line: EINTR, EAGAIN; short: some bytes") \
	X("sandbox.load", "making a system call filter") \
	X("sandbox.install", "seccomp(2)") \
	X("thread.create", "pthread_create()") \
	X("pace.dear", "what a copier has found out of what copies cost: any errno makes it serve faults itself") \
	X("thread.nice", "setpriority()") \
	X("thread.pin", "sched_setaffinity()") \
	X("memory.staging", "mmap() of staging buffers") \
	X("memory.lock", "mlock2() of staging buffers: ENOMEM, EPERM") \
	X("memory.space", "memory for a space") \
	X("memory.core", "memory for page maps and their changes") \
	X("memory.parked", "memory for faults that wait") \
	X("memory.follow", "memory for the pages of the latest faults") \
	X("engine.apply", "applying a change to a map") \
	X("futex.wait", "FUTEX_WAIT: EINTR, EAGAIN") \
	X("futex.wake", "FUTEX_WAKE: delays only, since a wake that is not carried out is a lie") \
	X("pidfd.open", "pidfd_open()") \
	X("pidfd.getfd", "pidfd_getfd()") \
	X("pidfd.signal", "pidfd_send_signal()") \
	X("timerfd.ticks", "the question what a timerfd has counted: delays only") \
	X("remote.step", "PTRACE_SYSCALL of a thread that makes a single system call: it is left in its stop") \
	X("remote.continue", "PTRACE_CONT of a thread that is to make system calls: it is left in its stop") \
	X("dump.worker", "the worker of a checkpoint: it does nothing, and answers nobody") \
	X("dump.name", "giving a complete image its name, before and after: delays only") \
	X("process.kcmp", "kcmp()") \
	X("process.read", "process_vm_readv(); short: some bytes") \
	X("process.write", "process_vm_writev(); short: some bytes") \
	X("procfs.open", "opening a file of /proc/PID") \
	X("procfs.read", "reading one; short: some bytes") \
	X("pagemap.scan", "PAGEMAP_SCAN") \
	X("lazy.news", "the look at what became of the page server's connection: delays only") \
	X("net.listen", "socket() of a page server") \
	X("net.accept", "accept4() of a client: EMFILE, ECONNABORTED") \
	X("net.prepare", "setsockopt() of a connection to a page server") \
	X("net.connect", "connecting to a page server") \
	X("net.receive", "receiving from one") \
	X("net.send", "sending to one")

#ifdef THAW_DEBUG
#include <stddef.h>
#include <stdint.h>

int thaw_inject_fail(const char *point);
int thaw_inject_errno(const char *point); /* the same in the C library's way: -1 and errno, or 0 */
/* How much of len is to be asked for: less, in whole units and not nothing, when a `short` rule fires. */
size_t thaw_inject_short(const char *point, size_t len, size_t unit);

/* Replaces what the environment said (tests); NULL or "": nothing fails. No thread may be in THAW_INJECT meanwhile.
 * 0, or -EINVAL with a sentence (and nothing armed). */
int thaw_inject_arm(const char *spec);

uint64_t thaw_inject_hits(const char *point); /* how often an armed point has failed so far */

#define THAW_INJECT(point) thaw_inject_fail(point)
#define THAW_INJECT_ERRNO(point) thaw_inject_errno(point)
#define THAW_INJECT_SHORT(point, len, unit) thaw_inject_short(point, len, unit)
#else
#define THAW_INJECT(point) ((void)(point), 0)
#define THAW_INJECT_ERRNO(point) ((void)(point), 0)
#define THAW_INJECT_SHORT(point, len, unit) ((void)(point), (len))
#endif

#endif
