// SPDX-License-Identifier: LGPL-2.1-or-later
/* kern/sandbox.c - the table of who may call what, and the filters made from it */
#include "config.h"
#include "kern/sandbox.h"
#include "kern/sandbox_impl.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "util/inject.h"
#include "util/sabotage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define READER (1 << THAW_ROLE_READER)
#define COPIER (1 << THAW_ROLE_COPIER)
#define IO (1 << THAW_ROLE_IO)
#define CONTROL (1 << THAW_ROLE_CONTROL)
#define HOLDER (1 << THAW_ROLE_HOLDER)
#define REMOTE (1 << THAW_ROLE_REMOTE)
#define SERVER (1 << THAW_ROLE_SERVER)
#define NET (REMOTE | SERVER) /* these read what strangers send: no userfaultfd, no /proc */
#define THREADS (READER | COPIER | IO | CONTROL)
#define ALL (THREADS | HOLDER)
/* Those in which an application's callback may answer for content (who serves a fault asks it for the page): it may
 * talk to whoever has it. */
#define CALLBACKS THREADS

/* What an argument must be for a call to be let through. */
enum when {
	ALWAYS,
	UFFD_IOCTL,  /* an establishing or waking call of userfaultfd */
	READ_ONLY,   /* open: O_RDONLY */
	REFUSED,     /* open: O_RDONLY is answered with EACCES instead of the end */
	NOT_EXEC,    /* mmap, mprotect: without PROT_EXEC */
	ONLY_ABORT,  /* tgkill: abort(3) of a failed assertion */
	INTERNET,    /* socket: TCP over IPv4 or IPv6 */
};

static const struct {
	int nr;
	unsigned roles;
	enum when when;
} table[] = {
	/* the work */
	{ SCMP_SYS(ioctl), ALL, UFFD_IOCTL },
	{ SCMP_SYS(read), ALL | NET },
	{ SCMP_SYS(write), ALL | NET },
	{ SCMP_SYS(close), ALL | NET },
	{ SCMP_SYS(futex), ALL | NET },
	{ SCMP_SYS(epoll_wait), READER | CONTROL },
	{ SCMP_SYS(epoll_pwait), READER | CONTROL },
	{ SCMP_SYS(epoll_pwait2), READER | CONTROL },
	{ SCMP_SYS(epoll_ctl), READER | COPIER | CONTROL },
	{ SCMP_SYS(poll), ALL | NET },
	{ SCMP_SYS(ppoll), ALL | NET },
	{ SCMP_SYS(io_uring_setup), IO },
	{ SCMP_SYS(io_uring_enter), IO },
	{ SCMP_SYS(pread64), ALL | NET },
	{ SCMP_SYS(preadv), THREADS },
	{ SCMP_SYS(preadv2), THREADS },
	{ SCMP_SYS(mlock), THREADS },
	{ SCMP_SYS(mlock2), THREADS },
	{ SCMP_SYS(munlock), THREADS },
	{ SCMP_SYS(mincore), THREADS },
	{ SCMP_SYS(readahead), THREADS },
	{ SCMP_SYS(fadvise64), THREADS },
	{ SCMP_SYS(fcntl), THREADS | NET },
	{ SCMP_SYS(fstat), THREADS },
	{ SCMP_SYS(statx), THREADS | SERVER },
	{ SCMP_SYS(timerfd_settime), CONTROL },
	{ SCMP_SYS(pidfd_send_signal), CONTROL },

	/* looking into /proc */
	{ SCMP_SYS(openat), CONTROL | HOLDER, READ_ONLY },
	/* free() that shrinks a thread's heap asks /proc/sys/vm/overcommit_memory, and does without the answer. */
	{ SCMP_SYS(openat), READER | COPIER | IO | NET, REFUSED },
	{ SCMP_SYS(getdents64), CONTROL | HOLDER },
	{ SCMP_SYS(lseek), CONTROL | HOLDER },
	{ SCMP_SYS(newfstatat), CONTROL },
	{ SCMP_SYS(readlinkat), CONTROL | HOLDER },
	{ SCMP_SYS(readlink), CONTROL | HOLDER },
	{ SCMP_SYS(pidfd_open), CONTROL | HOLDER },

	/* memory of the C library's allocator, and windows of the image */
	{ SCMP_SYS(mmap), THREADS | NET, NOT_EXEC },
	{ SCMP_SYS(mprotect), THREADS | NET, NOT_EXEC },
	{ SCMP_SYS(munmap), ALL | NET },
	{ SCMP_SYS(mremap), THREADS | NET },
	{ SCMP_SYS(madvise), THREADS | NET },
	{ SCMP_SYS(brk), THREADS | NET },
	{ SCMP_SYS(getrandom), THREADS | NET },

	/* time and the scheduler */
	{ SCMP_SYS(clock_gettime), ALL | NET },
	{ SCMP_SYS(gettimeofday), ALL | NET },
	{ SCMP_SYS(clock_nanosleep), ALL | NET },
	{ SCMP_SYS(nanosleep), ALL | NET },
	{ SCMP_SYS(restart_syscall), ALL | NET },
	{ SCMP_SYS(sched_yield), THREADS | NET },
	{ SCMP_SYS(sched_getaffinity), THREADS | NET }, /* malloc() too, of many threads */
	{ SCMP_SYS(sched_setaffinity), THREADS },
	{ SCMP_SYS(setpriority), THREADS },
	{ SCMP_SYS(getcpu), THREADS },
	{ SCMP_SYS(getrusage), THREADS | NET },

	/* being a thread, and ending */
	{ SCMP_SYS(gettid), ALL | NET },
	{ SCMP_SYS(getpid), ALL | NET },
	{ SCMP_SYS(rt_sigprocmask), ALL | NET },
	{ SCMP_SYS(rt_sigreturn), ALL | NET },
	{ SCMP_SYS(sigaltstack), THREADS | NET },
	{ SCMP_SYS(tgkill), ALL | NET, ONLY_ABORT },
	{ SCMP_SYS(exit), ALL | NET },
	{ SCMP_SYS(exit_group), ALL | NET },
	{ SCMP_SYS(membarrier), THREADS | NET },

	/* talking to a page server; being one */
	{ SCMP_SYS(socket), REMOTE, INTERNET },
	{ SCMP_SYS(connect), REMOTE },
	{ SCMP_SYS(getsockopt), NET },
	{ SCMP_SYS(setsockopt), NET },
	{ SCMP_SYS(shutdown), NET | HOLDER },
	{ SCMP_SYS(accept4), HOLDER },

	/* callbacks of an application that fetches content elsewhere */
	{ SCMP_SYS(recvfrom), CALLBACKS | NET },
	{ SCMP_SYS(recvmsg), CALLBACKS | NET | HOLDER },
	{ SCMP_SYS(sendto), CALLBACKS | NET },
	{ SCMP_SYS(sendmsg), CALLBACKS | NET },
	{ SCMP_SYS(readv), CALLBACKS | NET },
	{ SCMP_SYS(writev), THREADS | NET },
	{ SCMP_SYS(pwrite64), THREADS },
};

