// SPDX-License-Identifier: LGPL-2.1-or-later
/* criu.c - a redis-server that CRIU has dumped, restored with `criu restore --lazy-pages`: beside CRIU's own daemon and beside
 * thaw lazy-pages, in turns, while one client asks for random keys */
#include "config.h"
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VALUE 1000          /* bytes of a value; redis needs about 80 more for a key */
#define MOST_GETS (1 << 21)
#define GIVE_UP_NS (120 * 1000000000ULL)

static char top[32], image[64], work[64], address[64];
static unsigned keys;
static pid_t redis; /* for the end: dumped or restored */

/* ---- programs ---------------------------------------------------------------------------------------------------- */
/* status_fd: what the program knows as descriptor 3. Its own words go to work/NAME.out. */
static pid_t spawn(const char *const argv[], const char *name, int status_fd)
{
	char path[128];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s.out", work, name);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR), out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		if (strcmp(name, "redis")) /* it would be restored as well, and end the server with criu restore */
			prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 0);
		dup2(!strcmp(name, "redis") ? null : out, 1);
		dup2(!strcmp(name, "redis") ? null : out, 2);
		if (status_fd >= 0 && dup2(status_fd, 3) < 0)
			_exit(127);
		close_range(status_fd >= 0 ? 4 : 3, ~0U, 0);
		setsid();
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0)
		die("fork: %s", strerror(errno));
	return pid;
}

