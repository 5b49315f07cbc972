// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_refuse.c - what cannot be restored is refused by name before anything is written, and nobody notices */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/mempolicy.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "kern/procfs.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "support/patience.h"

#define MSEAL 462
#define MEMFD_SECRET 447

static char scratch[64];

static void read_line(pid_t pid, const char *file, const char *key, char value[128])
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	f = fopen(path, "re");
	value[0] = '\0';
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			snprintf(value, 128, "%s", line + strlen(key));
	if (f)
		fclose(f);
	value[strcspn(value, "\n")] = '\0';
}

/* ---- what the targets have; false: this kernel or user has no such thing -------------------------------------------- */
static bool has_aio(void)
{
	unsigned long ctx = 0;

	return syscall(SYS_io_setup, 16, &ctx) == 0;
}

static bool has_io_uring(void)
{
	char params[120] = { 0 };
	int fd = (int)syscall(425, 4, params);
	bool mapped = fd >= 0 && mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED;

	close(fd);
	return mapped;
}

static bool has_perf(void)
{
	struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(a), .config = PERF_COUNT_SW_DUMMY };
	int fd = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
	bool mapped = fd >= 0 && mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED;

	close(fd);
	return mapped;
}

static bool has_sysv(void)
{
	int id = shmget(IPC_PRIVATE, 8192, 0600);
	void *p = id < 0 ? (void *)-1 : shmat(id, NULL, 0);

	if (id >= 0)
		shmctl(id, IPC_RMID, NULL);
	return p != (void *)-1;
}

static bool has_secret(void)
{
	int fd = (int)syscall(MEMFD_SECRET, 0);

	if (fd < 0 || ftruncate(fd, 4096) || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		return false;
	close(fd);
	return true;
}

static bool has_uffd(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = thaw_uffd_open_features(0, NULL);

	return fd >= 0 && thaw_uffd_register(fd, (uint64_t)(uintptr_t)p, 4096) == 0;
}

static bool has_hugetlb(void)
{
	return mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

static bool has_sealed(void)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return syscall(MSEAL, p, 4096, 0) == 0;
}

/* A brother, a child of our parent, that lives as long as we do. */
static int stays(void *first)
{
	static const struct timespec pause_5ms = { .tv_nsec = 5000000 };

	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	while (syscall(SYS_kill, (pid_t)(intptr_t)first, 0) == 0)
		syscall(SYS_nanosleep, &pause_5ms, NULL); /* not the sanitizers', whose memory it is as well */
	return 0;
}

static bool has_brother(int flags)
{
	static char stack[1 << 16] __attribute__((aligned(16)));

	return clone(stays, stack + sizeof(stack), flags | CLONE_PARENT | SIGCHLD, (void *)(intptr_t)getpid()) > 0;
}

static bool has_memory_in_common(void)
{
	return has_brother(CLONE_VM);
}

static bool has_files_in_common(void)
{
	return has_brother(CLONE_FILES);
}

/* Shared memory that another process has no mapping of, only the descriptor. */
static bool has_held(void)
{
	int fd = memfd_create("held", 0);
	bool made = fd >= 0 && !ftruncate(fd, 4096) && has_brother(0) &&
		    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED;

	close(fd);
	return made;
}

static bool has_shared(void)
{
	volatile int *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t target = getpid();

	if (fork() == 0) { /* an orphan that ends with the target */
		if (fork())
			_exit(0);
		prctl(PR_SET_NAME, "sharer");
		while (*p == 0 && kill(target, 0) == 0)
			usleep(20000);
		_exit(0);
	}
	wait(NULL);
	return true;
}

/* Mapped and not open any more: its mapping alone tells that it has been removed, and lives on elsewhere. */
static bool has_linked(void)
{
	char one[128], two[128];
	void *p;
	int fd;

	snprintf(one, sizeof(one), "%s/one-%d", scratch, getpid());
	snprintf(two, sizeof(two), "%s/linked", scratch);
	fd = open(one, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 4096) || link(one, two))
		return false;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p != MAP_FAILED && close(fd) == 0 && unlink(one) == 0;
}

static bool has_child(void)
{
	pid_t target = getpid();

	if (fork() == 0) {
		while (getppid() == target)
			usleep(20000);
		_exit(0);
	}
	return true;
}

static bool has_zombie(void)
{
	siginfo_t si;

	if (fork() == 0)
		_exit(0);
	return waitid(P_ALL, 0, &si, WEXITED | WNOWAIT) == 0;
}