/* What the runtimes of the sanitizers do behind our back, mostly when they report. */
static const int sanitizer_calls[] = {
	SCMP_SYS(openat),      SCMP_SYS(readlink),
	SCMP_SYS(mmap),	       SCMP_SYS(mprotect),
	SCMP_SYS(clone),       SCMP_SYS(prctl),
	SCMP_SYS(sigaltstack), SCMP_SYS(rt_sigaction),
	SCMP_SYS(getrlimit),   SCMP_SYS(prlimit64),
	SCMP_SYS(getppid),     SCMP_SYS(tgkill),
	SCMP_SYS(wait4),       SCMP_SYS(execve),
	SCMP_SYS(pipe2),       SCMP_SYS(dup2),
	SCMP_SYS(sysinfo),     SCMP_SYS(stat),
	SCMP_SYS(fstat),       SCMP_SYS(newfstatat),
	SCMP_SYS(lseek),       SCMP_SYS(getdents64),
	SCMP_SYS(sched_yield), SCMP_SYS(munmap),
	SCMP_SYS(madvise),     SCMP_SYS(mremap),
	SCMP_SYS(brk),	       SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),	       SCMP_SYS(process_vm_readv),
	SCMP_SYS(access),      SCMP_SYS(ftruncate),
	SCMP_SYS(unlink),      SCMP_SYS(kill),
	SCMP_SYS(ioctl),       SCMP_SYS(sched_getaffinity),
	SCMP_SYS(open),
};

static const uint64_t uffd_ioctls[] = {
	UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_WAKE, UFFDIO_CONTINUE, UFFDIO_POISON, UFFDIO_REGISTER,
};

static const char *const role_names[THAW_ROLES] = {
	[THAW_ROLE_NONE] = "no", [THAW_ROLE_READER] = "reader",	  [THAW_ROLE_COPIER] = "copier",
	[THAW_ROLE_IO] = "i/o",	 [THAW_ROLE_CONTROL] = "control", [THAW_ROLE_HOLDER] = "holder",
	[THAW_ROLE_REMOTE] = "remote", [THAW_ROLE_SERVER] = "session",
};

const char *thaw_sandbox_role_name(enum thaw_role role)
{
	return role < THAW_ROLES ? role_names[role] : "unknown";
}

bool thaw_sandbox_in_table(enum thaw_role role, int nr)
{
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].nr == nr && table[i].roles & 1 << role)
			return table[i].when == ALWAYS;
	return false;
}

