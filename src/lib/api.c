// SPDX-License-Identifier: LGPL-2.1-or-later
/* lib/api.c - the public calls: check, hand down, report */
#include "config.h"
#include "thaw.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "engine/monitor.h"
#include "engine/report.h"
#include "engine/subscribe.h"
#include "kern/probe.h"
#include "kern/uffd.h"
#include "util/err.h"
#include "util/sized.h"

THAW_PUBLIC const char *thaw_get_error(void)
{
	return thaw_err_text();
}

THAW_PUBLIC int thaw_get_errno(void)
{
	return -thaw_err_code();
}

/* Codes that thaw.h lists; anything else is told as EIO, its sentence kept. */
static int listed(int code)
{
	static const int all[] = {
		EAGAIN, EBADF, EBUSY, ECANCELED, EACCES, EEXIST, EINVAL, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSYS, ENOTSUP,
		EPERM, ESRCH, ETIMEDOUT,
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (code == -all[i])
			return code;
	return -EIO;
}

/* Puts the call's name before the sentence and makes -1 of it. */
static int fail(const char *call)
{
	thaw_err_set(listed(thaw_err_code()), "%s: %s", call, thaw_err_text());
	return -1;
}

static int refuse(const char *call, int code, const char *why)
{
	thaw_err_set(code, "%s: %s", call, why);
	return -1;
}

/* The structures as they were in the first release; see util/sized.h. */
#define FIRST_SPACE THAW_SIZED_UPTO(struct thaw_space, registers_later)
#define FIRST_PROGRESS THAW_SIZED_UPTO(struct thaw_progress, left_ns)
#define FIRST_STATS THAW_SIZED_UPTO(struct thaw_stats, pages_found)
#define FIRST_SUBSCRIBER_OPS THAW_SIZED_UPTO(struct thaw_subscriber_ops, end)

/* A call that succeeds leaves the last failure as it was, also where it has tried something in vain. */
static int64_t succeed(const struct thaw_err *before, int64_t result)
{
	thaw_err_restore(before);
	return result;
}

#define NO_HANDLE "the handle is NULL"
#define STARTED "the monitor has been started: settings come before thaw_start()"

THAW_PUBLIC struct thaw *thaw_create(void)
{
	struct thaw *h = thaw_monitor_new();

	if (!h)
		fail("thaw_create");
	return h;
}

THAW_PUBLIC void thaw_close(struct thaw *h)
{
	if (h)
		thaw_monitor_free(h);
}

#define SETTLED "a start has been tried: this was settled by it"

/* The frame of every setting: a handle that has not been started, a value that is allowed, then the assignment. `settled`: a start that
 * failed has fixed it, too. */
#define SETTING(h, valid, why, assignment) SETTING_UNTIL(h, false, valid, why, assignment)
#define SETTING_UNTIL(h, settled_, valid, why, assignment) \
	do { \
		if (!(h)) \
			return refuse(__func__, -EINVAL, NO_HANDLE); \
		if (!(valid)) \
			return refuse(__func__, -EINVAL, why); \
		{ \
			THAW_SCOPED_LOCK(&(h)->lock); \
			if ((h)->phase != THAW_PHASE_SETUP) \
				return refuse(__func__, -EBUSY, STARTED); \
			if (settled_) \
				return refuse(__func__, -EBUSY, SETTLED); \
			assignment; \
		} \
		return 0; \
	} while (0)

THAW_PUBLIC int thaw_set_copiers(struct thaw *h, unsigned copiers)
{
	SETTING(h, copiers >= 1 && copiers <= THAW_MAX_COPIERS, "copiers must be 1 to 64", h->set.copiers = copiers);
}

THAW_PUBLIC int thaw_set_readers(struct thaw *h, unsigned readers)
{
	SETTING(h, readers >= 1 && readers <= THAW_MAX_READERS, "readers must be 1 to 16", h->set.readers = readers);
}

THAW_PUBLIC int thaw_set_chunk(struct thaw *h, size_t bytes)
{
	SETTING(h, bytes >= THAW_PAGE_SIZE && bytes <= THAW_MAX_CHUNK && !(bytes & (THAW_PAGE_SIZE - 1)),
		"the chunk must be whole pages, 4 KiB to 256 KiB", h->set.chunk = bytes);
}

THAW_PUBLIC int thaw_set_background(struct thaw *h, enum thaw_background policy, unsigned delay_ms)
{
	SETTING(h, policy == THAW_BACKGROUND_RUN || policy == THAW_BACKGROUND_DELAYED || policy == THAW_BACKGROUND_STAY_LAZY,
		"unknown background policy", h->set.background = policy; h->set.delay_ms = delay_ms);
}

THAW_PUBLIC int thaw_set_read_around(struct thaw *h, unsigned pages)
{
	SETTING(h, pages <= THAW_MAX_AROUND, "read-around must be 0 to 64 pages", h->set.around = pages);
}

THAW_PUBLIC int thaw_set_spin(struct thaw *h, unsigned microseconds)
{
	SETTING(h, microseconds <= 200, "the spin must be 0 to 200 microseconds", h->set.spin_us = microseconds);
}

THAW_PUBLIC int thaw_set_io(struct thaw *h, enum thaw_io io)
{
	SETTING(h, io == THAW_IO_AUTO || io == THAW_IO_URING || io == THAW_IO_POOL, "unknown kind of I/O", h->set.io = io);
}

/* Asked of the kernel by making a userfaultfd: the bit is in what UFFDIO_API returns. */
static int try_poison(void)
{
	uint64_t features = 0;
	struct thaw_err before;
	int fd;

	thaw_err_save(&before);
	fd = thaw_uffd_open_features(0, &features);
	if (fd < 0)
		return fd;
	close(fd);
	if (!(features & UFFD_FEATURE_POISON))
		return thaw_err_set(-ENOTSUP, "this kernel cannot poison a page of another process (UFFDIO_POISON is in Linux 6.6 and"
				    " later): only THAW_FAILURE_WAIT is possible");
	return succeed(&before, 0);
}

THAW_PUBLIC int thaw_set_failure(struct thaw *h, enum thaw_failure policy)
{
	if (policy == THAW_FAILURE_SIGBUS && try_poison())
		return fail(__func__);
	SETTING_UNTIL(h, h->settled, policy == THAW_FAILURE_WAIT || policy == THAW_FAILURE_SIGBUS, "unknown failure policy",
		      h->set.failure = policy);
}

THAW_PUBLIC int thaw_set_sandbox(struct thaw *h, int on)
{
	SETTING(h, true, "", h->set.sandbox = on);
}

THAW_PUBLIC int thaw_set_numbering(struct thaw *h, int on)
{
	SETTING_UNTIL(h, h->settled, true, "", h->set.numbering = on);
}

THAW_PUBLIC int thaw_set_holder(struct thaw *h, int on, int log_fd)
{
	int own = -1, drop, ret = 0;

	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	if (log_fd < -1)
		return refuse(__func__, -EBADF, "log_fd must be a descriptor, or -1 for standard error");
	if (log_fd >= 0 && (own = fcntl(log_fd, F_DUPFD_CLOEXEC, 0)) < 0) {
		thaw_err_set(-errno, "log_fd %d cannot be duplicated: %s", log_fd, strerror(errno));
		return fail(__func__);
	}
	{
		THAW_SCOPED_LOCK(&h->lock);
		drop = h->set.holder_log_fd;
		if (h->phase == THAW_PHASE_SETUP) {
			h->set.holder = on;
			h->set.holder_log_fd = own;
		} else {
			drop = own;
			ret = refuse(__func__, -EBUSY, STARTED);
		}
	}
	if (drop >= 0)
		close(drop);
	return ret;
}

THAW_PUBLIC int thaw_set_log(struct thaw *h, thaw_log_fn *fn, void *opaque, enum thaw_log_level most)
{
	SETTING(h, most >= THAW_LOG_ERROR && most <= THAW_LOG_DEBUG, "unknown log level",
		h->set.log = ((struct thaw_log){ fn, opaque, most }));
}

THAW_PUBLIC int thaw_set_event(struct thaw *h, thaw_event_fn *fn, void *opaque)
{
	SETTING(h, true, "", h->set.event = fn; h->set.event_opaque = opaque);
}

THAW_PUBLIC int64_t thaw_add_space(struct thaw *h, const struct thaw_space *space)
{
	enum thaw_phase phase;
	struct thaw_err before;
	struct thaw_space own;
	int64_t id;

	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	if (!space)
		return refuse(__func__, -EINVAL, "space is NULL");
	if (thaw_sized_take(&own, sizeof(own), FIRST_SPACE, space, "thaw_space"))
		return fail(__func__);
	{
		THAW_SCOPED_LOCK(&h->lock);
		phase = h->phase;
	}
	if (phase >= THAW_PHASE_STOPPING)
		return refuse(__func__, -ECANCELED, "the monitor has been stopped");
	thaw_err_save(&before);
	id = thaw_mm_add(h, &own);
	return id < 0 ? fail(__func__) : succeed(&before, id);
}

THAW_PUBLIC int thaw_space_registered(struct thaw *h, int64_t space)
{
	enum thaw_phase phase;

	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	if (space < 0)
		return refuse(__func__, -EINVAL, "space must be an id, or 0 for all");
	{
		THAW_SCOPED_LOCK(&h->lock);
		phase = h->phase;
	}
	if (phase >= THAW_PHASE_STOPPING)
		return refuse(__func__, -ECANCELED, "the monitor has been stopped");
	return thaw_mm_registered(h, space) ? fail(__func__) : 0;
}

THAW_PUBLIC int thaw_start(struct thaw *h)
{
	enum thaw_phase phase;
	struct thaw_err before;
	int err;

	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	thaw_err_save(&before);
	{
		THAW_SCOPED_LOCK(&h->lock);
		phase = h->phase;
		if (phase == THAW_PHASE_SETUP)
			h->phase = THAW_PHASE_STARTING;
	}
	if (phase != THAW_PHASE_SETUP)
		return refuse(__func__, -EBUSY, "the monitor has been started before");
	err = thaw_monitor_start(h);
	{
		THAW_SCOPED_LOCK(&h->lock);
		h->phase = err ? THAW_PHASE_SETUP : THAW_PHASE_RUNNING;
	}
	return err ? fail(__func__) : (int)succeed(&before, 0);
}

THAW_PUBLIC int thaw_wait(struct thaw *h, int64_t space, int timeout_ms)
{
	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	if (space < 0)
		return refuse(__func__, -EINVAL, "space must be an id, or 0 for all");
	return thaw_report_wait(h, space, timeout_ms) ? fail(__func__) : 0;
}

THAW_PUBLIC int thaw_stop(struct thaw *h)
{
	enum thaw_phase phase;

	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	{
		THAW_SCOPED_LOCK(&h->lock);
		phase = h->phase;
		if (phase == THAW_PHASE_RUNNING)
			h->phase = THAW_PHASE_STOPPING;
		/* Another thread is at it: what callbacks use may be freed when no thread is left, not before. */
		while (phase == THAW_PHASE_STOPPING && h->phase != THAW_PHASE_STOPPED)
			thaw_cond_wait(&h->changed, &h->lock);
	}
	if (phase == THAW_PHASE_STOPPED || phase == THAW_PHASE_STOPPING)
		return 0;
	if (phase != THAW_PHASE_RUNNING)
		return refuse(__func__, -EINVAL, "the monitor has not been started");
	thaw_monitor_stop(h);
	return 0;
}

THAW_PUBLIC int thaw_get_progress(struct thaw *h, int64_t space, struct thaw_progress *p)
{
	struct thaw_progress own;

	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	if (!p)
		return refuse(__func__, -EINVAL, "the struct is NULL");
	if (thaw_sized_check(p->size, FIRST_PROGRESS, "thaw_progress"))
		return fail(__func__);
	if (space < 0)
		return refuse(__func__, -EINVAL, "space must be an id, or 0 for all");
	if (thaw_report_progress(h, space, &own))
		return fail(__func__);
	thaw_sized_give(p, &own, sizeof(own));
	return 0;
}

THAW_PUBLIC int thaw_get_stats(struct thaw *h, int64_t space, struct thaw_stats *s)
{
	struct thaw_stats own;

	if (!h)
		return refuse(__func__, -EINVAL, NO_HANDLE);
	if (!s)
		return refuse(__func__, -EINVAL, "the struct is NULL");
	if (thaw_sized_check(s->size, FIRST_STATS, "thaw_stats"))
		return fail(__func__);
	if (space < 0)
		return refuse(__func__, -EINVAL, "space must be an id, or 0 for all");
	if (thaw_report_stats(h, space, &own))
		return fail(__func__);
	thaw_sized_give(s, &own, sizeof(own));
	return 0;
}

THAW_PUBLIC struct thaw_subscriber *thaw_subscribe(struct thaw *h, int64_t space, const struct thaw_subscriber_ops *ops,
						   void *opaque)
{
	struct thaw_subscriber *s;
	struct thaw_subscriber_ops own;
	const char *why = !h ? NO_HANDLE : space < 0 ? "space must be an id, or 0 for all" :
			  !ops ? "the struct is NULL" : NULL;

	if (!why && thaw_sized_take(&own, sizeof(own), FIRST_SUBSCRIBER_OPS, ops, "thaw_subscriber_ops")) {
		fail(__func__);
		return NULL;
	}
	if (!why && !own.begin)
		why = "there is no begin";
	if (why) {
		refuse(__func__, -EINVAL, why);
		return NULL;
	}
	if (thaw_subscribers_add(h, space, &own, opaque, &s)) {
		fail(__func__);
		return NULL;
	}
	return s;
}

THAW_PUBLIC void thaw_unsubscribe(struct thaw_subscriber *s)
{
	if (s)
		thaw_subscribers_remove(s);
}

THAW_PUBLIC uint64_t thaw_subscriber_sample(const struct thaw_subscriber *s)
{
	return thaw_subscribers_sample(s);
}

THAW_PUBLIC int thaw_subscriber_retry(const struct thaw_subscriber *s, uint64_t sample)
{
	return thaw_subscribers_retry(s, sample);
}

THAW_PUBLIC int thaw_uffd_open(void)
{
	struct thaw_err before;
	int fd;

	thaw_err_save(&before);
	fd = thaw_uffd_open_features(THAW_UFFD_EVENTS | (thaw_uffd_has_numbers() ? UFFD_FEATURE_EVENT_SEQ : 0), NULL);
	return fd < 0 ? fail(__func__) : (int)succeed(&before, fd);
}

THAW_PUBLIC int thaw_probe(void)
{
	struct thaw_err before;

	thaw_err_save(&before);
	return thaw_probe_library() ? fail(__func__) : (int)succeed(&before, 0);
}
