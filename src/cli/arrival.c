// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/arrival.c - the monitor of one restored process: from its settings to its last page and the statistics.
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/restore.h"
#include "engine/report.h"
#include "util/err.h"

#define END_WAIT_MS 1000
/* While the last steps are made and the process touches what it needs to get going, the processors are theirs. */
#define DEFAULT_DELAY_MS 20

uint64_t thaw_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Of a process that is not to be any more there is nothing to say; it may seem to live on, while somebody reads its memory. */
static atomic_bool aborted;

static void log_line(void *opaque, enum thaw_log_level level, const char *line)
{
	if (atomic_load(&aborted))
		return;
	thaw_say_log(opaque, level, line);
}

static int settings(const struct thaw_restore_command *cmd, struct thaw *h, int log_fd)
{
	enum thaw_log_level most = thaw_cli.verbose > 1 ? THAW_LOG_DEBUG : thaw_cli.verbose ? THAW_LOG_INFO :
				   thaw_cli.quiet ? THAW_LOG_ERROR : THAW_LOG_WARNING;
	enum thaw_background policy = cmd->stay_lazy ? THAW_BACKGROUND_STAY_LAZY : THAW_BACKGROUND_DELAYED;

	if (thaw_set_log(h, log_line, NULL, most) < 0 || thaw_set_holder(h, 1, log_fd) < 0)
		return -1;
	if (thaw_set_background(h, policy, cmd->delayed ? cmd->background_delay : DEFAULT_DELAY_MS) < 0)
		return -1;
	return cmd->copiers ? thaw_set_copiers(h, cmd->copiers) : 0;
}

static int start_monitor(struct thaw_arrival *a, int log_fd)
{
	if (a->process.uffd < 0)
		return 0;
	a->monitor = thaw_create();
	if (!a->monitor || settings(a->cmd, a->monitor, log_fd) < 0)
		return thaw_err_code();
	int r = thaw_restore_add_space(&a->process, a->monitor);
	if (r < 0)
		return r;
	return thaw_start(a->monitor) < 0 ? thaw_err_code() : 0;
}

static int write_pidfile(struct thaw_arrival *a)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)a->process.pid);

	return thaw_outfile_commit(&a->pidfile, text, n);
}

/* Whoever waits for 12 o'clock where it has just become 9 again is not to stand still without a word. */
static void say_clocks(const struct thaw_arrival *a)
{
	uint64_t back = thaw_restore_clock_back(&a->process);
	char time[32];

	if (back)
		thaw_say(0, "process %d: the machine was started again after the checkpoint: CLOCK_MONOTONIC and CLOCK_BOOTTIME go back "
			 "by %s, and what waits for a time of theirs waits that much longer", (int)a->process.pid,
			 thaw_say_time(time, sizeof(time), back));
}

int thaw_arrival_prepare(struct thaw_arrival *a, const struct thaw_restore_command *cmd, int log_fd)
{
	*a = (struct thaw_arrival){ .cmd = cmd, .start_ns = thaw_now_ns() };
	a->pidfile.fd = a->stats.fd = -1;
	a->process.pidfd = a->process.uffd = -1;
	int r = thaw_outfile_open(&a->pidfile, "pidfile", cmd->pidfile);
	if (r < 0)
		return r;
	r = thaw_outfile_open(&a->stats, "statistics file", cmd->stats);
	if (r < 0)
		return r;
	r = thaw_restore_prepare(&cmd->core, &a->process);
	if (r < 0)
		return r;
	a->prepare_ns = thaw_now_ns();
	say_clocks(a);
	r = start_monitor(a, log_fd);
	return r < 0 ? r : write_pidfile(a);
}

int thaw_arrival_resume(struct thaw_arrival *a)
{
	if (thaw_signals_want_end())
		return thaw_err_set(-EINTR, "interrupted before the process ran: it was not restored");
	int r = thaw_restore_resume(&a->process);
	if (r < 0)
		return r;
	a->running_ns = thaw_now_ns();
	thaw_outfile_close(&a->pidfile);
	return 0;
}

void thaw_arrival_abort(struct thaw_arrival *a)
{
	thaw_restore_abort(&a->process);
	thaw_restore_free(&a->process);
	atomic_store(&aborted, true);
	thaw_close(a->monitor);
	a->monitor = NULL;
	thaw_outfile_remove(&a->pidfile);
	thaw_outfile_close(&a->pidfile);
	thaw_outfile_close(&a->stats);
}

void thaw_arrival_reap(struct thaw_arrival *a)
{
	int status;

	if (a->reaped || waitpid(a->process.pid, &status, WNOHANG) != a->process.pid)
		return;
	a->wait_status = status;
	a->reaped = true;
}

/* The monitor may learn that the process is gone before it can be waited for. */
static void await_end(const struct thaw_arrival *a)
{
	struct pollfd p = { .fd = a->process.pidfd, .events = POLLIN };

	if (!a->final.complete_ns && !a->reaped)
		poll(&p, 1, END_WAIT_MS);
}

/* No monitor has anything to report: all was in before the process ran. */
static void eager_figures(struct thaw_arrival *a)
{
	const struct thaw_written *w = &a->process.written;

	a->end_ns = a->running_ns;
	a->final_progress.bytes_total = a->final_progress.bytes_placed = a->final.bytes_placed = w->bytes;
	a->final_progress.spaces = a->final_progress.spaces_done = 1;
	a->final.first_ns = w->first_ns;
	a->final.complete_ns = w->complete_ns;
	a->final.rate_drain = w->complete_ns ? w->bytes * 1e9 / w->complete_ns : 0;
}

bool thaw_arrival_ended(struct thaw_arrival *a)
{
	if (!a->monitor) {
		if (!a->end_ns)
			eager_figures(a);
		return true;
	}
	if (thaw_wait(a->monitor, 0, 0) < 0)
		return false;
	a->final.size = sizeof(a->final);
	a->final_progress.size = sizeof(a->final_progress);
	if (thaw_get_stats(a->monitor, 0, &a->final) < 0 || thaw_get_progress(a->monitor, 0, &a->final_progress) < 0)
		thaw_say_error("statistics: %s", thaw_get_error());
	a->orphans = thaw_report_orphans(a->monitor);
	a->end_ns = thaw_now_ns();
	thaw_close(a->monitor);
	a->monitor = NULL;
	await_end(a);
	return true;
}

int thaw_arrival_report(struct thaw_arrival *a)
{
	int r = 0;

	if (a->stats.path && !a->stats.committed) {
		char *text = thaw_stats_json(a);

		r = text ? thaw_outfile_commit(&a->stats, text, strlen(text)) :
			   thaw_err_set(-ENOMEM, "statistics file %s: no memory", a->stats.path);
		free(text);
		thaw_outfile_close(&a->stats);
	}
	if (!r && a->orphans)
		r = thaw_err_set(-ENOMEM, "process %d: there was no memory to serve %llu children that it forked with: they wait for ever at"
				 " their next absent page; end them", (int)a->process.pid, (unsigned long long)a->orphans);
	return r;
}
