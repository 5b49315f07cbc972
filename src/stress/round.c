// SPDX-License-Identifier: LGPL-2.1-or-later
/* stress/round.c - one round: a monitor, processes whose memory is missing, their run, the end, and what came of it */
#include "config.h"
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 20
#define WAIT_MS 100

struct round {
	const struct stress_setup *u;
	const struct stress_schedule *plan;
	struct stress_outcome *o;
	const volatile int *stop;
	struct stress_shared *s;
	int shared_fd, scratch_fd;
	struct stress_content_source *content;
	struct stress_process *p;
	struct thaw *h;
	bool started;
	struct {
		bool told;
		uint64_t waited_ms;
	} exec[STRESS_MAX_PROCESSES]; /* after exec: until the library has seen that the memory is gone */
	pthread_mutex_t lock;   /* what the library's threads tell */
	_Atomic bool frozen;   /* see freezes() */
};

static bool trouble(struct round *r, const char *fmt, const char *detail)
{
	snprintf(r->o->trouble, sizeof(r->o->trouble), fmt, detail);
	return false;
}

/* What the library refuses for this kernel's, this user's or a limit's sake cannot be had here; anything else is a failure. */
static bool library_trouble(struct round *r, const char *fmt)
{
	int e = thaw_get_errno();

	r->o->failed = e != EPERM && e != EACCES && e != ENOSYS && e != ENOTSUP && e != ENOMEM && e != EMFILE && e != ENFILE && e != EAGAIN;
	return trouble(r, fmt, thaw_get_error());
}

/* By a signal: then nothing is to be concluded from what is not done yet. */
static bool given_up(struct round *r)
{
	if (*r->stop)
		r->o->interrupted = true;
	return r->o->interrupted;
}

/* ---- what the library tells: on its threads ------------------------------------------------------------------------------- */
/* Out of memory for a change of its map the library places nothing more in a space, and a child that it has no memory for is not
 * served: both wait for ever, and the log says so. Where no memory was had by order that is what has to come of it. */
static bool freezes(const char *line)
{
	static const char *const points[] = { "engine.apply:", "memory.core:", "memory.space:" };
	const char *inject = getenv("THAW_INJECT");

	if (!inject || (!strstr(line, ": nothing more is placed in it") && !strstr(line, ": the child waits for ever at its")))
		return false;
	for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		if (strstr(inject, points[i]))
			return true;
	return false;
}

static void log_line(void *opaque, enum thaw_log_level level, const char *line)
{
	struct round *r = opaque;
	struct stress_message *m;

	if (level == THAW_LOG_ERROR && freezes(line))
		atomic_store(&r->frozen, true);
	if (!r->o->messages)
		return;
	pthread_mutex_lock(&r->lock);
	m = &r->o->messages[r->o->n_messages++ % STRESS_MESSAGES];
	m->ns = thaw_stress_ns();
	snprintf(m->text, sizeof(m->text), "%s", line);
	pthread_mutex_unlock(&r->lock);
}

static void event(void *opaque, const struct thaw_event_info *info)
{
	struct round *r = opaque;

	pthread_mutex_lock(&r->lock);
	r->o->finished += info->event == THAW_EVENT_FINISHED;
	r->o->gone += info->event == THAW_EVENT_GONE;
	r->o->forked += info->event == THAW_EVENT_FORKED;
	r->o->unavailable += info->event == THAW_EVENT_UNAVAILABLE;
	pthread_mutex_unlock(&r->lock);
}

/* ---- making it --------------------------------------------------------------------------------------------------------------- */
static bool make_shared(struct round *r)
{
	int fd = memfd_create("thaw-stress-round", MFD_CLOEXEC);

	r->shared_fd = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 10);
	if (fd >= 0)
		close(fd);
	if (r->shared_fd < 0 || ftruncate(r->shared_fd, sizeof(*r->s)))
		return trouble(r, "no memory file: %s", strerror(errno));
	r->s = mmap(NULL, sizeof(*r->s), PROT_READ | PROT_WRITE, MAP_SHARED, r->shared_fd, 0);
	if (r->s == MAP_FAILED) {
		r->s = NULL;
		return trouble(r, "the shared memory cannot be mapped: %s", strerror(errno));
	}
	return true;
}

