// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/test_status.c - thaw status sees a lazy restore from its beginning to its end, in every form, disturbs nothing, and is
 * for the daemon's owner only */
#include "config.h"
#include "lazy/restorer.h"

#include <fcntl.h>
#include <stddef.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define A LIVE_BASE
#define P LIVE_PAGE
#define PAGES 4096ul
#define TOUCHED 64
#define SOCKET "thaw-status.socket"

static const struct rest_vma vmas[] = { { .addr = A, .pages = PAGES } };
static const struct rest_run runs[] = { { A, PAGES, REST_LAZY } };

/* Touches some pages, reports, waits to be let on. */
static int some(const struct rest_task *t)
{
	for (uint64_t i = 0; i < TOUCHED; i++)
		if (!rest_page_is(t, A + i * 5 * P))
			return 2;
	__atomic_add_fetch((int *)&rest_words[0], 1, __ATOMIC_SEQ_CST);
	if (!rest_await(1, 1))
		return 3;
	return rest_whole(t);
}

/* ---- the command ------------------------------------------------------------------------------------------- */
static pid_t spawn(const char *out, const char *err, va_list ap)
{
	const char *argv[16] = { "thaw", "status" }, *build = getenv("THAW_BUILDDIR");
	char program[512];
	unsigned n = 2;
	pid_t pid;

	while (n < 15 && (argv[n] = va_arg(ap, const char *)))
		n++;
	snprintf(program, sizeof(program), "%s/thaw", build ? build : ".");
	fflush(NULL);
	pid = fork();
	if (!pid) {
		dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
		dup2(open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
		execv(program, (char **)argv);
		_exit(127);
	}
	return pid;
}

static int end_of(pid_t pid)
{
	int status;

	LIVE_CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct asked {
	char out[256], err[256];
	int status;
};

static void ask(struct rest *r, struct asked *a, ...)
{
	va_list ap;

	snprintf(a->out, sizeof(a->out), "%s/out", r->dir.path);
	snprintf(a->err, sizeof(a->err), "%s/err", r->dir.path);
	va_start(ap, a);
	a->status = end_of(spawn(a->out, a->err, ap));
	va_end(ap);
}

static void has(struct rest *r, const char *file, const char *words)
{
	char *text = rest_read(r, file);

	if (!strstr(text, words))
		LIVE_DIE("'%s' is not in: %s", words, text);
	free(text);
}

static unsigned long long number(struct rest *r, const char *key)
{
	struct asked a;

	ask(r, &a, "-D", r->dir.path, "--json", NULL);
	if (a.status)
		has(r, "err", "(the command has succeeded)");
	return rest_number(r, "out", key);
}

static bool is_phase(struct rest *r, const char *phase)
{
	char want[64], *text;
	struct asked a;
	bool is;

	ask(r, &a, "-D", r->dir.path, "--json", NULL);
	LIVE_CHECK(a.status == 0);
	snprintf(want, sizeof(want), "\"phase\": \"%s\"", phase);
	text = rest_read(r, "out");
	is = strstr(text, want) || (memmove(want + 8, want + 9, strlen(want + 8)), strstr(text, want));
	free(text);
	return is;
}

/* The daemon may be in the midst of it. */
static void await_phase(struct rest *r, const char *phase)
{
	const struct timespec pause = { .tv_nsec = 20000000 };

	for (unsigned i = 0; !is_phase(r, phase); i++) {
		if (i > 3000)
			has(r, "out", phase);
		nanosleep(&pause, NULL);
	}
}

/* ---- clients that do not behave ---------------------------------------------------------------------------- */
static int connected(struct rest *r)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%.80s/" SOCKET, r->dir.path);
	LIVE_CHECK(!connect(fd, (void *)&a, sizeof(a)));
	return fd;
}

static void silent_clients(struct rest *r)
{
	int fds[20], one;

	for (unsigned i = 0; i < 20; i++)
		fds[i] = connected(r);
	LIVE_CHECK(number(r, "tasks_expected") == 2);
	for (unsigned i = 0; i < 20; i++)
		close(fds[i]);
	one = connected(r); /* gone before it has been answered */
	close(one);
	LIVE_CHECK(number(r, "tasks_expected") == 2);
}

/* Another user gets no connection: the file is its owner's. */
static void strangers(struct rest *r)
{
	struct stat st;

	LIVE_CHECK(!fstatat(r->dir.fd, SOCKET, &st, AT_SYMLINK_NOFOLLOW));
	LIVE_CHECK(S_ISSOCK(st.st_mode) && (st.st_mode & 0777 & ~0700) == 0 && st.st_uid == geteuid());
}

/* ---- one restore ------------------------------------------------------------------------------------------- */
static void forms(struct rest *r)
{
	char path[256];
	struct asked a;

	ask(r, &a, "-D", r->dir.path, NULL);
	LIVE_CHECK(a.status == 0);
	has(r, "out", ": serving, for ");
	has(r, "out", "tasks    2 of 2 here; 0 of 2 address spaces done");
	has(r, "out", "of 32.0 MiB in (");
	has(r, "out", "source   local images");
	has(r, "out", "pid 71");
	snprintf(path, sizeof(path), "%s/" SOCKET, r->dir.path);
	ask(r, &a, path, "--prometheus", NULL);
	LIVE_CHECK(a.status == 0);
	has(r, "out", "\nthaw_memory_bytes 33554432\n");
	has(r, "out", "\nthaw_phase{phase=\"serving\"} 1\n");
	has(r, "out", "\nthaw_source_state{state=\"local\"} 1\n");
	has(r, "out", "\nthaw_task_memory_bytes{pid=\"72\"} 16777216\n");
	ask(r, &a, path, "-q", "-o", "/dev/full", NULL);
	LIVE_CHECK(a.status == 0);
}

/* Asked at the restorer's socket: the daemon must not be taken in. */
static void wrong_socket(struct rest *r)
{
	char path[256];
	struct asked a;

	snprintf(path, sizeof(path), "%s/lazy-pages.socket", r->dir.path);
	ask(r, &a, path, NULL);
	LIVE_CHECK(a.status == 1);
	has(r, "err", "that is where criu restore hands its processes over");
}

static pid_t watch_at(const char *out, ...)
{
	va_list ap;
	pid_t pid;

	va_start(ap, out);
	pid = spawn(out, "/dev/null", ap);
	va_end(ap);
	return pid;
}

/* On a terminal no line of the picture is longer than the terminal is wide: it would take two, and push the first ones out. */
#define COLUMNS 40
static void narrow(struct rest *r)
{
	struct winsize w = { .ws_row = 24, .ws_col = COLUMNS };
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char out[64], text[8192];
	size_t have = 0, length = 0, longest = 0;
	pid_t pid;
	ssize_t n;

	LIVE_CHECK(terminal >= 0 && !grantpt(terminal) && !unlockpt(terminal) && !ptsname_r(terminal, out, sizeof(out)) &&
		   !ioctl(terminal, TIOCSWINSZ, &w));
	pid = watch_at(out, "--watch", "-D", r->dir.path, NULL);
	do {
		n = read(terminal, text + have, sizeof(text) - 1 - have);
		have += n > 0 ? n : 0;
		text[have] = '\0';
	} while (n > 0 && have < sizeof(text) - 1 && !strstr(text, "child of") && !strstr(text, "pid 72"));
	kill(pid, SIGTERM);
	LIVE_CHECK(end_of(pid) == 0 && strstr(text, "tasks"));
	for (const char *c = text; *c; c++) {
		if (*c == '\033') { /* ESC [ letter */
			c += 2;
			continue;
		}
		length = *c == '\n' || *c == '\r' ? 0 : length + 1;
		longest = length > longest ? length : longest;
	}
	LIVE_CHECK(longest == COLUMNS);
	close(terminal);
}

static pid_t watch(struct rest *r, ...)
{
	char out[256], err[256];
	va_list ap;
	pid_t pid;

	snprintf(out, sizeof(out), "%s/watched", r->dir.path);
	snprintf(err, sizeof(err), "%s/watched.err", r->dir.path);
	va_start(ap, r);
	pid = spawn(out, err, ap);
	va_end(ap);
	return pid;
}

/* It has looked once. */
static void await_watcher(struct rest *r)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	unsigned i = 0;
	bool seen;

	do {
		char *text = rest_read(r, "watched");

		seen = strchr(text, '\n');
		free(text);
		nanosleep(&pause, NULL);
	} while (!seen && i++ < 3000);
	LIVE_CHECK(seen);
}