/* The line of a log that tells why, for die(). */
static const char *reason(const char *name)
{
	static char line[512];
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", work, name);
	f = fopen(path, "r");
	snprintf(line, sizeof(line), "no word in its log");
	while (f && fgets(line, sizeof(line), f) && !strstr(line, "Error"))
		;
	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

static bool ended(pid_t pid, int *status, double *cpu, bool wait)
{
	struct rusage u;

	if (wait4(pid, status, wait ? 0 : WNOHANG, &u) != pid)
		return false;
	*cpu = u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
	return true;
}

static void finish(pid_t pid, const char *what, const char *log)
{
	double cpu;
	int status;

	if (!ended(pid, &status, &cpu, true) || !WIFEXITED(status) || WEXITSTATUS(status))
		die("%s failed: %s", what, reason(log));
}

static void nap(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

/* ---- the client -------------------------------------------------------------------------------------------------- */
static int call(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, address);
	if (fd < 0 || !connect(fd, (void *)&a, sizeof(a)))
		return fd;
	close(fd);
	return -1;
}

/* Sends a request and reads its whole answer: a line, or with $N a line and N bytes more. Its length, or -1. */
static ssize_t ask(int fd, char *answer, size_t max, const char *fmt, ...)
{
	char request[128];
	ssize_t n, have = 0, want = 0;
	va_list ap;

	va_start(ap, fmt);
	n = vsnprintf(request, sizeof(request), fmt, ap);
	va_end(ap);
	if (write(fd, request, n) != n)
		return -1;
	while (!want || have < want) {
		char *end;

		n = read(fd, answer + have, max - 1 - have);
		if (n <= 0)
			return -1;
		have += n;
		answer[have] = '\0';
		end = strstr(answer, "\r\n");
		if (end && !want)
			want = answer[0] == '$' && answer[1] != '-' ? end + 2 - answer + atol(answer + 1) + 2 : end + 2 - answer;
	}
	return have;
}

static uint64_t get(int fd, unsigned key)
{
	char answer[VALUE + 64], want[32];
	uint64_t t0 = now_ns();
	const char *at;

	if (ask(fd, answer, sizeof(answer), "GET key:%u\r\n", key) < 0)
		die("the restored redis-server closes the connection");
	t0 = now_ns() - t0;
	at = strstr(answer, "\r\n");
	snprintf(want, sizeof(want), "value:%u", key);
	if (!at || strncmp(at + 2, want, strlen(want)))
		die("the restored redis-server holds something else at key:%u", key);
	return t0;
}

/* ---- what is restored -------------------------------------------------------------------------------------------- */
static bool is_free(pid_t pid)
{
	waitpid(-1, NULL, WNOHANG); /* what was restored is ours to reap */
	return kill(pid, 0) && errno == ESRCH;
}

static void await_free(pid_t pid)
{
	uint64_t begun = now_ns();

	while (!is_free(pid)) {
		if (now_ns() - begun > GIVE_UP_NS)
			die("process %d does not end", pid);
		nap(2000);
	}
}

static pid_t make_image(const struct bench *b)
{
	const char *server[] = { "redis-server", "--port", "0", "--unixsocket", address, "--save", "", "--dir", work,
				 "--enable-debug-command", "yes", NULL };
	char pid_text[16], answer[256];
	const char *dump[] = { b->criu, "dump", "-t", pid_text, "-D", image, "-W", work, "-o", "dump.log", "-v4", NULL };
	uint64_t begun = now_ns();
	pid_t pid;
	int fd;

	redis = pid = spawn(server, "redis", -1);
	while ((fd = call()) < 0) {
		if (waitpid(pid, NULL, WNOHANG) == pid || now_ns() - begun > GIVE_UP_NS)
			die("redis-server (7 or later) cannot be started");
		nap(5000);
	}
	keys = b->size / (VALUE + 80);
	if (ask(fd, answer, sizeof(answer), "DEBUG POPULATE %u key %u\r\n", keys, VALUE) < 0 || answer[0] != '+')
		die("redis-server takes no data: %s", answer);
	close(fd);
	snprintf(pid_text, sizeof(pid_text), "%d", (int)pid);
	finish(spawn(dump, "dump", -1), "criu dump", "dump.log");
	await_free(pid);
	redis = 0;
	return pid;
}

static void for_images(bool cold)
{
	char path[512];
	struct dirent *e;
	DIR *d = opendir(image);

	while (d && (e = readdir(d))) {
		int fd;

		snprintf(path, sizeof(path), "%s/%s", image, e->d_name);
		fd = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		fdatasync(fd);
		if (cold) {
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		} else {
			static char buffer[1 << 20];

			while (read(fd, buffer, sizeof(buffer)) > 0)
				;
		}
		close(fd);
	}
	closedir(d);
}

enum where { WARM, COLD, REMOTE };
static const char *const wheres[] = { "warm", "cold", "remote" };

/* Starts something that says with a byte on descriptor 3 that it is ready. */
static pid_t start_ready(const char *const argv[], const char *name)
{
	struct pollfd p;
	int fds[2];
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	pid = spawn(argv, name, fds[1]);
	close(fds[1]);
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	if (poll(&p, 1, 60000) != 1 || read(fds[0], &byte, 1) != 1)
		die("%s does not get ready: %s", name, reason(!strcmp(name, "daemon") ? "daemon.log" : "server.out"));
	close(fds[0]);
	return pid;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void put(enum where where, const char *who, const char *what, const char *unit, double value)
{
	char key[48];

	snprintf(key, sizeof(key), "criu.%s.%s.%s", wheres[where], who, what);
	figure(key, unit, LOWER, value);
}

static void restore_beside(struct bench *b, enum where where, bool thaw, pid_t pid, unsigned seed)
{
	const char *who = thaw ? "thaw" : "criu", *program = thaw ? b->program : b->criu;
	const char *daemon[] = { program, "lazy-pages", "-D", image, "-W", work, "-o", "daemon.log", "--status-fd", "3",
				 where == REMOTE ? "--page-server" : NULL, "--address", "127.0.0.1", "--port", "27123", NULL };
	const char *server[] = { b->program, "page-server", "-D", image, "--address", "127.0.0.1", "--port", "27123",
				 "--lazy-pages", "--status-fd", "3", NULL };
	const char *restore[] = { b->criu, "restore", "--lazy-pages", "-d", "-D", image, "-W", work, "-o", "restore.log", NULL };
	static uint64_t took[MOST_GETS];
	uint64_t t0, t;
	pid_t daemon_pid, server_pid = 0, restore_pid;
	unsigned n = 0;
	double cpu = 0, ignored;
	int fd, status = 0;
	char answer[64];

	for_images(where == COLD);
	if (where == REMOTE)
		server_pid = start_ready(server, "server");
	daemon_pid = start_ready(daemon, "daemon");
	t0 = now_ns();
	redis = pid;
	restore_pid = spawn(restore, "restore", -1);
	while ((fd = call()) < 0 || ask(fd, answer, sizeof(answer), "PING\r\n") < 0) {
		int s;

		if (fd >= 0) /* it was not the server's socket yet */
			close(fd);

		if (restore_pid && ended(restore_pid, &s, &ignored, false)) {
			restore_pid = 0;
			if (!WIFEXITED(s) || WEXITSTATUS(s))
				die("criu restore --lazy-pages failed beside %s: %s", who, reason("restore.log"));
		}
		if (now_ns() - t0 > GIVE_UP_NS)
			die("beside %s the restored redis-server does not answer", who);
		nap(200);
	}
	put(where, who, "first_ping", "ms", (now_ns() - t0) / 1e6);
	srandom(seed);
	get(fd, random() % keys);
	put(where, who, "first_get", "ms", (now_ns() - t0) / 1e6);
	for (;;) {
		t = get(fd, random() % keys);
		if (n < MOST_GETS)
			took[n++] = t;
		if (n % 16 == 0 && ended(daemon_pid, &status, &cpu, false))
			break;
		if (now_ns() - t0 > GIVE_UP_NS)
			die("the daemon of %s does not end", who);
	}
	put(where, who, "all_in", "ms", (now_ns() - t0) / 1e6);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("the daemon of %s failed: %s", who, reason("daemon.log"));
	qsort(took, n, sizeof(took[0]), compare);
	put(where, who, "get_p50", "us", took[n / 2] / 1e3);
	put(where, who, "get_p99", "us", took[n * 99UL / 100] / 1e3);
	put(where, who, "cpu", "s", cpu);
	close(fd);
	if (restore_pid)
		finish(restore_pid, "criu restore --lazy-pages", "restore.log");
	kill(pid, SIGKILL);
	await_free(pid);
	redis = 0;
	if (server_pid) {
		kill(server_pid, SIGTERM);
		ended(server_pid, &status, &ignored, true);
	}
}

static void clean_up(void)
{
	char command[64];

	if (redis > 0)
		kill(redis, SIGKILL);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	if (top[0] && system(command))
		fprintf(stderr, "thaw-bench: %s is left over\n", top);
}

/* A --thaw of another version may have no page server: then nothing is said of remote pages. */
static bool can_serve(const struct bench *b)
{
	const char *help[] = { b->program, "page-server", "--help", NULL };
	double ignored;
	int status;

	return ended(spawn(help, "server", -1), &status, &ignored, true) && WIFEXITED(status) && !WEXITSTATUS(status);
}

void measure_criu(struct bench *b)
{
	pid_t pid;

	if (!b->program)
		die("--criu needs the thaw program: --thaw FILE");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	strcpy(top, "/var/tmp/thaw-bench-XXXXXX");
	if (!mkdtemp(top))
		die("%s: %s", top, strerror(errno));
	atexit(clean_up);
	snprintf(image, sizeof(image), "%s/image", top);
	snprintf(work, sizeof(work), "%s/work", top);
	snprintf(address, sizeof(address), "%s/redis", top);
	if (mkdir(image, 0700) || mkdir(work, 0700))
		die("%s: %s", top, strerror(errno));
	pid = make_image(b);
	for (unsigned i = 0; i < b->rounds; i++)
		for (enum where where = WARM; where <= (can_serve(b) ? REMOTE : COLD); where++)
			for (unsigned turn = 0; turn < 2; turn++) /* nobody is always the first */
				restore_beside(b, where, (turn + i) % 2, pid, i + 1);
}
