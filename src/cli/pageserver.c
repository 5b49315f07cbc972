// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/pageserver.c - thaw page-server: its options, its start in the foreground or detached, its signals.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/lazy.h"
#include "cli/outfile.h"
#include "kern/sys.h"
#include "server/server.h"
#include "util/err.h"

struct command {
	const char *dir, *address, *pidfile;
	long port, status_fd;
	int protocol; /* index of "24|32" */
	bool tls, no_cn_verify, daemon, lazy_pages;
	struct thaw_tls_files files;
};

static void say(unsigned level, const char *line)
{
	thaw_say(level, "%s", line);
}

/* ---- start ------------------------------------------------------------------------------------------------- */
static int load(struct thaw_server *s, const struct command *cmd)
{
	char size[32];
	int fd = open(cmd->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (fd < 0)
		return thaw_err_set(-errno, "%s: %s", cmd->dir, strerror(errno));
	thaw_image_trust_caller();
	err = thaw_store_open(&s->store, fd);
	close(fd);
	if (err)
		return thaw_err_wrap("%s", cmd->dir);
	thaw_say(1, "%s: %s of %zu process%s", cmd->dir, thaw_say_bytes(size, sizeof(size), s->store.pages << 12), s->store.n,
		 s->store.n == 1 ? "" : "es");
	return cmd->tls ? thaw_tls_new(&s->tls, &cmd->files) : 0;
}

static int signals(void)
{
	static const int ends[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		sigaddset(&set, ends[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A standard one becomes /dev/null: its number must not become another file's. */
static void close_status(const struct command *cmd)
{
	int fd = (int)cmd->status_fd, null;

	if (fd > STDERR_FILENO)
		close(fd);
	if (fd < 0 || fd > STDERR_FILENO)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return;
	dup2(null, fd);
	close(null);
	if (fd == STDERR_FILENO)
		thaw_say_redirect(fd); /* it has another descriptor of what that was */
}

/* A zero byte, when the pidfile is there; then whoever reads it sees the end. */
static int tell_ready(const struct command *cmd)
{
	if (cmd->status_fd < 0)
		return 0;
	if (write((int)cmd->status_fd, "", 1) != 1)
		return thaw_err_set(-errno, "--status-fd %ld cannot be written to: %s", cmd->status_fd, strerror(errno));
	close_status(cmd);
	return 0;
}

static int commit_pid(struct thaw_outfile *pidfile, pid_t pid)
{
	char line[32];

	return thaw_outfile_commit(pidfile, line, (size_t)snprintf(line, sizeof(line), "%d\n", (int)pid));
}

/* The caller goes when its server listens: nothing is left then that could fail before it serves. It tells so itself, since a standard
 * descriptor may be what is written to. The server goes on without its terminal. Returns 1 in the caller. */
static int detach(const struct command *cmd, struct thaw_outfile *pidfile)
{
	pid_t pid = fork();
	int null;

	if (pid < 0)
		return thaw_err_set(-errno, "fork: %s", strerror(errno));
	if (pid) {
		int err = commit_pid(pidfile, pid);

		if (!err)
			err = tell_ready(cmd);
		if (!err)
			return 1;
		kill(pid, SIGKILL); /* by SIGTERM it would remove what was there before as its pidfile */
		waitpid(pid, NULL, 0);
		thaw_outfile_remove(pidfile);
		return err;
	}
	close_status(cmd);
	pidfile->committed = true; /* by the caller; ours to remove */
	setsid();
	thaw_say_redirect(-1);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
	return 0;
}

/* ---- run --------------------------------------------------------------------------------------------------- */
static void sum_up(struct thaw_server *s)
{
	char size[32];

	thaw_say(0, "page server: %lu clients served, %lu refused, %s sent", (unsigned long)s->served, (unsigned long)s->refused,
		 thaw_say_bytes(size, sizeof(size), s->pages << 12));
}

static int run(struct thaw_server *s, const struct command *cmd, struct thaw_outfile *pidfile)
{
	int fd, err;

	thaw_sys_raise_descriptors(); /* each process has a file or more open, each client a socket */
	s->protocol = cmd->protocol < 0 ? THAW_FRAME_UNKNOWN : cmd->protocol ? THAW_FRAME_NEW : THAW_FRAME_OLD;
	s->say = say;
	err = thaw_outfile_open(pidfile, "pidfile", cmd->pidfile);
	if (!err)
		err = load(s, cmd);
	if (!err)
		err = thaw_server_listen(s, cmd->address, (unsigned)cmd->port);
	if (!err)
		err = thaw_server_prepare(s);
	if (err)
		return err;
	fd = signals();
	if (fd < 0)
		return thaw_err_set(-errno, "signalfd: %s", strerror(errno));
	thaw_say(0, "page server: %s is served at %s port %u%s", cmd->dir, cmd->address, s->port, s->tls ? " over TLS" : "");
	if (cmd->daemon)
		err = detach(cmd, pidfile);
	else
		err = commit_pid(pidfile, getpid());
	if (!err && !cmd->daemon)
		err = tell_ready(cmd);
	if (!err)
		err = thaw_server_run(s, fd);
	if (!err)
		sum_up(s);
	if (err <= 0)
		thaw_outfile_remove(pidfile);
	close(fd);
	return err < 0 ? err : 0; /* 1: the caller of a detached one */
}

static int check(const struct thaw_command *c, const struct command *cmd)
{
	if (!cmd->dir)
		return thaw_options_refuse(c, "which checkpoint? -D DIR is missing");
	if (cmd->port < 0)
		return thaw_options_refuse(c, "at which port? --port PORT is missing (0: any that is free)");
	if (!cmd->tls && (cmd->files.cacert || cmd->files.cacrl || cmd->files.cert || cmd->files.key || cmd->no_cn_verify))
		return thaw_options_refuse(c, "--tls-... says how, --tls that there is to be TLS: it is missing");
	if (cmd->status_fd >= 0 && fcntl((int)cmd->status_fd, F_GETFD) < 0)
		return thaw_options_refuse(c, "--status-fd: descriptor %ld is not open", cmd->status_fd);
	return -1;
}

/* CRIU's -v[N] and --verbosity[=N]: how much is said in all, 2 being what it is without. Ours counts from there. */
static void take_verbosity(int *argc, char **argv)
{
	static const char *const levels[] = { "-q", "-q", NULL, "-v", "-vv" };
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		const char *digit = !strncmp(argv[i], "-v", 2) ? argv[i] + 2 : !strncmp(argv[i], "--verbosity=", 12) ? argv[i] + 12 : "";

		if (*digit < '0' || *digit > '9' || digit[1]) {
			argv[kept++] = argv[i];
			continue;
		}
		if (levels[*digit > '4' ? 4 : *digit - '0'])
			argv[kept++] = (char *)levels[*digit > '4' ? 4 : *digit - '0'];
	}
	argv[*argc = kept] = NULL;
}

/* The program's whole command line may be ours, with options before the command's name: that goes. */
static void drop_name(int *argc, char **argv)
{
	const char *word = strcmp(argv[0], "page-server") ? thaw_criu_word(thaw_lazy_own_options, *argc, argv) : NULL;
	int kept = 0;

	for (int i = 0; i < *argc; i++)
		if (!word || argv[i] != word)
			argv[kept++] = argv[i];
	argv[*argc = kept] = NULL;
}

int thaw_cmd_page_server(const struct thaw_command *c, int argc, char **argv)
{
	struct command cmd = { .address = "127.0.0.1", .port = -1, .status_fd = -1, .protocol = -1 };
	struct thaw_option own[] = {
		{ 'D', "images-dir", "DIR", "the checkpoint", THAW_OPTION_STRING, &cmd.dir },
		{ 0, "address", "ADDR", "where to listen (127.0.0.1; 0.0.0.0: everywhere)", THAW_OPTION_STRING, &cmd.address },
		{ 0, "port", "PORT", "and at which port (0: any, which is said)", THAW_OPTION_NUMBER, &cmd.port, 0, 65535 },
		{ 0, "tls", NULL, "only over TLS, to clients with a certificate", THAW_OPTION_FLAG, &cmd.tls },
		{ 0, "tls-cacert", "FILE", "certificate of the authority", THAW_OPTION_STRING, &cmd.files.cacert },
		{ 0, "tls-cacrl", "FILE", "certificates that it has revoked", THAW_OPTION_STRING, &cmd.files.cacrl },
		{ 0, "tls-cert", "FILE", "the server's certificate", THAW_OPTION_STRING, &cmd.files.cert },
		{ 0, "tls-key", "FILE", "its key", THAW_OPTION_STRING, &cmd.files.key },
		{ 0, "tls-no-cn-verify", NULL, "as for clients; no name of theirs is looked at", THAW_OPTION_FLAG, &cmd.no_cn_verify },
		{ 0, "page-server-protocol", "N", "24: CRIU up to 4.1, 32: since 4.2 (each client's)", THAW_OPTION_CHOICE,
		  &cmd.protocol, .choices = "24|32" },
		{ 'd', "daemon", NULL, "return when it listens", THAW_OPTION_FLAG, &cmd.daemon },
		{ 0, "pidfile", "FILE", "write its process number there", THAW_OPTION_STRING, &cmd.pidfile },
		{ 0, "status-fd", "FD", "write a zero byte there when it listens", THAW_OPTION_NUMBER, &cmd.status_fd, 0, 1 << 20 },
		{ 0, "lazy-pages", NULL, "as criu page-server has it: always so here", THAW_OPTION_FLAG, &cmd.lazy_pages },
		{ 0, "log-file", "FILE", "as criu page-server calls --log", THAW_OPTION_STRING, &thaw_cli.log_path },
		{ .kind = THAW_OPTION_END }
	};
	struct thaw_outfile pidfile = { .fd = -1 };
	struct thaw_server server = { 0 };
	int status;

	drop_name(&argc, argv);
	take_verbosity(&argc, argv);
	status = thaw_options_parse(c, own, argc, argv);
	if (status >= 0)
		return status;
	status = check(c, &cmd);
	if (status >= 0)
		return status;
	status = thaw_server_init(&server) || run(&server, &cmd, &pidfile) ? thaw_say_failure() : THAW_EXIT_OK;
	thaw_server_free(&server);
	thaw_outfile_close(&pidfile);
	return status;
}
