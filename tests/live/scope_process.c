// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/scope_process.c - what belongs to the process: credentials, limits, directories, group, vdso */
#include "config.h" /* _GNU_SOURCE */
#include "scope.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static void status_line(const char *key, char *buf, size_t size)
{
	char line[512];
	FILE *f = fopen("/proc/thread-self/status", "r");

	CHECK(f);
	buf[0] = '\0';
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			snprintf(buf, size, "%s", line);
	fclose(f);
	CHECK(buf[0]);
}

static const char *const keys[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",
				    "NoNewPrivs:", "Umask:" };
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

static void remember_status(char (*v)[512])
{
	for (int i = 0; i < KEYS; i++)
		status_line(keys[i], v[i], 512);
}

static void check_status(char (*v)[512])
{
	char now[512];

	for (int i = 0; i < KEYS; i++) {
		status_line(keys[i], now, sizeof(now));
		if (strcmp(now, v[i]))
			fprintf(stderr, "was %snow %s", v[i], now);
		CHECK(!strcmp(now, v[i]));
	}
}

static volatile bool stop;

static void *watch_status(void *arg)
{
	static __thread char v[KEYS][512];

	remember_status(v);
	*(volatile bool *)arg = true;
	while (!stop)
		usleep(1000);
	check_status(v);
	return NULL;
}

/* Somebody who was root and is not any more, with one capability kept. */
static void run_user(void)
{
	static char v[KEYS][512];
	static const gid_t groups[] = { 65534, 100, 7 };
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { .effective = 1 << CAP_NET_RAW, .permitted = 1 << CAP_NET_RAW,
						    .inheritable = 1 << CAP_NET_RAW } };
	volatile bool ready = false;
	pthread_t t;

	CHECK(!geteuid());
	CHECK(!prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE) && !prctl(PR_SET_KEEPCAPS, 1));
	CHECK(!setgroups(3, groups) && !setresgid(65534, 65534, 100) && !setresuid(65534, 65534, 65533));
	CHECK(!syscall(SYS_capset, &head, caps) && !prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_DUMPABLE, 1));
	umask(027);
	CHECK(!pthread_create(&t, NULL, watch_status, (void *)&ready));
	while (!ready)
		usleep(1000);
	remember_status(v);
	scope_point();
	check_status(v);
	CHECK_IS(prctl(PR_GET_DUMPABLE), 1);
	CHECK(setuid(0) < 0 && errno == EPERM);
	stop = true;
	CHECK(!pthread_join(t, NULL));
}

/* root, but of no use: the capabilities gone, and not dumpable. */
static void run_powerless(void)
{
	static char v[KEYS][512];
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { 0 } };

	CHECK(!geteuid() && !syscall(SYS_capset, &head, caps) && !prctl(PR_SET_DUMPABLE, 0));
	remember_status(v);
	scope_point();
	check_status(v);
	CHECK_IS(prctl(PR_GET_DUMPABLE), 0);
}

static void run_limits(void)
{
	struct rlimit l, files = { 77, 1234 }, stack, core = { 0, 0 };

	CHECK(!getrlimit(RLIMIT_STACK, &stack));
	stack.rlim_cur = 5 << 20;
	CHECK(!setrlimit(RLIMIT_NOFILE, &files) && !setrlimit(RLIMIT_CORE, &core) && !setrlimit(RLIMIT_STACK, &stack));
	scope_point();
	CHECK(!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur == 77 && l.rlim_max == 1234);
	CHECK(!getrlimit(RLIMIT_CORE, &l) && l.rlim_cur == 0 && l.rlim_max == 0);
	CHECK(!getrlimit(RLIMIT_STACK, &l) && l.rlim_cur == stack.rlim_cur && l.rlim_max == stack.rlim_max);
}

static void run_directories(void)
{
	char cwd[PATH_MAX], now[PATH_MAX], exe[PATH_MAX], exe_now[PATH_MAX];
	ssize_t n;

	CHECK(!chdir("/usr/share") && getcwd(cwd, sizeof(cwd)));
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	CHECK(n > 0);
	exe[n] = '\0';
	umask(0137);
	scope_point();
	CHECK(getcwd(now, sizeof(now)) && !strcmp(cwd, now));
	n = readlink("/proc/self/exe", exe_now, sizeof(exe_now) - 1);
	CHECK(n > 0);
	exe_now[n] = '\0';
	CHECK(!strcmp(exe, exe_now));
	CHECK_IS(umask(0), 0137);
}

static void slurp(const char *name, char *buf, size_t size)
{
	FILE *f = fopen(name, "r");

	CHECK(f);
	memset(buf, 0, size);
	CHECK(fread(buf, 1, size - 1, f) > 0);
	fclose(f);
}

