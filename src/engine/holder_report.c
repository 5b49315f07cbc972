// SPDX-License-Identifier: LGPL-2.1-or-later
/* engine/holder_report.c - which processes wait for memory when their monitor has died, in one line */
#include "config.h"
#include "core/pagemap.h"
#include "engine/holder_impl.h"
#include "kern/keep.h"
#include "util/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 2048

/* In static storage: the holder has one thread, and a stack that it does not want to rely on. */
static struct {
	const struct thaw_holder_args *args;
	uint64_t born; /* our own start time: whoever was forked off since is younger */
	int pids[MOST];
	unsigned n;
	int known[MOST]; /* children that were found */
	unsigned n_known;
	int fds[MOST]; /* our userfaultfds */
	unsigned n_fds;
	unsigned n_kept; /* connections to page servers */
	char text[65536];
	size_t at;
	char smaps[65536];
} r;

struct range {
	uint64_t start, end;
};

static uint64_t hex(const char **at)
{
	uint64_t value = 0;

	for (;; ++*at) {
		char c = **at;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint64_t)(c - 'a' + 10);
		else
			return value;
	}
}

/* One line of smaps: a mapping begins, or its flags end it. True: it reaches behind `from`, has the flag, and lacks the other, if any. */
static bool flagged_line(const char *line, size_t len, const char *flag, const char *lacks, uint64_t from, struct range *v)
{
	if (len > 8 && !memcmp(line, "VmFlags:", 8))
		return v->end > from && memmem(line, len, flag, 3) && !(lacks && memmem(line, len, lacks, 3));
	if ((*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f')) {
		v->start = hex(&line);
		line++;
		v->end = hex(&line);
	}
	return false;
}

/* A file of /proc. What fails for want of something else than the process or leave to look at it is tried again: it must not
 * pass for a process that does not wait. */
static int open_file(int pid, const char *name)
{
	char path[40];
	int fd = -1;

	thaw_holder_path(path, "/proc/", pid, name);
	for (unsigned i = 0; i < 100; i++) {
		fd = THAW_INJECT_ERRNO("holder.open") ? -1 : syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 || errno == ENOENT || errno == ESRCH || errno == EACCES || errno == EPERM)
			break;
		syscall(SYS_poll, NULL, 0, 1);
	}
	return fd;
}

/* The first mapping of the process that reaches behind `from` and has a flag of VmFlags, as " um", and not the other. */
static bool find_flagged(int pid, const char *flag, const char *lacks, uint64_t from, struct range *v)
{
	size_t have = 0;
	bool found = false;
	long n;
	int fd;

	fd = open_file(pid, "/smaps");
	if (fd < 0)
		return false;
	v->start = v->end = 0;
	while (!found && (n = syscall(SYS_read, fd, r.smaps + have, sizeof(r.smaps) - have)) > 0) {
		char *line = r.smaps, *end = r.smaps + have + n, *nl;

		for (; !found && (nl = memchr(line, '\n', end - line)); line = nl + 1)
			found = flagged_line(line, nl - line, flag, lacks, from, v);
		have = end - line;
		memmove(r.smaps, line, have);
		if (have == sizeof(r.smaps))
			have = 0; /* a line without an end is none of ours */
	}
	syscall(SYS_close, fd);
	return found;
}

/* Does the process have memory whose missing pages a userfaultfd serves? False also when it cannot be seen. */
static bool has_missing(int pid)
{
	struct range v;

	return find_flagged(pid, " um", NULL, 0, &v);
}

static bool watch_writes(int fd, uint64_t addr)
{
	struct uffdio_register reg = { .range = { addr, THAW_PAGE_SIZE }, .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP };

	return syscall(SYS_ioctl, fd, UFFDIO_REGISTER, &reg) == 0;
}

static int note_fd(void *opaque, int fd)
{
	if (r.n_fds < MOST && thaw_holder_is_uffd(fd))
		r.fds[r.n_fds++] = fd;
	r.n_kept += thaw_keep_has(fd);
	return 0;
}

/* Is anything of the userfaultfd's process registered there? It may be another process, and what lies at that address its own affair,
 * which registering would make ours. CONTINUE has no effect on private memory, but says ENOENT first where nothing is
 * registered. A change that nobody reads of any more keeps it from being answered: then it may be. */
static bool may_be_registered(int fd, uint64_t addr)
{
	struct uffdio_continue c = { .range = { addr, THAW_PAGE_SIZE } };
	unsigned i;

	for (i = 0; i < 20; i++) {
		if (syscall(SYS_ioctl, fd, UFFDIO_CONTINUE, &c) == 0 || errno != EAGAIN)
			return errno != ENOENT && errno != ESRCH;
		syscall(SYS_poll, NULL, 0, 1);
	}
	return true;
}

/* Found by an earlier look: each takes another page. */
static bool is_known(int pid)
{
	unsigned i;

	for (i = 0; i < r.n_known; i++)
		if (r.known[i] == pid)
			return true;
	return false;
}

/* Nothing tells which process a userfaultfd is for. So each of ours is asked to watch writes too, to a page of the process's own that
 * nobody watches: when the process then shows it, it is this one. The kernel has no way to take it back but to give up the
 * page; no write is held up by it, since no page is write-protected. Each holder chooses its own page, since others may be
 * looking. */