static bool describe(struct round *r)
{
	struct stress_shared *s = r->s;

	thaw_stress_lay_out(r->u, s);
	s->numbers = r->u->numbers;
	r->o->too_long = r->plan->n_ops > STRESS_MAX_OPS || r->plan->n_tracks > STRESS_MAX_TRACKS;
	if (r->o->too_long)
		return trouble(r, "--processes, --threads: %s", "the schedule of so many is too long; use fewer of them");
	s->n_tracks = r->plan->n_tracks;
	s->n_ops = r->plan->n_ops;
	memcpy(s->ops, r->plan->ops, s->n_ops * sizeof(*s->ops));
	for (uint32_t i = 0; i < s->n_tracks; i++) {
		const struct stress_plan_track *k = &r->plan->tracks[i];

		s->tracks[i].process = k->process;
		s->tracks[i].thread = k->thread;
		s->tracks[i].parent = k->parent;
		s->tracks[i].depth = k->depth;
		s->tracks[i].first_op = k->first_op;
		s->tracks[i].n_ops = k->n_ops;
	}
	return true;
}

/* A file for O_DIRECT, where the file system knows that. */
static void make_scratch(struct round *r)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	if (!r->u->kind[STRESS_OP_DIRECT])
		return;
	fd = open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	r->scratch_fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	close(fd);
	if (r->scratch_fd >= 0)
		r->s->scratch = STRESS_SCRATCH_FD;
}

static bool make_monitor(struct round *r)
{
	static const enum thaw_background policy[] = { THAW_BACKGROUND_RUN, THAW_BACKGROUND_DELAYED, THAW_BACKGROUND_STAY_LAZY };
	const struct stress_setup *u = r->u;

	r->h = thaw_create();
	if (!r->h || thaw_set_copiers(r->h, u->copiers) || thaw_set_readers(r->h, u->readers) || thaw_set_chunk(r->h, u->chunk) ||
	    thaw_set_background(r->h, policy[u->background], u->background == STRESS_BG_DELAYED ? u->delay_ms : 0) ||
	    thaw_set_read_around(r->h, u->around) || thaw_set_spin(r->h, u->spin) || thaw_set_io(r->h, u->io) ||
	    thaw_set_holder(r->h, u->holder, -1) || thaw_set_sandbox(r->h, u->sandbox) || thaw_set_numbering(r->h, !u->gate) ||
	    thaw_set_event(r->h, event, r) || thaw_set_log(r->h, log_line, r, THAW_LOG_DEBUG))
		return library_trouble(r, "the monitor cannot be made: %s");
	return true;
}

static bool start_processes(struct round *r)
{
	for (unsigned i = 0; i < r->u->processes; i++)
		if (given_up(r) ||
		    thaw_stress_process_start(&r->p[i], i, r->shared_fd, r->scratch_fd, r->o->trouble, sizeof(r->o->trouble)))
			return false;
	for (unsigned i = 0; i < r->u->processes; i++)
		if (thaw_stress_process_uffd(&r->p[i], r->s, r->stop, r->o->trouble, sizeof(r->o->trouble)))
			return false;
	return true;
}

static bool add_space(struct round *r, unsigned process)
{
	const struct stress_shared *s = r->s;
	struct thaw_range *ranges = calloc(s->n_ranges + 1, sizeof(*ranges));
	struct thaw_space d = {
		.size = sizeof(d), .uffd = r->p[process].uffd, .pidfd = r->p[process].pidfd, .pid = r->p[process].pid,
		.ranges = ranges, .register_ranges = s->by_library,
	};

	for (uint32_t i = 0; ranges && i < s->n_ranges; i++) {
		const struct stress_range *g = &s->ranges[i];
		uint64_t base = g->arena == STRESS_BRK ? atomic_load(&s->brk[process]) : s->base + g->arena * s->stride;

		if (g->process == process)
			ranges[d.n_ranges++] = (struct thaw_range){ base + g->page * STRESS_PAGE, g->pages * STRESS_PAGE,
								    THAW_KIND_ANON, PROT_READ | PROT_WRITE, g->flags };
	}
	d.source = thaw_stress_content_source(r->content, process);
	r->o->space[process] = d.source && ranges ? thaw_add_space(r->h, &d) : -1;
	thaw_source_close(d.source);
	free(ranges);
	if (r->o->space[process] < 0)
		return library_trouble(r, "a process cannot be added: %s");
	r->p[process].uffd = -1; /* the library's now */
	return true;
}