static void one_restore(struct rest *r)
{
	struct asked a;
	pid_t watching;

	LIVE_CHECK(rest_daemon(r, "--stay-lazy", "--read-around", "0", NULL));
	strangers(r);
	LIVE_CHECK(is_phase(r, "listening"));
	LIVE_CHECK(number(r, "tasks_expected") == 2 && number(r, "tasks_arrived") == 0);
	wrong_socket(r);
	silent_clients(r);
	watching = watch(r, "--watch", "--json", "-D", r->dir.path, NULL);
	await_watcher(r);
	rest_connect(r);
	rest_spawn(r);
	rest_gather(r);
	await_phase(r, "arriving");
	rest_release(r);
	LIVE_CHECK(rest_await(0, 2));
	await_phase(r, "serving");
	LIVE_CHECK(number(r, "bytes_total") == 2 * PAGES * P);
	LIVE_CHECK(number(r, "bytes_placed") == 2 * TOUCHED * P);
	LIVE_CHECK(number(r, "pages_fault") == 2 * TOUCHED && number(r, "faults") >= 2 * TOUCHED);
	LIVE_CHECK(number(r, "latency_p50") > 0);
	silent_clients(r);
	forms(r);
	narrow(r);
	rest_words[1] = 1;
	LIVE_CHECK(rest_wait(r) == 0);
	rest_ended(r, 0, NULL);
	LIVE_CHECK(end_of(watching) == 0);
	has(r, "watched", "\"phase\":\"listening\"");
	has(r, "watched.err", "the daemon has ended");
	LIVE_CHECK(faccessat(r->dir.fd, SOCKET, F_OK, AT_SYMLINK_NOFOLLOW)); /* the file is gone */
	ask(r, &a, "-D", r->dir.path, NULL);
	LIVE_CHECK(a.status == 1);
	has(r, "err", "no thaw lazy-pages answers there");
}

