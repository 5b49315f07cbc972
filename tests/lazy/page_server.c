// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/page_server.c - the program as a process of the test, and raw bytes to it */
#include "config.h"
#include "lazy/page_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support/live.h"

#define ARGS 32

static _Noreturn void be_server(const struct page_server *s, int ready, const char *dir, const char *const *more, pid_t test)
{
	const char *build = getenv("THAW_BUILDDIR");
	const char *argv[ARGS] = { "thaw", "page-server", "-vv", "-D", dir, "--port", "0", "--status-fd", "9" };
	char program[4096];
	unsigned n = 9;
	int log = open(s->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != test)
		_exit(99);
	for (; more && *more && n < ARGS - 1; more++)
		argv[n++] = *more;
	snprintf(program, sizeof(program), "%s/thaw", build ? build : ".");
	dup2(ready, 9);
	dup2(log, 2);
	execv(program, (char **)argv);
	_exit(98);
}

static char *read_log(const struct page_server *s)
{
	static char text[1 << 20];
	int fd = open(s->log, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

void page_server_start(struct page_server *s, const char *dir, const char *const *more)
{
	pid_t test = getpid();
	char byte, *at;
	int ready[2];

	snprintf(s->log, sizeof(s->log), "%s/server.log", dir);
	if (pipe(ready))
		LIVE_DIE("pipe: %s", strerror(errno));
	fflush(NULL);
	s->pid = fork();
	if (s->pid < 0)
		LIVE_DIE("fork: %s", strerror(errno));
	if (!s->pid)
		be_server(s, ready[1], dir, more, test);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1 || byte)
		LIVE_DIE("thaw page-server did not come to listen: %s", read_log(s));
	close(ready[0]);
	at = strstr(read_log(s), " port ");
	if (!at)
		LIVE_DIE("thaw page-server did not say its port: %s", read_log(s));
	s->port = atoi(at + 6);
}

int page_server_stop(struct page_server *s)
{
	int status;

	kill(s->pid, SIGTERM);
	if (waitpid(s->pid, &status, 0) != s->pid)
		LIVE_DIE("waitpid: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void page_server_stop_busy(struct page_server *s)
{
	time_t began = time(NULL);

	LIVE_CHECK(page_server_stop(s) == 0);
	if (time(NULL) - began > FLOOD_S / 2)
		LIVE_DIE("a client that keeps it busy keeps thaw page-server from ending");
}

unsigned page_server_said(const struct page_server *s, const char *word)
{
	unsigned n = 0;

	for (const char *at = read_log(s); (at = strstr(at, word)); at++)
		n++;
	return n;
}

long page_server_status(const struct page_server *s, const char *field)
{
	char path[64], line[256];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)s->pid);
	f = fopen(path, "re");
	while (f && value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
			value = atol(line + strlen(field) + 1);
	if (f)
		fclose(f);
	return value;
}

/* ---- raw --------------------------------------------------------------------------------------------------- */
int raw_connect(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port) };
	struct timeval patience = { 120, 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		LIVE_DIE("connect: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

void raw_send(int fd, int layout, uint32_t cmd, uint64_t pages, uint64_t addr, uint64_t id)
{
	unsigned char h[32] = { 0 };
	uint32_t few = (uint32_t)pages;

	memcpy(h, &cmd, 4);
	if (layout == 24) {
		memcpy(h + 4, &few, 4);
		memcpy(h + 8, &addr, 8);
		memcpy(h + 16, &id, 8);
	} else {
		memset(h + 4, 0xa5, 4); /* padding: anything */
		memcpy(h + 8, &pages, 8);
		memcpy(h + 16, &addr, 8);
		memcpy(h + 24, &id, 8);
	}
	if (send(fd, h, (size_t)layout, MSG_NOSIGNAL) != layout)
		LIVE_DIE("send: %s", strerror(errno));
}

int raw_receive(int fd, void *buf, uint64_t len)
{
	static char bin[1 << 20];

	while (len) {
		size_t want = buf ? len : len < sizeof(bin) ? len : sizeof(bin);
		ssize_t n = recv(fd, buf ? buf : bin, want, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			LIVE_DIE("the server does not answer");
		if (n <= 0)
			return 0;
		len -= (uint64_t)n;
		if (buf)
			buf = (char *)buf + n;
	}
	return 1;
}

uint64_t raw_reply(int fd, int layout, uint64_t addr, uint64_t id)
{
	unsigned char h[32];
	uint64_t pages = 0, a, i;
	uint32_t cmd;

	if (!raw_receive(fd, h, (uint64_t)layout))
		return 0;
	memcpy(&cmd, h, 4);
	memcpy(&pages, h + (layout == 24 ? 4 : 8), layout == 24 ? 4 : 8);
	memcpy(&a, h + (layout == 24 ? 8 : 16), 8);
	memcpy(&i, h + (layout == 24 ? 16 : 24), 8);
	if (cmd != 0x40006 || a != addr || i != id || !pages)
		LIVE_DIE("a strange answer: command %#x, %llu pages at %#llx of %llu", cmd, (unsigned long long)pages,
			 (unsigned long long)a, (unsigned long long)i);
	return pages;
}

int raw_ended(int fd)
{
	char byte;
	ssize_t n;

	do
		n = recv(fd, &byte, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}