static int allow(scmp_filter_ctx ctx, int nr, enum when when)
{
	size_t i;
	int err = 0;

	switch (when) {
	case ALWAYS:
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
	case UFFD_IOCTL:
		for (i = 0; !err && i < sizeof(uffd_ioctls) / sizeof(uffd_ioctls[0]); i++)
			err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
					       SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)uffd_ioctls[i]));
		if (!err && (thaw_uffd_close_can_spin() || THAW_SABOTAGE(UNREGISTER_PART)))
			err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
					       SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)UFFDIO_UNREGISTER));
		return err;
	case READ_ONLY:
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
					SCMP_A2_32(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, 0));
	case REFUSED:
		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), nr, 1,
					SCMP_A2_32(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, 0));
	case NOT_EXEC:
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1, SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	case INTERNET:
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1, SCMP_A0_32(SCMP_CMP_EQ, AF_INET));
		return err ? err : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1, SCMP_A0_32(SCMP_CMP_EQ, AF_INET6));
	case ONLY_ABORT:
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1, SCMP_A2_32(SCMP_CMP_EQ, SIGABRT));
	}
	return -EINVAL;
}

static int fill(scmp_filter_ctx ctx, enum thaw_role role)
{
	size_t i;
	int err = 0;

	/* What a sanitizer needs comes first: a rule with conditions behind one without adds nothing. */
	for (i = 0; SANITIZED && !err && i < sizeof(sanitizer_calls) / sizeof(sanitizer_calls[0]); i++)
		err = allow(ctx, sanitizer_calls[i], ALWAYS);
	for (i = 0; !err && i < sizeof(table) / sizeof(table[0]); i++) {
		if (!(table[i].roles & 1 << role))
			continue;
		err = allow(ctx, table[i].nr, table[i].when);
		if (err == -EEXIST)
			err = 0;
	}
	/* The calls of every fault, in the order of how often; the kernel remembers the unconditional ones itself. */
	if (!err)
		err = seccomp_syscall_priority(ctx, SCMP_SYS(ioctl), 255);
	return err;
}

struct thaw_filter {
	enum thaw_role role;
	struct sock_fprog prog;
	struct sock_filter code[];
};

/* libseccomp hands the program out through a descriptor. */
static int export(scmp_filter_ctx ctx, struct thaw_filter **out, enum thaw_role role)
{
	int fd = memfd_create("filter", MFD_CLOEXEC), err;
	struct thaw_filter *f;
	off_t len;

	if (fd < 0)
		return -errno;
	err = seccomp_export_bpf(ctx, fd);
	len = lseek(fd, 0, SEEK_END);
	f = err ? NULL : malloc(sizeof(*f) + len);
	if (f && pread(fd, f->code, len, 0) == len) {
		f->role = role;
		f->prog = (struct sock_fprog){ .len = len / sizeof(f->code[0]), .filter = f->code };
		*out = f;
	} else if (!err) {
		free(f);
		err = -ENOMEM;
	}
	close(fd);
	return err;
}

static int failed(int err, enum thaw_role role)
{
	return thaw_err_set(
		err,
		"sandbox: the filter of the %s thread cannot be made: %s; use a kernel with CONFIG_SECCOMP_FILTER, "
		"or switch the sandbox off",
		thaw_sandbox_role_name(role), strerror(-err));
}

int thaw_sandbox_compile(struct thaw_filter **out, enum thaw_role role)
{
	static pthread_mutex_t lock =
		PTHREAD_MUTEX_INITIALIZER; /* libseccomp keeps what it learns about the kernel unlocked */
	scmp_filter_ctx ctx;
	int err = THAW_INJECT("sandbox.load");

	if (role <= THAW_ROLE_NONE || role >= THAW_ROLES)
		return thaw_err_set(-EINVAL, "sandbox: there is no role %d", (int)role);
	pthread_mutex_lock(&lock);
	/* Trap, so that the handler can say who called what. */
	ctx = seccomp_init(SCMP_ACT_TRAP);
	if (!err && !ctx)
		err = -ENOMEM;
	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);
	if (!err)
		err = fill(ctx, role);
	if (!err)
		err = export(ctx, out, role);
	seccomp_release(ctx);
	pthread_mutex_unlock(&lock);
	return err ? failed(err, role) : 0;
}

void thaw_filter_free(struct thaw_filter *f)
{
	free(f);
}

int thaw_sandbox_install(const struct thaw_filter *f)
{
	uint64_t set = 1ULL << (SIGSYS - 1);

	if (f->role != THAW_ROLE_HOLDER && THAW_INJECT_ERRNO("sandbox.install")) /* the holder's memory is the monitor's copy */
		return -errno;
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, sizeof(set));
	thaw_sandbox_set_role(f->role);
	/* no_new_privs and the filter are this thread's only: no TSYNC. */
	if (!syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	    !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &f->prog))
		return 0;
	thaw_sandbox_set_role(THAW_ROLE_NONE);
	return -errno;
}

int thaw_sandbox_enter(enum thaw_role role)
{
	struct thaw_filter *f;
	int err = thaw_sandbox_compile(&f, role);

	if (err)
		return err;
	/* The allocator has chosen this thread's arena by now: that may look for the number of CPUs in /sys. */
	err = thaw_sandbox_install(f);
	thaw_filter_free(f);
	return err ? failed(err, role) : 0;
}