static bool add_all(struct round *r)
{
	for (unsigned i = 0; i < r->u->processes; i++)
		if (given_up(r) || !add_space(r, i))
			return false;
	return true;
}

static bool set_out(struct round *r)
{
	if (!make_shared(r) || !describe(r))
		return false;
	make_scratch(r);
	r->content = thaw_stress_content_new(r->u, r->s, r->plan, r->stop, r->o->trouble, sizeof(r->o->trouble));
	if (!r->content)
		return false;
	r->s->planted = thaw_stress_content_planted(r->content);
	if (given_up(r) || !make_monitor(r) || !start_processes(r))
		return false;
	if (!r->u->late_add && !add_all(r))
		return false;
	if (thaw_start(r->h))
		return library_trouble(r, "the monitor cannot be started: %s");
	r->started = true;
	return !r->u->late_add || add_all(r);
}

/* ---- while it runs -------------------------------------------------------------------------------------------------------------- */
/* A violation that the program itself sees; the first one counts here as well. */
static void blame(struct round *r, enum stress_class class, int track, const char *expected, const char *found, const char *what)
{
	struct stress_violation *v = &r->s->violation;

	if (atomic_exchange(&v->claimed, 1))
		return;
	v->class = class;
	v->track = track;
	v->op = track >= 0 ? (int)atomic_load(&r->s->tracks[track].done) : -1;
	v->pid = track >= 0 ? atomic_load(&r->s->tracks[track].pid) : 0;
	v->address = track >= 0 ? atomic_load(&r->s->tracks[track].address) : 0;
	v->ns = thaw_stress_ns();
	snprintf(v->expected, sizeof(v->expected), "%s", expected);
	snprintf(v->found, sizeof(v->found), "%s", found);
	snprintf(v->what, sizeof(v->what), "%s", what);
	atomic_store(&v->ready, 1);
}

/* The process ends, or has ended, and nobody has reported for its threads and children. */
static void forget_tracks(struct round *r, unsigned process)
{
	for (uint32_t k = 0; k < r->s->n_tracks; k++) /* none of them is waited for */
		if (r->s->tracks[k].process == process)
			atomic_store(&r->s->tracks[k].state, STRESS_ENDED);
}

static void ended(struct round *r, unsigned i)
{
	struct stress_process *p = &r->p[i];
	bool doomed = atomic_load(&r->s->doomed[i]);
	char text[64];

	if (doomed && (!p->status || (WIFSIGNALED(p->status) && WTERMSIG(p->status) == SIGKILL))) {
		forget_tracks(r, i);
		return;
	}
	if (!p->status)
		return;
	if (r->s->trouble[0]) {
		r->o->failed = atomic_load(&r->s->died);
		trouble(r, r->o->failed ? "a worker failed: %s" : "a worker gave up: %s", r->s->trouble);
		return;
	}
	if (atomic_load(&r->s->violation.claimed))
		return;
	snprintf(text, sizeof(text), WIFSIGNALED(p->status) ? "ended by signal %d" : "ended with status %d",
		 WIFSIGNALED(p->status) ? WTERMSIG(p->status) : WEXITSTATUS(p->status));
	r->o->failed = true;
	trouble(r, "a worker %s", text);
}