/* ---- the socket -------------------------------------------------------------------------------------------- */
static void leave_stale(struct rest *r)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%.80s/" SOCKET, r->dir.path);
	LIVE_CHECK(!bind(fd, (void *)&a, sizeof(a)));
	close(fd);
}

static void end_daemon(struct rest *r)
{
	LIVE_CHECK(!kill(r->daemon, SIGTERM));
	rest_ended(r, 1, "ended by signal 15");
}

static void sockets(struct rest *r)
{
	struct asked a;
	char *text;

	leave_stale(r);
	LIVE_CHECK(rest_daemon(r, NULL));
	LIVE_CHECK(is_phase(r, "listening"));
	end_daemon(r);
	/* Something else under the name stays, and is no reason not to serve when the name was not asked for. */
	scratch_put(&r->dir, SOCKET, "precious", 8);
	LIVE_CHECK(rest_daemon(r, NULL));
	ask(r, &a, "-D", r->dir.path, NULL);
	LIVE_CHECK(a.status == 1);
	end_daemon(r);
	LIVE_CHECK(strstr(r->said, "exists and is no socket"));
	LIVE_CHECK(!rest_daemon(r, "--status-socket", SOCKET, NULL));
	rest_ended(r, 1, "exists and is no socket");
	text = rest_read(r, SOCKET);
	LIVE_CHECK(!strcmp(text, "precious"));
	free(text);
	LIVE_CHECK(!rest_daemon(r, "--status-socket", "no/such/place", NULL));
	rest_ended(r, 1, "status socket no/such/place: cannot be made");
	LIVE_CHECK(rest_daemon(r, "--status-socket", "mine", NULL));
	LIVE_CHECK(faccessat(r->dir.fd, "mine", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	end_daemon(r);
	LIVE_CHECK(faccessat(r->dir.fd, "mine", F_OK, AT_SYMLINK_NOFOLLOW));
}

int main(void)
{
	const struct rest_task tasks[] = {
		{ .pid = 71, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = some },
		{ .pid = 72, .vma = vmas, .n_vmas = 1, .run = runs, .n_runs = 1, .body = some },
	};
	struct rest r;

	if (thaw_probe() < 0) {
		printf("test_status: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	rest_begin(&r, tasks, 2, true);
	one_restore(&r);
	sockets(&r);
	rest_end(&r);
	return 0;
}
