// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_busy_reader.c - a process that forks a hundred times a second keeps its reader with its space; what its children leave
 * behind when they end is given back all the same.
 *
 * Bug: the memory of an ended space waits for every reader to pass epoll, and this one did not come there any more. */
#include "config.h"
#include "support/live.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/monitor.h"
#include "support/patience.h"

#define SEED 47
#define PAGES 16
#define FORKS 300
#define MOST 150 /* waiting at once; half a second of them is in order */

static int work(void *arg, int sock)
{
	char byte = 'd';

	for (unsigned i = 0; i < FORKS; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return 1;
		usleep(8000);
	}
	return write(sock, &byte, 1) != 1 || !live_is(LIVE_BASE, PAGES, SEED, 0);
}

static unsigned retired(struct thaw *h)
{
	unsigned n = 0;
	THAW_SCOPED_LOCK(&h->lock);

	for (const struct thaw_mm *mm = h->retired; mm; mm = mm->next)
		n++;
	return n;
}

int main(void)
{
	const struct thaw_range r = { LIVE_BASE, PAGES * LIVE_PAGE, THAW_KIND_ANON, PROT_READ | PROT_WRITE, 0 };
	struct thaw_memfile_range at;
	unsigned n, most = 0;
	struct thaw_source *s;
	struct thaw *h;
	struct live l;
	int status, fd;

	alarm(patience(60));
	if (thaw_probe() < 0) {
		printf("test_busy_reader: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	fd = live_file(false, SEED, &r, 1, &at);
	h = live_monitor(THAW_IO_AUTO, 1, THAW_BACKGROUND_STAY_LAZY);
	s = thaw_source_memfile(fd, &at, 1);
	LIVE_CHECK(s);
	live_start(&l, &r, 1, work, NULL);
	live_add(h, &l, s, &r, 1);
	LIVE_OK(thaw_start(h));
	live_go(&l);
	do {
		usleep(10000);
		n = retired(h);
		most = n > most ? n : most;
	} while (live_stats(h, 0).events_fork < FORKS && !waitid(P_PID, l.pid, &(siginfo_t){ 0 }, WEXITED | WNOHANG | WNOWAIT));
	status = live_end(&l);
	LIVE_CHECK(status == 0);
	LIVE_OK(thaw_wait(h, 0, patience(10000)));
	thaw_close(h);
	thaw_source_close(s);
	close(fd);
	printf("%u forks, %u of their spaces waited at once\n", FORKS, most);
	if (!most) { /* as under a sanitizer on a slow machine, where something else is there to do each time */
		printf("test_busy_reader: SKIPPED: the reader did not stay with the space\n");
		return 77;
	}
	return most > MOST;
}
