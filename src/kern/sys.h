/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kern/sys.h - system calls that the C library does not wrap, or not in the way that is wanted here.
 * Rule      one call each; nothing is retried but EINTR where the comment says so
 * Threads   any; async-signal-safe
 * Errors    -errno, no sentence: the caller knows the object */
#ifndef THAW_KERN_SYS_H
#define THAW_KERN_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int thaw_sys_pidfd_open(pid_t pid);                /* close-on-exec, as all pidfds are */
int thaw_sys_pidfd_getfd(int pidfd, int fd);       /* close-on-exec */
int thaw_sys_pidfd_signal(int pidfd, int sig);     /* sig 0: is it there */
int thaw_sys_pid_of(int pidfd);                    /* its process, from fdinfo; -ESRCH: gone; -EINVAL: not a pidfd; -EBADF */
bool thaw_sys_pidfd_exited(int pidfd);             /* poll says that the process is over */

/* kcmp: 0 the same object, > 0 different, -errno. */
int thaw_sys_kcmp_file(pid_t a, int fd_a, pid_t b, int fd_b);

pid_t thaw_sys_gettid(void);

/* Futex on shared or private memory. wait: 0 woken (or spurious), -EAGAIN the word differed, -ETIMEDOUT, -EINTR.
 * timeout_ns -1: for ever. wake: how many. */
int thaw_sys_futex_wait(uint32_t *word, uint32_t value, int64_t timeout_ns, bool shared);
int thaw_sys_futex_wake(uint32_t *word, unsigned n, bool shared);

int thaw_sys_eventfd(bool nonblocking); /* close-on-exec */
/* Adds one: who waits for it is woken. Who could not be told has to find out by time: nobody waits for an eventfd alone. */
int thaw_sys_eventfd_raise(int fd);

/* Memory of another process: all of len or -errno (-EFAULT also when a part only could be had). */
int thaw_sys_vm_read(pid_t pid, uint64_t remote, void *buf, size_t len);
int thaw_sys_vm_write(pid_t pid, uint64_t remote, const void *buf, size_t len);

uint64_t thaw_sys_lock_limit(void); /* RLIMIT_MEMLOCK in bytes; UINT64_MAX: none (or CAP_IPC_LOCK) */

/* The calling thread, if it is one of SCHED_OTHER (else -EINVAL): nicer by `nice`, and with a slice of so much CPU time. A thread that
 * is woken takes the CPU at once from one with a longer slice, and else may have to wait until that slice is over (Linux 6.12; before, no
 * thread has a slice of its own). */
int thaw_sys_give_way(int nice, uint64_t slice_ns);
int thaw_sys_name_thread(const char *name);        /* 15 characters are kept */
int thaw_sys_cpu(void);                            /* the CPU that we are on */
int thaw_sys_pin_thread(int cpu);                  /* cpu -1: all that the process may use */
int thaw_sys_move_thread(int cpu);                 /* there, and free to be moved on; -EINVAL: where we may not run */

/* As many descriptors as may be: the soft limit is raised to the hard one. Running out is said when it happens. */
void thaw_sys_raise_descriptors(void);

/* A file's size in bytes as the kernel has it in memory, where it changes before the file's pages do: no server is asked, nothing is
 * waited for. -errno. */
int64_t thaw_sys_size_in_memory(int fd);

uint64_t thaw_sys_now_ns(void);                    /* CLOCK_MONOTONIC */
uint64_t thaw_sys_thread_cpu_ns(void);             /* what the calling thread has run */

#endif