/* True: some are left. */
static bool reap(struct round *r)
{
	struct pollfd f[STRESS_MAX_PROCESSES];
	unsigned n = 0;

	for (unsigned i = 0; i < r->u->processes; i++)
		if (!r->p[i].ended)
			f[n++] = (struct pollfd){ .fd = r->p[i].pidfd, .events = POLLIN };
	if (n)
		poll(f, n, LOOK_MS);
	n = 0;
	for (unsigned i = 0; i < r->u->processes; i++) {
		if (!r->p[i].ended && waitpid(r->p[i].pid, &r->p[i].status, WNOHANG) == r->p[i].pid) {
			r->p[i].ended = true;
			ended(r, i);
		}
		n += !r->p[i].ended;
	}
	return n;
}

/* Processes that have called exec live on without the memory that was restored. Its space has to end for all that. */
static void tell_the_execed(struct round *r, uint64_t patience_ms)
{
	char found[64];

	for (unsigned i = 0; i < r->u->processes; i++) {
		if (!atomic_load(&r->s->execs[i]) || r->p[i].ended || r->exec[i].told)
			continue;
		forget_tracks(r, i);
		if (!thaw_wait(r->h, r->o->space[i], 0)) {
			r->exec[i].told = true;
			thaw_stress_process_go(&r->p[i]);
			continue;
		}
		r->exec[i].waited_ms += LOOK_MS; /* by our own looks, as in watch.c */
		if (r->exec[i].waited_ms <= patience_ms)
			continue;
		snprintf(found, sizeof(found), "not after %llu ms", (unsigned long long)patience_ms);
		blame(r, STRESS_NEVER_FINISHED, -1, "the space of a process that has called exec is gone", found, "the process lives on");
	}
}

/* In short turns, so that a signal is heard. */
static void wait_for_all(struct round *r, uint64_t patience_ms)
{
	uint64_t began = thaw_stress_ms();
	char found[96];

	while (thaw_wait(r->h, 0, WAIT_MS)) {
		if (given_up(r))
			return;
		if (thaw_get_errno() == ETIMEDOUT && thaw_stress_ms() - began < patience_ms)
			continue;
		snprintf(found, sizeof(found), "not finished after %llu ms", (unsigned long long)patience_ms);
		blame(r, STRESS_NEVER_FINISHED, -1, "every space finished or gone",
		      thaw_get_errno() == ETIMEDOUT ? found : thaw_get_error(), "all processes have ended");
		return;
	}
}

static void let_loose(struct round *r, bool hasty)
{
	struct stress_watch *w = thaw_stress_watch_new(r->u, r->s, hasty);
	uint64_t patience = w ? thaw_stress_watch_patience_ms(w) : 60000;
	char found[96];
	int track = -1;

	r->o->ran = true;
	for (unsigned i = 0; i < r->u->processes; i++)
		thaw_stress_process_go(&r->p[i]);
	while (reap(r) && !given_up(r) && !r->o->trouble[0] && !atomic_load(&r->s->violation.ready) && !atomic_load(&r->frozen)) {
		tell_the_execed(r, patience);
		track = w ? thaw_stress_watch_tick(w) : -1;
		if (track < 0)
			continue;
		snprintf(found, sizeof(found), "no answer within %llu ms", (unsigned long long)patience);
		blame(r, STRESS_LOST_FAULT, track, "the page", found, "a thread waits, and nobody comes");
		r->o->asleep[0] = '\0';
		thaw_stress_threads_of(atomic_load(&r->s->tracks[track].pid), "process", r->o->asleep, sizeof(r->o->asleep));
		thaw_stress_threads_of(getpid(), "monitor", r->o->asleep, sizeof(r->o->asleep));
		break;
	}
	thaw_stress_content_release(r->content);
	/* All is over for the processes; it has to be for the monitor, too. */
	if (!r->o->interrupted && !r->o->trouble[0] && !atomic_load(&r->s->violation.claimed) && !atomic_load(&r->frozen))
		wait_for_all(r, patience);
	thaw_stress_watch_free(w);
}