static bool has_tracer(void)
{
	pid_t target = getpid();
	char value[128] = "";

	if (fork() == 0) {
		if (fork())
			_exit(0);
		if (ptrace(PTRACE_SEIZE, target, NULL, NULL))
			_exit(1);
		while (kill(target, 0) == 0) {
			int status;

			if (waitpid(target, &status, __WALL | WNOHANG) == target && WIFSTOPPED(status))
				ptrace(PTRACE_CONT, target, NULL, WSTOPSIG(status));
			usleep(2000);
		}
		_exit(0);
	}
	wait(NULL);
	while (read_line(target, "status", "TracerPid:\t", value), !strcmp(value, "0"))
		usleep(1000);
	return true;
}

static bool has_namespace(void)
{
	return unshare(CLONE_NEWUTS) == 0;
}

static bool has_cgroups(void)
{
	return unshare(CLONE_NEWCGROUP) == 0;
}

/* Without a child it has no name yet, which was taken for the end of the process. */
static bool has_pids(void)
{
	return unshare(CLONE_NEWPID) == 0;
}

static bool has_time(void)
{
	return unshare(0x80 /* CLONE_NEWTIME */) == 0;
}

static bool has_seccomp(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &(struct { unsigned short n; void *f; }){
		       1, &(struct { uint16_t code; uint8_t t, f; uint32_t k; }){ 6, 0, 0, SECCOMP_RET_ALLOW } }) == 0;
}

static _Atomic bool unshared;

static void *unshares(void *fs)
{
	sigset_t all;

	/* SIGUSR1 is the main thread's, whose name is looked at; the kernel would give it to either. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	if (unshare(fs ? CLONE_FS : CLONE_FILES))
		_exit(1);
	atomic_store(&unshared, true);
	for (;;)
		pause();
	return NULL;
}

static bool has_thread(bool fs)
{
	pthread_t t;

	if (pthread_create(&t, NULL, unshares, fs ? (void *)scratch : NULL))
		return false;
	while (!atomic_load(&unshared))
		usleep(1000);
	return true;
}

static bool has_own_fs(void)
{
	return has_thread(true);
}

static bool has_own_files(void)
{
	return has_thread(false);
}

static bool has_key(void)
{
	int key = pkey_alloc(0, 0);
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return key > 0 && pkey_mprotect(p, 4096, PROT_READ, key) == 0;
}

/* Known to ptrace from Linux 6.4 on. */
static bool has_dispatch(void)
{
	static char allow; /* SYSCALL_DISPATCH_FILTER_ALLOW */
	struct utsname u;
	int major, minor;

	if (uname(&u) || sscanf(u.release, "%d.%d", &major, &minor) != 2 || major * 100 + minor < 604)
		return false;
	return prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, &allow) == 0;
}

static bool has_no_code(void)
{
	return prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0) == 0;
}

static bool has_urgent(void)
{
	int s[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && send(s[0], "u", 1, MSG_OOB) == 1;
}

static bool has_no_tsc(void)
{
	return prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0;
}

static bool has_no_cwd(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/cwd-%d", scratch, getpid());
	return mkdir(path, 0700) == 0 && chdir(path) == 0 && rmdir(path) == 0;
}

static bool has_stopped(void)
{
	return raise(SIGSTOP) == 0; /* "ready" when it goes on */
}

static int landlock(void)
{
	uint64_t handled = 1; /* LANDLOCK_ACCESS_FS_EXECUTE; nothing else is forbidden, but the sandbox is one */
	int fd = (int)syscall(444 /* landlock_create_ruleset */, &handled, sizeof(handled), 0);
	bool done = fd >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(446 /* landlock_restrict_self */, fd, 0) == 0;

	close(fd);
	return done ? 0 : -1;
}

/* /proc shows nothing of it: the restored process would have been free. */
static bool has_landlock(void)
{
	return landlock() == 0;
}

/* One that has nobody's privileges: what is asked of it must be told from what it may not do anyway. */
static bool has_landlock_user(void)
{
	return setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0 && landlock() == 0 &&
	       prctl(PR_SET_DUMPABLE, 1) == 0;
}

static void *enters_sandbox(void *arg)
{
	sigset_t all;

	(void)arg;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	if (landlock())
		_exit(1);
	atomic_store(&unshared, true);
	for (;;)
		pause();
	return NULL;
}

static bool has_landlock_thread(void)
{
	pthread_t t;

	if (syscall(444, NULL, 0, 1) < 1 || pthread_create(&t, NULL, enters_sandbox, NULL))
		return false;
	while (!atomic_load(&unshared))
		usleep(1000);
	return true;
}

static bool has_bound(void)
{
	unsigned long nodes[16] = { 1 };
	void *p = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return syscall(SYS_mbind, p, 1 << 20, MPOL_BIND, nodes, 1025, 0) == 0;
}

static bool has_segments(void)
{
	struct { unsigned entry, base, limit, flags; } segment = { 0, 0, 0xfffff, 1 /* 32-bit */ };

	return syscall(SYS_modify_ldt, 1, &segment, sizeof(segment)) == 0;
}

static bool has_no_vdso(void)
{
	unsigned long a, b;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "re");

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx", &a, &b) == 2 && munmap((void *)a, b - a) == 0) {
			fclose(f);
			return true;
		}
	return false;
}

