// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/support/live.c - workers with missing memory, and known content */
#include "config.h"
#include "live.h"
#include "support/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void live_fill(void *page, uint64_t seed, uint64_t addr, uint64_t version)
{
	uint64_t *w = page, x = mix(seed * 0x9e3779b97f4a7c15ULL + addr + version * 0x1000193ULL);

	for (unsigned i = 0; i < LIVE_PAGE / 8; i++) {
		x += 0x9e3779b97f4a7c15ULL;
		w[i] = x ^ (x >> 29);
	}
}

bool live_moved_is(uint64_t addr, uint64_t pattern_addr, uint64_t pages, uint64_t seed, uint64_t version)
{
	unsigned char want[LIVE_PAGE];

	for (uint64_t i = 0; i < pages; i++) {
		const unsigned char *have = (const unsigned char *)(uintptr_t)(addr + i * LIVE_PAGE);

		live_fill(want, seed, pattern_addr + i * LIVE_PAGE, version);
		if (!memcmp(have, want, LIVE_PAGE))
			continue;
		for (unsigned k = 0; k < LIVE_PAGE; k++) {
			if (have[k] == want[k])
				continue;
			fprintf(stderr, "page %#llx (%llu of %llu, should be version %llu of %#llx): byte %u is %02x, should be"
				" %02x\n", (unsigned long long)(addr + i * LIVE_PAGE), (unsigned long long)i,
				(unsigned long long)pages, (unsigned long long)version,
				(unsigned long long)(pattern_addr + i * LIVE_PAGE), k, have[k], want[k]);
			break;
		}
		return false;
	}
	return true;
}

bool live_is(uint64_t addr, uint64_t pages, uint64_t seed, uint64_t version)
{
	return live_moved_is(addr, addr, pages, seed, version);
}

bool live_is_zero(uint64_t addr, uint64_t pages)
{
	static const unsigned char zero[LIVE_PAGE];

	for (uint64_t i = 0; i < pages; i++) {
		if (!memcmp((void *)(uintptr_t)(addr + i * LIVE_PAGE), zero, LIVE_PAGE))
			continue;
		fprintf(stderr, "page %#llx should be zero\n", (unsigned long long)(addr + i * LIVE_PAGE));
		return false;
	}
	return true;
}

bool live_finds_zero(uint64_t addr, uint64_t pages)
{
	for (uint64_t i = pages / 2; i < pages; i++)
		*(volatile char *)(uintptr_t)(addr + i * LIVE_PAGE + 7) = 1;
	for (uint64_t i = pages / 2; i < pages; i++) {
		volatile char *mine = (volatile char *)(uintptr_t)(addr + i * LIVE_PAGE + 7);

		if (*mine != 1)
			return false;
		*mine = 0;
	}
	return live_is_zero(addr, pages);
}

uint64_t live_random(uint64_t *state)
{
	return mix(*state += 0x9e3779b97f4a7c15ULL);
}

void live_shuffle(uint32_t *v, unsigned n, uint64_t seed)
{
	for (unsigned i = 0; i < n; i++)
		v[i] = i;
	for (unsigned i = n; i > 1; i--) {
		unsigned j = live_random(&seed) % i;
		uint32_t t = v[i - 1];

		v[i - 1] = v[j];
		v[j] = t;
	}
}

static void send_fd(int sock, int fd)
{
	char byte = 'u', control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sock, &msg, 0) != 1)
		LIVE_DIE("sendmsg: %s", strerror(errno));
}

static int receive_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		LIVE_DIE("the worker sent no userfaultfd");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static _Noreturn void be_worker(pid_t test, int sock, const struct thaw_range *r, size_t n, bool reg, live_fn *fn, void *arg)
{
	char byte;
	int uffd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != test)
		_exit(99);
	uffd = thaw_uffd_open();
	if (uffd < 0)
		LIVE_DIE("%s", thaw_get_error());
	for (size_t i = 0; i < n; i++) {
		struct uffdio_register u = { .range = { r[i].address, r[i].length }, .mode = UFFDIO_REGISTER_MODE_MISSING };
		void *want = (void *)(uintptr_t)r[i].address;

		if (mmap(want, r[i].length, r[i].prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1,
			 0) != want)
			LIVE_DIE("mmap %p: %s", want, strerror(errno));
		madvise(want, r[i].length, MADV_NOHUGEPAGE);
		if (r[i].flags & THAW_RANGE_WIPEONFORK && madvise(want, r[i].length, MADV_WIPEONFORK))
			LIVE_DIE("MADV_WIPEONFORK: %s", strerror(errno));
		if (r[i].flags & THAW_RANGE_DONTFORK && madvise(want, r[i].length, MADV_DONTFORK))
			LIVE_DIE("MADV_DONTFORK: %s", strerror(errno));
		if (reg && ioctl(uffd, UFFDIO_REGISTER, &u))
			LIVE_DIE("UFFDIO_REGISTER: %s", strerror(errno));
	}
	send_fd(sock, uffd);
	close(uffd); /* the monitor's is to be the only one: it ends the matter by closing it */
	if (read(sock, &byte, 1) != 1)
		_exit(98);
	alarm(patience(120));
	exit(fn(arg, sock));
}

static void start(struct live *l, const struct thaw_range *ranges, size_t n, bool reg, live_fn *fn, void *arg)
{
	pid_t test = getpid();
	int s[2];

	fflush(NULL);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		LIVE_DIE("socketpair: %s", strerror(errno));
	l->pid = fork();
	if (l->pid < 0)
		LIVE_DIE("fork: %s", strerror(errno));
	if (!l->pid) {
		close(s[0]);
		be_worker(test, s[1], ranges, n, reg, fn, arg);
	}
	close(s[1]);
	l->sock = s[0];
	l->uffd = receive_fd(l->sock);
	l->pidfd = syscall(SYS_pidfd_open, l->pid, 0);
}