static bool is_ours(int pid)
{
	static unsigned turn;
	struct range v, seen;
	bool ours = false;
	uint64_t addr;
	unsigned i;

	if (!find_flagged(pid, " um", " uw", 0, &v))
		return false;
	addr = v.start + ((uint64_t)syscall(SYS_getpid) * 2654435761UL + turn++) % ((v.end - v.start) / THAW_PAGE_SIZE) * THAW_PAGE_SIZE;
	for (i = 0; i < r.n_fds && !ours; i++)
		ours = may_be_registered(r.fds[i], addr) && watch_writes(r.fds[i], addr) &&
		       find_flagged(pid, " uw", NULL, addr, &seen) && seen.start <= addr;
	if (ours && r.n_known < MOST)
		r.known[r.n_known++] = pid;
	return ours;
}

/* Field 22 of stat, in clock ticks since boot; 0: the process is gone. */
static uint64_t start_time(int pid)
{
	char buf[1024], *p;
	uint64_t value = 0;
	int fd, field;
	long n;

	fd = open_file(pid, "/stat");
	if (fd < 0)
		return 0;
	n = syscall(SYS_read, fd, buf, sizeof(buf) - 1);
	syscall(SYS_close, fd);
	buf[n > 0 ? n : 0] = '\0';
	p = strrchr(buf, ')');
	for (field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	for (p = p ? p + 1 : buf + strlen(buf); *p >= '0' && *p <= '9'; p++)
		value = value * 10 + (*p - '0');
	return value;
}

/* A root counts as long as it lives: its pidfd says so even when /proc is closed to us. */
static bool is_root(int pid)
{
	int i;

	for (i = 0; i < THAW_HOLDER_SLOTS; i++) {
		const struct thaw_holder_slot *s = &r.args->page->slots[i];
		struct pollfd p = { .events = POLLIN };

		/* Acquire: pairs with the release in thaw_holder_add_pid. */
		if (__atomic_load_n(&s->pid, __ATOMIC_ACQUIRE) != pid)
			continue;
		p.fd = s->pidfd;
		return s->pidfd < 0 || syscall(SYS_poll, &p, 1, 0) == 0;
	}
	return false;
}

static bool readable(int pid)
{
	int fd = open_file(pid, "/smaps");

	if (fd >= 0)
		syscall(SYS_close, fd);
	return fd >= 0;
}

/* Children may have been forked, and may have lost their parents, without anybody telling: found by their memory. */
static int consider(void *opaque, int pid)
{
	bool waits;

	if (is_root(pid))
		waits = has_missing(pid) || !readable(pid);
	else
		waits = is_known(pid) ? has_missing(pid) : start_time(pid) >= r.born && is_ours(pid);
	if (waits && r.n < MOST)
		r.pids[r.n++] = pid;
	return 0;
}

static void add(const char *text)
{
	size_t len = strlen(text);

	if (r.at + len > sizeof(r.text))
		len = sizeof(r.text) - r.at;
	memcpy(r.text + r.at, text, len);
	r.at += len;
}

static void add_number(unsigned n)
{
	char digits[16];

	thaw_holder_path(digits, "", n, "");
	add(digits);
}

static void add_pids(const char *between)
{
	unsigned i;

	for (i = 0; i < r.n; i++) {
		if (i)
			add(between);
		add_number(r.pids[i]);
	}
}

static void write_out(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	unsigned again = 0;
	size_t done = 0;

	while (done < r.at) {
		long n;

		/* A pipe that nobody empties must not keep us from letting go of the rest. */
		if (syscall(SYS_poll, &p, 1, 5000) != 1)
			return;
		n = THAW_INJECT_ERRNO("holder.write") ? -1 :
		    syscall(SYS_write, fd, r.text + done, THAW_INJECT_SHORT("holder.write", r.at - done, 1));
		if (n < 0 && (errno == EINTR || errno == EAGAIN) && ++again < 100)
			continue;
		if (n <= 0)
			return;
		done += n;
	}
}

/* A fork whose message the monitor had read goes on by itself, and its child comes into sight a moment later: until two
 * looks, some time apart, find the same. */
static void find_waiting(void)
{
	unsigned before, tries = 0;
	bool whole;

	do {
		before = r.n;
		syscall(SYS_poll, NULL, 0, 30);
		r.n = 0;
		whole = !thaw_holder_each_number("/proc", consider, NULL);
	} while ((!whole || r.n != before || !tries) && ++tries < 30);
}

void thaw_holder_report(const struct thaw_holder_args *a)
{
	unsigned tries = 0;
	bool one;

	r.args = a;
	r.born = start_time((int)syscall(SYS_getpid));
	do
		r.n_fds = r.n_kept = 0;
	while (thaw_holder_each_number("/proc/self/fd", note_fd, NULL) && ++tries < 100);
	find_waiting();
	if (!r.n)
		return;
	one = r.n == 1;
	add("thaw: the monitor (pid ");
	add_number(a->monitor);
	add(") died; pid ");
	add_pids(", ");
	add(one ? ": waits for memory that is not in yet; end it with kill -9 " :
		  ": wait for memory that is not in yet; end them with kill -9 ");
	add_pids(" ");
	add(one ? " and restore again from its image" : " and restore again from their images");
	if (r.n_kept)
		add("; the connection to the page server is kept until then, and reset behind it: a source that is still there goes on"
		    " with its own processes");
	add("\n");
	write_out(a->log_fd);
}