/* What /proc and the program's own tables say of it. */
static void run_identity(void)
{
	static char cmdline[4096], environ_[65536], auxv[4096], now[65536];
	pid_t pid = getpid(), sid = getsid(0), pgid = getpgrp();
	unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
	struct timespec a, b;

	slurp("/proc/self/cmdline", cmdline, sizeof(cmdline));
	slurp("/proc/self/environ", environ_, sizeof(environ_));
	slurp("/proc/self/auxv", auxv, sizeof(auxv));
	CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 1) && !prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	scope_point();
	CHECK_IS(getpid(), pid);
	CHECK_IS(getpgrp() == getpid(), pgid == pid);
	CHECK_IS(getsid(0) == getpid(), sid == pid);
	slurp("/proc/self/cmdline", now, sizeof(cmdline));
	CHECK(!memcmp(cmdline, now, sizeof(cmdline)));
	slurp("/proc/self/environ", now, sizeof(now));
	CHECK(!memcmp(environ_, now, sizeof(now)));
	slurp("/proc/self/auxv", now, sizeof(auxv));
	CHECK(!memcmp(auxv, now, sizeof(auxv)));
	CHECK_IS(getauxval(AT_SYSINFO_EHDR), vdso);
	CHECK(!memcmp((void *)vdso, "\177ELF", 4));
	/* Through the vdso and through the kernel: one clock. */
	CHECK(!clock_gettime(CLOCK_MONOTONIC, &a) && !syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b));
	CHECK(a.tv_sec <= b.tv_sec && b.tv_sec - a.tv_sec <= 1);
	int on = 0;
	CHECK(!prctl(PR_GET_CHILD_SUBREAPER, &on) && on == 1);
	CHECK_IS(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
}

/* Locked securebits stood in the way of what a restore needs of them meanwhile; speculation control was forgotten. */
static void run_locked_bits(void)
{
	const int bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
			 SECBIT_KEEP_CAPS_LOCKED;
	int spec[2];

	for (int i = 0; i < 2; i++) { /* a CPU or kernel without it refuses */
		prctl(PR_SET_SPECULATION_CTRL, i, PR_SPEC_DISABLE, 0, 0);
		spec[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
	}
	CHECK(!prctl(PR_SET_SECUREBITS, bits));
	CHECK(!setresuid(1234, 1235, 1236));
	scope_point();
	CHECK_IS(prctl(PR_GET_SECUREBITS), bits);
	for (int i = 0; i < 2; i++)
		CHECK_IS(prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0), spec[i]);
}

/* What was lost without a word: the filter of core files, and that all memory may be merged with equal pages. */
static void run_memory_flags(void)
{
	static const char filter[] = "0x7f\n";
	char now[64];
	int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC), merge;

	CHECK(fd >= 0 && write(fd, filter, strlen(filter)) == (ssize_t)strlen(filter));
	close(fd);
	merge = prctl(67 /* PR_SET_MEMORY_MERGE, Linux 6.4 */, 1, 0, 0, 0);
	scope_point();
	slurp("/proc/self/coredump_filter", now, sizeof(now));
	CHECK(!strcmp(now, "0000007f\n"));
	if (!merge)
		CHECK_IS(prctl(68, 0, 0, 0, 0), 1);
}

/* Of NUMA nodes there may be one only; the policy is a policy all the same. */
static int own_policy(void)
{
	int mode = -1;

	syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0);
	return mode;
}

static void *watch_policy(void *arg)
{
	unsigned long nodes[16] = { 1 }, now[16];
	int mode;

	CHECK(!syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, nodes, 1025));
	*(volatile bool *)arg = true;
	while (!stop)
		usleep(1000);
	CHECK(!syscall(SYS_get_mempolicy, &mode, now, 1025, NULL, 0));
	CHECK_IS(mode, MPOL_INTERLEAVE);
	CHECK(!memcmp(now, nodes, sizeof(now)));
	return NULL;
}

static void run_memory_policy(void)
{
	unsigned long nodes[16] = { 1 };
	volatile bool ready = false;
	pthread_t t;
	bool has = !syscall(SYS_set_mempolicy, MPOL_BIND | MPOL_F_STATIC_NODES, nodes, 1025);

	CHECK(has || errno == ENOSYS);
	if (has) {
		CHECK(!pthread_create(&t, NULL, watch_policy, (void *)&ready));
		while (!ready)
			usleep(1000);
	}
	scope_point();
	if (!has)
		return;
	CHECK_IS(own_policy(), MPOL_BIND | MPOL_F_STATIC_NODES);
	stop = true;
	CHECK(!pthread_join(t, NULL));
}

const struct scope_item scope_process[] = {
	{ "user", run_user },
	{ "powerless", run_powerless },
	{ "limits", run_limits },
	{ "directories", run_directories },
	{ "identity", run_identity },
	{ "locked-bits", run_locked_bits },
	{ "memory-flags", run_memory_flags },
	{ "memory-policy", run_memory_policy },
	{ 0 },
};