static const struct {
	const char *name, *words;
	bool (*make)(void);
} cases[] = {
	{ "aio", "asynchronous I/O", has_aio },
	{ "io_uring", "io_uring", has_io_uring },
	{ "perf", "perf event", has_perf },
	{ "sysv", "System V", has_sysv },
	{ "secret", "secret memory", has_secret },
	{ "uffd", "userfaultfd", has_uffd },
	{ "hugetlb", "hugetlb", has_hugetlb },
	{ "sealed", "mseal", has_sealed },
	{ "shared", "shared with process", has_shared },
	{ "memory in common", "shares its memory with process", has_memory_in_common },
	{ "descriptors in common", "shares its file descriptors with process", has_files_in_common },
	{ "held", "has it open (descriptor", has_held },
	{ "linked", "lives on under a name that is not known", has_linked },
	{ "child", "has a child", has_child },
	{ "zombie", "not waited for", has_zombie },
	{ "tracer", "traced by process", has_tracer },
	{ "namespace", "uts namespace", has_namespace },
	{ "cgroup namespace", "another cgroup namespace than thaw", has_cgroups },
	{ "pid namespace for children", "has a pid namespace of its own for its children", has_pids },
	{ "time namespace for children", "has a time namespace of its own for its children", has_time },
	{ "seccomp", "seccomp filter", has_seccomp },
	{ "own fs", "its own working directory", has_own_fs },
	{ "own files", "its own file descriptors", has_own_files },
	{ "key", "protection key", has_key },
	{ "dispatch", "takes system calls itself", has_dispatch },
	{ "no code", "PR_SET_MDWE", has_no_code },
	{ "urgent", "urgent data", has_urgent },
	{ "tsc", "time stamp counter", has_no_tsc },
	{ "cwd", "working directory has been deleted", has_no_cwd },
	{ "stopped", "stopped by a signal", has_stopped },
	{ "vdso", "no vdso", has_no_vdso },
	{ "bound memory", "a memory policy of its own (mbind)", has_bound },
	{ "segments", "modify_ldt", has_segments },
	{ "landlock", "Landlock sandbox: not supported", has_landlock },
	{ "landlock of a user", "Landlock sandbox: not supported", has_landlock_user },
	{ "landlock of a thread", "Landlock sandbox: not supported", has_landlock_thread },
};

/* ---- the tests' side -------------------------------------------------------------------------------------------------- */
static void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s (%s)\n", what, why, thaw_err_text());
	exit(1);
}

static void on_user(int sig)
{
	char name[32];
	static int n;

	(void)sig;
	snprintf(name, sizeof(name), "alive-%d", ++n);
	prctl(PR_SET_NAME, name);
}

static bool has_name(pid_t pid, const char *want)
{
	char name[128] = "";
	int i;

	for (i = 0; i < patience(500); i++) {
		read_line(pid, "comm", "", name);
		if (!strcmp(name, want) || !strcmp(name, "absent"))
			break;
		usleep(10000);
	}
	return !strcmp(name, want);
}

static pid_t start(bool (*make)(void))
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(3, ~0U, 0);
	signal(SIGUSR1, on_user);
	signal(SIGCHLD, SIG_DFL);
	prctl(PR_SET_NAME, make() ? "ready" : "absent");
	for (;;)
		pause();
}

