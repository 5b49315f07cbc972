// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/lazy/destination_loss.c - criu dump --lazy-pages took the end of a connection for success and killed the source, though not a
 * page had come: here whatever ends too early is a reset, which makes it resume; and while processes wait here for a monitor that
 * was killed, the connection stays, so that they do not run in both places */
#include "config.h"
#include "lazy/remote_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 200

static struct fake fake;

static void begin(struct rig *r, unsigned stall_at)
{
	struct fake_options o;

	rig_begin(r, PAGES, true);
	rig_images(r);
	o = rig_fake(r);
	o.stall_at = stall_at;
	fake_start(&fake, &o);
}

static void check_reset(const char *what)
{
	RIG_AWAIT(fake.stats->end != FAKE_OPEN || !fake.stats->open);
	if (fake.stats->end != FAKE_RESET || fake.stats->closes)
		LIVE_DIE("%s: the server saw end %d and %u times CLOSE", what, fake.stats->end, fake.stats->closes);
}

/* The application gives up. */
static void test_abort(void)
{
	struct rig r;

	begin(&r, 0);
	rig_worker(&r, rig_read_all, &r);
	rig_open(&r, fake.port);
	rig_start(&r, 1, THAW_BACKGROUND_STAY_LAZY);
	RIG_AWAIT(fake.stats->open);
	live_kill(&r.live);
	live_end(&r.live);
	rig_end(&r, false);
	check_reset("aborted");
	fake_stop(&fake);
}

/* A process of its own is the monitor: it says when it runs, and is ended in one of several ways. */
static pid_t fork_daemon(struct rig *r, bool holder, char how)
{
	pid_t test = getpid(), pid;
	int ready[2];
	char byte = 'r';

	if (pipe(ready))
		LIVE_DIE("pipe");
	pid = fork();
	if (pid < 0)
		LIVE_DIE("fork: %s", strerror(errno));
	if (!pid) {
		close(ready[0]);
		rig_open(r, fake.port);
		r->h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
		LIVE_OK(thaw_set_holder(r->h, holder, openat(r->dir.fd, "holder", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)));
		live_add(r->h, &r->live, r->source, &r->range, 1);
		LIVE_OK(thaw_start(r->h));
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		if (how == 'x') {
			RIG_AWAIT(fake.stats->gets > 0); /* the worker has begun */
			_exit(0);
		}
		while (getppid() == test)
			usleep(10000);
		_exit(1);
	}
	close(ready[1]);
	close(r->live.uffd); /* the daemon's, and its holder's, are the only ones */
	if (read(ready[0], &byte, 1) != 1)
		LIVE_DIE("the monitor did not start");
	close(ready[0]);
	return pid;
}

static bool is_said(const struct rig *r, const char *words)
{
	char line[1024] = "";
	int fd = openat(r->dir.fd, "holder", O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, line, sizeof(line) - 1) < 0)
		LIVE_DIE("the holder's line cannot be read");
	close(fd);
	return strstr(line, words);
}

static void test_killed(char how)
{
	struct rig r;
	pid_t daemon;
	int status;

	begin(&r, 2); /* the second answer never comes: the worker cannot be done */
	rig_worker(&r, rig_read_all, &r);
	daemon = fork_daemon(&r, true, how);
	live_go(&r.live);
	RIG_AWAIT(fake.stats->gets >= (how == 'k' ? 2 : 1));
	if (how == 'k')
		kill(daemon, SIGKILL);
	if (waitpid(daemon, &status, 0) != daemon)
		LIVE_DIE("waitpid");
	usleep(300000); /* the holder has had time for whatever it might do wrong */
	LIVE_CHECK(fake.stats->open && fake.stats->end == FAKE_OPEN);
	LIVE_CHECK(waitpid(r.live.pid, &status, WNOHANG) == 0); /* it waits */
	RIG_AWAIT(is_said(&r, "the connection to the page server is kept until then, and reset behind it"));
	live_kill(&r.live);
	live_end(&r.live);
	check_reset(how == 'k' ? "killed" : "exited"); /* now that nobody runs here */
	scratch_end(&r.dir);
	fake_stop(&fake);
}

/* Without a holder nothing is left that could wait. */
static void test_no_holder(void)
{
	struct rig r;
	pid_t daemon;

	begin(&r, 2);
	rig_worker(&r, rig_read_all, &r);
	daemon = fork_daemon(&r, false, 'k');
	live_go(&r.live);
	RIG_AWAIT(fake.stats->gets >= 2);
	kill(daemon, SIGKILL);
	if (waitpid(daemon, NULL, 0) != daemon)
		LIVE_DIE("waitpid");
	check_reset("killed without a holder");
	live_kill(&r.live);
	live_end(&r.live);
	scratch_end(&r.dir);
	fake_stop(&fake);
}

int main(void)
{
	alarm(200);
	test_abort();
	test_killed('k');
	test_killed('x');
	test_no_holder();
	return 0;
}