void live_start(struct live *l, const struct thaw_range *ranges, size_t n, live_fn *fn, void *arg)
{
	start(l, ranges, n, true, fn, arg);
}

void live_start_unregistered(struct live *l, const struct thaw_range *ranges, size_t n, live_fn *fn, void *arg)
{
	start(l, ranges, n, false, fn, arg);
}

void live_go(struct live *l)
{
	if (write(l->sock, "g", 1) != 1)
		LIVE_DIE("the worker is gone before it began");
}

int live_end(struct live *l)
{
	int status = 0;

	if (waitpid(l->pid, &status, 0) != l->pid)
		LIVE_DIE("waitpid: %s", strerror(errno));
	close(l->sock);
	close(l->pidfd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void live_kill(struct live *l)
{
	kill(l->pid, SIGKILL);
}

int live_file(bool disk, uint64_t seed, const struct thaw_range *ranges, size_t n, struct thaw_memfile_range *at)
{
	char name[256], page[64 * LIVE_PAGE];
	const char *dir = getenv("TMPDIR");
	uint64_t off = 0;
	int fd;

	snprintf(name, sizeof(name), "%s/thaw-live-XXXXXX", dir ? dir : "/var/tmp");
	fd = disk ? mkostemp(name, O_CLOEXEC) : memfd_create("content", MFD_CLOEXEC);
	if (fd < 0)
		LIVE_DIE("%s: %s", disk ? name : "memfd_create", strerror(errno));
	if (disk)
		unlink(name);
	for (size_t i = 0; i < n; i++) {
		at[i] = (struct thaw_memfile_range){ ranges[i].address, ranges[i].length, off };
		for (uint64_t a = 0; a < ranges[i].length;) {
			uint64_t k = 0;

			for (; k < sizeof(page) && a < ranges[i].length; k += LIVE_PAGE, a += LIVE_PAGE)
				live_fill(page + k, seed, ranges[i].address + a, 0);
			if (pwrite(fd, page, k, off) != (ssize_t)k)
				LIVE_DIE("writing content: %s", strerror(errno));
			off += k;
		}
	}
	return fd;
}

/* Pages of the file that are in memory. */
static uint64_t resident(int fd, uint64_t pages)
{
	unsigned char *in = malloc(pages);
	void *map = mmap(NULL, pages * LIVE_PAGE, PROT_READ, MAP_SHARED, fd, 0);
	uint64_t n = 0;

	if (!in || map == MAP_FAILED || mincore(map, pages * LIVE_PAGE, in))
		LIVE_DIE("mincore: %s", strerror(errno));
	for (uint64_t i = 0; i < pages; i++)
		n += in[i] & 1;
	munmap(map, pages * LIVE_PAGE);
	free(in);
	return n;
}

/* The kernel leaves a page that somebody looks at just now, and says nothing: it is asked again for a while. */
bool live_make_cold(int fd)
{
	uint64_t pages = lseek(fd, 0, SEEK_END) / LIVE_PAGE;

	for (unsigned i = 0; i < 100; i++) {
		fdatasync(fd);
		if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
			LIVE_DIE("posix_fadvise");
		if (resident(fd, pages) <= pages / 10)
			return true;
		usleep(10000);
	}
	return false;
}

static void log_line(void *opaque, enum thaw_log_level level, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

/* THAW_TEST_NUMBERING: 1 on, 0 off, -1 nothing is said */
static int numbering(void)
{
	const char *how = getenv("THAW_TEST_NUMBERING");

	return !how || !*how ? -1 : !strcmp(how, "on") ? 1 : 0;
}

/* Makes and closes a userfaultfd as the library wants it. */
bool live_numbers(void)
{
	static int known = -1;
	char path[64], line[256];
	FILE *f;
	int fd;

	if (known >= 0)
		return known;
	fd = thaw_uffd_open(); /* if it fails, the worker's will, too, and that says so */
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	known = 0;
	while (f && fgets(line, sizeof(line), f))
		known |= !strncmp(line, "events:", 7);
	if (f)
		fclose(f);
	if (fd >= 0)
		close(fd);
	if (!known && numbering() > 0)
		LIVE_DIE("THAW_TEST_NUMBERING=on, and this kernel does not number its messages");
	known &= numbering() != 0;
	return known;
}

struct thaw *live_monitor(enum thaw_io io, unsigned copiers, enum thaw_background policy)
{
	struct thaw *h = thaw_create();

	if (!h)
		LIVE_DIE("%s", thaw_get_error());
	LIVE_OK(thaw_set_io(h, io));
	LIVE_OK(thaw_set_copiers(h, copiers));
	LIVE_OK(thaw_set_background(h, policy, 0));
	LIVE_OK(thaw_set_numbering(h, live_numbers()));
	LIVE_OK(thaw_set_log(h, log_line, NULL, getenv("LIVE_VERBOSE") ? THAW_LOG_DEBUG : THAW_LOG_ERROR));
	return h;
}

int64_t live_add(struct thaw *h, const struct live *l, struct thaw_source *s, const struct thaw_range *ranges, size_t n)
{
	struct thaw_space d = {
		.size = sizeof(d), .uffd = l->uffd, .pidfd = l->pidfd, .source = s, .ranges = ranges, .n_ranges = n,
	};
	int64_t id = thaw_add_space(h, &d);

	LIVE_OK(id);
	return id;
}

struct thaw_stats live_stats(struct thaw *h, int64_t space)
{
	struct thaw_stats st = { .size = sizeof(st) };

	LIVE_OK(thaw_get_stats(h, space, &st));
	return st;
}