static void refuse(pid_t pid, const char *name, const char *words)
{
	struct thaw_dump_options o = { .pid = pid };
	struct thaw_dump_result r;
	char path[128];

	snprintf(path, sizeof(path), "%s/image", scratch);
	o.dir = path;
	if (thaw_dump(&o, &r) >= 0)
		die(name, "not refused");
	if (!strstr(thaw_err_text(), words))
		die(name, "refused with other words");
	snprintf(path, sizeof(path), "%s/linked", scratch);
	unlink(path); /* has_linked */
	if (rmdir(scratch))
		die(name, "something was left behind");
	if (mkdir(scratch, 0700))
		die(name, "scratch");
	printf("%s: %s\n", name, thaw_err_text());
}

static bool has_state(pid_t pid, char state)
{
	char value[128] = "";
	int i;

	for (i = 0; i < patience(500) && value[0] != state; i++) {
		read_line(pid, "status", "State:\t", value);
		usleep(10000);
	}
	return value[0] == state;
}

static bool has_stop(pid_t pid)
{
	char value[128] = "";

	read_line(pid, "status", "State:\t", value);
	return value[0] == 'T' || value[0] == 't';
}

static void goes_on(pid_t pid, const char *name, bool stopped)
{
	char value[128];

	read_line(pid, "status", "TracerPid:\t", value);
	if (strcmp(value, "0") && strcmp(name, "tracer"))
		die(name, "still traced");
	if (stopped ? !has_state(pid, 'T') : has_stop(pid))
		die(name, "is not as it was");
	if (stopped && (kill(pid, SIGCONT) || !has_name(pid, "ready")))
		die(name, "does not continue");
	if (kill(pid, SIGUSR1) || !has_name(pid, "alive-1"))
		die(name, "does not go on");
}

static void run_case(size_t i)
{
	pid_t pid = start(cases[i].make);
	bool stopped = !strcmp(cases[i].name, "stopped");

	if (stopped ? !has_state(pid, 'T') : !has_name(pid, "ready")) {
		printf("%s: not on this machine\n", cases[i].name);
	} else {
		refuse(pid, cases[i].name, cases[i].words);
		goes_on(pid, cases[i].name, stopped);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* The parent of a vfork waits where no signal reaches it, and its child has its memory. */
static void vforked(void)
{
	pid_t pid = fork(), child = 0;
	char line[128] = "";
	int i;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0U, 0);
		if (vfork() == 0) {
			syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				syscall(SYS_pause);
		}
		_exit(0);
	}
	for (i = 0; i < patience(200) && !child; i++) {
		char file[32];

		usleep(10000);
		snprintf(file, sizeof(file), "task/%d/children", pid);
		read_line(pid, file, "", line);
		child = atoi(line);
	}
	refuse(pid, "vfork's parent", "has a child");
	refuse(child, "vfork's child", "shares its memory with its parent");
	kill(child, SIGKILL);
	if (waitpid(pid, &i, 0) != pid || !WIFEXITED(i))
		die("vfork", "the parent did not go on");
}

static void *outlives(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void leader_gone(void)
{
	pid_t pid = fork();
	pthread_t t;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0U, 0);
		pthread_create(&t, NULL, outlives, NULL);
		pthread_exit(NULL);
	}
	if (!has_state(pid, 'Z'))
		die("leader gone", "it does not go");
	refuse(pid, "leader gone", "main thread has ended");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int last_task(void *opaque, pid_t tid)
{
	*(pid_t *)opaque = tid;
	return 0;
}

static void by_number(void)
{
	char comm[128];
	pid_t pid;

	refuse(getpid(), "thaw itself", "thaw itself");
	refuse(getppid(), "an ancestor", "its child");
	refuse(1 << 30, "no such process", "does not exist");
	refuse(-1, "a negative number", "not a process");
	pid = start(has_own_fs);
	if (has_name(pid, "ready")) {
		pid_t tid = 0;

		thaw_procfs_tasks(pid, last_task, &tid);
		refuse(tid, "a thread", "is a thread of process");
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	read_line(2, "comm", "", comm);
	if (!strcmp(comm, "kthreadd"))
		refuse(2, "a kernel thread", "kernel thread");
}

static void clean_up(void)
{
	rmdir(scratch);
}

int main(void)
{
	size_t i;

	setvbuf(stdout, NULL, _IONBF, 0);
	alarm(patience(120));
	strcpy(scratch, "/var/tmp/thaw-refuse-XXXXXX");
	if (!mkdtemp(scratch))
		die("scratch", strerror(errno));
	atexit(clean_up);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		run_case(i);
	vforked();
	leader_gone();
	by_number();
	while (wait(NULL) > 0) /* brothers */
		;
	return 0;
}
