// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/status.c - thaw status: how far a lazy restore is.
#include "config.h"
#include "cli/status.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/err.h"

#define ANSWER_MS 10000
#define ANSWER_PIECE 65536

struct status_command {
	const char *socket, *dir, *work_dir;
	bool json, prometheus, watch;
	long interval; /* seconds */
};

/* ---- asking ------------------------------------------------------------------------------------------------ */
/* Longer paths than a socket's name can hold are reached through their directory. */
static int address(struct sockaddr_un *a, const char *path, int *dirfd)
{
	const char *slash = strrchr(path, '/');
	char dir[4096];
	int n;

	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*dirfd = -1;
	if (strlen(path) < sizeof(a->sun_path)) {
		strcpy(a->sun_path, path);
		return 0;
	}
	if (!slash || slash - path >= (int)sizeof(dir))
		return thaw_err_set(-ENAMETOOLONG, "status socket %s: the path is too long", path);
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path + 1), path);
	*dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd < 0)
		return thaw_err_set(-errno, "status socket %s: %s", path, strerror(errno));
	n = snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s", *dirfd, slash + 1);
	return n < (int)sizeof(a->sun_path) ? 0 : thaw_err_set(-ENAMETOOLONG, "status socket %s: the name is too long", path);
}

static int nobody(int err, const char *path)
{
	return thaw_err_set(-err, "status socket %s: %s: %s", path, strerror(err), err == EACCES ?
			    "only root and the daemon's own user may ask" :
			    "no thaw lazy-pages answers there; name its work directory with -D, or its --status-socket");
}

static int open_connection(const char *path)
{
	struct sockaddr_un a;
	int dirfd, fd, r = address(&a, path, &dirfd);

	fd = r ? r : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!r && fd < 0)
		fd = thaw_err_set(-errno, "status socket: %s", strerror(errno));
	else if (!r && connect(fd, (void *)&a, sizeof(a))) {
		r = errno;
		close(fd);
		fd = nobody(r, path);
	}
	if (dirfd >= 0)
		close(dirfd);
	return fd;
}

static int receive(int fd, const char *path, char **text, size_t *len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t room = 0;
	ssize_t n;

	do {
		if (room - *len < ANSWER_PIECE) {
			char *more = realloc(*text, room = room * 2 + ANSWER_PIECE);

			if (!more)
				return thaw_err_set(-ENOMEM, "status: no memory for the answer");
			*text = more;
		}
		n = poll(&p, 1, ANSWER_MS);
		if (!n)
			return thaw_err_set(-ETIMEDOUT, "status socket %s: no answer within %d seconds: is the daemon stopped?", path,
					    ANSWER_MS / 1000);
		n = n < 0 ? n : read(fd, *text + *len, ANSWER_PIECE);
		if (n < 0 && errno != EINTR)
			return thaw_err_set(-errno, "status socket %s: %s", path, strerror(errno));
		*len += n > 0 ? n : 0;
	} while (n && *len <= THAW_STATUS_MOST);
	return 0;
}

int thaw_status_ask(const char *socket, const char *dir, struct thaw_status *s)
{
	char *made = NULL, *text = NULL;
	const char *path = socket;
	size_t len = 0;
	int fd, r;

	*s = (struct thaw_status){ 0 };
	if (!path && asprintf(&made, "%s/%s", dir, THAW_STATUS_SOCKET) < 0)
		return thaw_err_set(-ENOMEM, "status: no memory");
	path = path ? path : made;
	/* A daemon that waits for its restorer would take us for one that has failed, and end. */
	if (!strcmp(strrchr(path, '/') ? strrchr(path, '/') + 1 : path, THAW_LAZY_SOCKET))
		fd = thaw_err_set(-EINVAL, "status socket %s: that is where criu restore hands its processes over, to ask there would end the"
				  " daemon; name " THAW_STATUS_SOCKET " beside it, or its work directory with -D", path);
	else
		fd = open_connection(path);
	r = fd < 0 ? fd : receive(fd, path, &text, &len);
	if (!r && thaw_status_from_json(s, text, len) < 0)
		r = thaw_err_wrap("status socket %s", path);
	if (fd >= 0)
		close(fd);
	free(text);
	free(made);
	return r;
}

/* ---- showing ----------------------------------------------------------------------------------------------- */
enum { ENDED = 1, UNWRITTEN }; /* beside -errno: the daemon has; said already */

/* Each line as far as a terminal of so many columns shows it in one row; 0: all of it. */
static void put_lines(const char *text, unsigned columns)
{
	while (columns && *text) {
		size_t len = strcspn(text, "\n");

		printf("%.*s\n", (int)(len < columns ? len : columns), text);
		text += len + (text[len] == '\n');
	}
	fputs(text, stdout);
}