static void check_account(struct round *r)
{
	const struct thaw_progress *p = &r->o->progress;
	char found[160];

	if (p->spaces == p->spaces_done && p->bytes_placed + p->bytes_gone == p->bytes_total)
		return;
	snprintf(found, sizeof(found), "%llu of %llu done, %llu placed + %llu gone of %llu bytes", (unsigned long long)p->spaces_done,
		 (unsigned long long)p->spaces, (unsigned long long)p->bytes_placed, (unsigned long long)p->bytes_gone,
		 (unsigned long long)p->bytes_total);
	blame(r, STRESS_NEVER_FINISHED, -1, "all spaces done, and placed + gone = total", found, "the library's account of the round");
}

/* ---- the end --------------------------------------------------------------------------------------------------------------------- */
static void take_down(struct round *r)
{
	struct stress_outcome *o = r->o;

	if (r->h && r->started) {
		o->stats.size = sizeof(o->stats);
		o->progress.size = sizeof(o->progress);
		(void)thaw_get_stats(r->h, 0, &o->stats);
		(void)thaw_get_progress(r->h, 0, &o->progress);
		if (!o->trouble[0] && !o->interrupted && !atomic_load(&r->s->violation.claimed) && !atomic_load(&r->s->stop) &&
		    !atomic_load(&r->frozen))
			check_account(r);
	}
	for (unsigned i = 0; i < r->u->processes; i++)
		thaw_stress_process_kill(&r->p[i]);
	if (r->h && r->started)
		(void)thaw_wait(r->h, 0, 5000); /* their spaces are gone: then nothing is left open by the close */
	if (r->content)
		thaw_stress_content_drain(r->content);
	thaw_close(r->h);
	thaw_stress_content_free(r->content);
	for (unsigned i = 0; i < r->u->processes; i++)
		thaw_stress_process_close(&r->p[i]);
}

static void take_results(struct round *r)
{
	struct stress_outcome *o = r->o;
	struct stress_shared *s = r->s;

	for (unsigned k = 0; k < STRESS_KINDS; k++) {
		o->done[k] = atomic_load(&s->done[k]);
		o->refused[k] = atomic_load(&s->refused[k]);
	}
	o->pages_checked = atomic_load(&s->pages_checked);
	o->forks = atomic_load(&s->forks);
	if (!atomic_load(&s->violation.claimed))
		return;
	for (int i = 0; i < 100 && !atomic_load(&s->violation.ready); i++)
		nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
	if (o->interrupted && !atomic_load(&s->violation.ready))
		return; /* whoever found it was ended before it could say what */
	o->violated = true;
	o->trouble[0] = 0; /* what else went wrong followed from it */
	o->failed = false;
	memcpy(&o->violation, &s->violation, sizeof(o->violation));
	if (o->violation.track >= 0)
		memcpy(&o->track, &s->tracks[o->violation.track], sizeof(o->track));
}

void thaw_stress_round(const struct stress_setup *u, const struct stress_schedule *plan, struct stress_outcome *o, bool hasty,
		       const volatile int *stop)
{
	struct stress_message *messages = o->messages;
	struct round r = { .u = u, .plan = plan, .o = o, .stop = stop, .shared_fd = -1, .scratch_fd = -1 };

	memset(o, 0, sizeof(*o));
	o->messages = messages;
	pthread_mutex_init(&r.lock, NULL);
	r.p = calloc(u->processes, sizeof(*r.p));
	if (!r.p) {
		trouble(&r, "%s", "no memory");
		return;
	}
	for (unsigned i = 0; i < u->processes; i++)
		r.p[i] = (struct stress_process){ 0, -1, -1, -1, false, 0 };
	if (set_out(&r))
		let_loose(&r, hasty);
	else
		(void)given_up(&r); /* then that is why */
	take_down(&r);
	if (r.s) {
		take_results(&r);
		munmap(r.s, sizeof(*r.s));
	}
	if (r.shared_fd >= 0)
		close(r.shared_fd);
	if (r.scratch_fd >= 0)
		close(r.scratch_fd);
	free(r.p);
	pthread_mutex_destroy(&r.lock);
}