static int show(const struct status_command *c, const struct thaw_status *s, unsigned lines, unsigned columns)
{
	char *text = c->json ? thaw_status_to_json(s, !c->watch) : c->prometheus ? thaw_status_to_prometheus(s) :
		     thaw_status_to_text(s, lines);

	if (!text)
		return thaw_err_set(-ENOMEM, "status: no memory");
	put_lines(text, columns);
	if (c->json)
		putchar('\n');
	free(text);
	return thaw_say_flush(THAW_EXIT_OK) ? UNWRITTEN : 0;
}

static int once(const struct status_command *c)
{
	struct thaw_status s;
	int r = thaw_status_ask(c->socket, c->dir, &s);

	if (!r)
		r = show(c, &s, 0, 0);
	thaw_status_free(&s);
	return r < 0 ? thaw_say_failure() : r ? THAW_EXIT_FAILURE : THAW_EXIT_OK;
}

static volatile sig_atomic_t interrupted;

static void interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

static struct winsize size_of_terminal(void)
{
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || !w.ws_row || !w.ws_col)
		w = (struct winsize){ .ws_row = 24, .ws_col = 80 };
	return w;
}

/* On a terminal each picture takes the place of the last. */
static int picture(const struct status_command *c, const struct thaw_status *s, bool terminal)
{
	struct winsize w = terminal ? size_of_terminal() : (struct winsize){ .ws_row = 1 };

	if (terminal)
		fputs("\033[H\033[J", stdout);
	return show(c, s, w.ws_row - 1, w.ws_col);
}

static int watch(const struct status_command *c)
{
	struct sigaction sa = { .sa_handler = interrupt };
	bool terminal = !c->json && isatty(STDOUT_FILENO), seen = false;
	struct timespec pause = { .tv_sec = c->interval };
	int r = 0;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	while (!r && !interrupted) {
		struct thaw_status s;

		r = thaw_status_ask(c->socket, c->dir, &s);
		if (!r)
			r = picture(c, &s, terminal);
		else if (seen && !interrupted && (r == -ENOENT || r == -ECONNREFUSED || r == -EBADMSG || r == -ECONNRESET))
			r = ENDED; /* it was there, and has done its work */
		seen = true;
		thaw_status_free(&s);
		if (!r && !interrupted)
			nanosleep(&pause, NULL);
	}
	if (r == ENDED)
		thaw_say(0, "the daemon has ended");
	if (r == UNWRITTEN)
		return THAW_EXIT_FAILURE;
	return r < 0 && !interrupted ? thaw_say_failure() : THAW_EXIT_OK;
}

int thaw_cmd_status(const struct thaw_command *command, int argc, char **argv)
{
	struct status_command c = { 0 };
	struct thaw_option own[] = {
		{ 0, NULL, "SOCKET", "the daemon's --status-socket", THAW_OPTION_WORD, &c.socket },
		{ 'D', "images", "DIR", "or its work directory (else: the current one)", THAW_OPTION_STRING, &c.dir },
		{ 'W', "work-dir", "DIR", "the same; goes before -D, as for the daemon", THAW_OPTION_STRING, &c.work_dir },
		{ 0, "json", NULL, "as one JSON object", THAW_OPTION_FLAG, &c.json },
		{ 0, "prometheus", NULL, "as text that Prometheus reads", THAW_OPTION_FLAG, &c.prometheus },
		{ 'w', "watch", NULL, "again and again, until the daemon ends", THAW_OPTION_FLAG, &c.watch },
		{ 0, "interval", "S", "seconds between two looks (default 1)", THAW_OPTION_NUMBER, &c.interval, 1, 3600 },
		{ .kind = THAW_OPTION_END }
	};
	int status = thaw_options_parse(command, own, argc, argv);

	if (status >= 0)
		return status;
	if (c.socket && (c.dir || c.work_dir))
		return thaw_options_refuse(command, "SOCKET and -D DIR or -W DIR both say where the daemon is: give one");
	if (c.json && c.prometheus)
		return thaw_options_refuse(command, "--json and --prometheus do not go together");
	if (c.prometheus && c.watch)
		return thaw_options_refuse(command, "--prometheus and --watch do not go together: a scrape is one look");
	if (c.interval && !c.watch)
		return thaw_options_refuse(command, "--interval needs --watch");
	if (!c.interval)
		c.interval = 1;
	if (c.work_dir)
		c.dir = c.work_dir;
	if (!c.dir)
		c.dir = ".";
	return c.watch ? watch(&c) : once(&c);
}
