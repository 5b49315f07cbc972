// SPDX-License-Identifier: LGPL-2.1-or-later
// eventfd, timerfd and signalfd: their whole state is in fdinfo.
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#include "checkpoint/files_priv.h"
#include "util/inject.h"

#define SETTLE_TRIES 20

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static int no_info(const struct thaw_dt *t, const char *key)
{
	return thaw_refuse(t->fd->num, "%s: fdinfo of this kernel does not show %s: not supported", t->fd->link, key);
}

/* ---- eventfd ---- */

/* Before 6.5 fdinfo does not tell a semaphore. Reading does: it gives 1 and leaves the rest. The count is put back. */
static bool reads_as_semaphore(int fd, uint64_t count)
{
	uint64_t two = 2, got = 0, back;
	bool added = count < 2 && write(fd, &two, sizeof(two)) == sizeof(two);

	if (read(fd, &got, sizeof(got)) != sizeof(got))
		return false;
	if (got == 1) {
		/* what was added goes away again, one by one */
		for (int i = 1; added && i < 2; i++)
			if (read(fd, &back, sizeof(back)) != sizeof(back))
				break;
		if (!added)
			(void)!write(fd, &got, sizeof(got));
		return true;
	}
	back = added ? got - 2 : got;
	if (back)
		(void)!write(fd, &back, sizeof(back));
	return false;
}

int thaw_dump_eventfd(struct thaw_dt *t, File *f)
{
	uint64_t count, semaphore;

	f->kind = KIND(EVENTFD);
	f->eventfd = malloc(sizeof(*f->eventfd));
	if (!f->eventfd)
		return thaw_nomem();
	thaw_state__eventfd__init(f->eventfd);
	if (!thaw_info_u64(t->fd->info, "eventfd-count", 16, &count))
		return no_info(t, "eventfd-count");
	f->eventfd->count = count;
	if (thaw_info_u64(t->fd->info, "eventfd-semaphore", 10, &semaphore))
		f->eventfd->semaphore = semaphore;
	else
		f->eventfd->semaphore = reads_as_semaphore(t->dup, count);
	return 0;
}

static int restore_eventfd(const File *f)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (f->eventfd->semaphore ? EFD_SEMAPHORE : 0));

	if (fd >= 0 && f->eventfd->count && write(fd, &f->eventfd->count, 8) != 8) {
		close(fd);
		return -1;
	}
	return fd;
}

/* ---- timerfd ---- */

static ThawState__Timespec *new_timespec(struct timespec ts)
{
	ThawState__Timespec *t = malloc(sizeof(*t));

	if (!t)
		return NULL;
	thaw_state__timespec__init(t);
	t->sec = ts.tv_sec;
	t->nsec = ts.tv_nsec;
	return t;
}

static struct timespec add_times(struct timespec a, struct timespec b)
{
	a.tv_sec += b.tv_sec;
	a.tv_nsec += b.tv_nsec;
	if (a.tv_nsec >= 1000000000) {
		a.tv_nsec -= 1000000000;
		a.tv_sec++;
	}
	return a;
}

static uint64_t fresh_ticks(const struct thaw_dt *t)
{
	char path[64], text[4096];
	uint64_t ticks = 0;
	ssize_t n;
	int fd;

	(void)THAW_INJECT("timerfd.ticks"); /* delays only */
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", t->d->pid, t->fd->num);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	thaw_info_u64(text, "ticks", 10, &ticks);
	return ticks;
}

static bool is_set(const struct timespec *t)
{
	return t->tv_sec || t->tv_nsec;
}

/* What is left and what was counted, true together: the count is the same before and after what is left was asked for.
 *
 * Asking settles a timer that has expired: its ticks are counted up and the next expiry is set. One that is due this very moment,
 * its interrupt not taken yet, reads like one that is not set, and would be restored as such: it would never expire again. So
 * nothing left is believed only when it is so a moment later, and of a timer with an interval not at once even then. */
static int settled(const struct thaw_dt *t, struct itimerspec *now, uint64_t *ticks)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	int nothing = 0;

	*ticks = fresh_ticks(t);
	for (unsigned tries = 0; tries < SETTLE_TRIES; tries++) {
		uint64_t before = *ticks;

		if (timerfd_gettime(t->dup, now))
			return -errno;
		*ticks = fresh_ticks(t);
		if (*ticks != before) {
			nothing = 0;
			continue;
		}
		if (is_set(&now->it_value) || nothing++ == (is_set(&now->it_interval) ? 5 : 1))
			return 0;
		nanosleep(&moment, NULL);
	}
	now->it_value = now->it_interval; /* shorter than asking takes, and just counted */
	return 0;
}

int thaw_dump_timerfd(struct thaw_dt *t, File *f)
{
	struct itimerspec now;
	struct timespec value, base;
	uint64_t clock, flags, ticks;
	int err;

	f->kind = KIND(TIMERFD);
	f->timerfd = malloc(sizeof(*f->timerfd));
	if (!f->timerfd)
		return thaw_nomem();
	thaw_state__timerfd__init(f->timerfd);
	if (!thaw_info_u64(t->fd->info, "clockid", 10, &clock) || !thaw_info_u64(t->fd->info, "settime flags", 8, &flags))
		return no_info(t, "clockid");
	err = settled(t, &now, &ticks);
	if (err)
		return thaw_err_set(err, "fd %d: timerfd_gettime: %s", t->fd->num, strerrordesc_np(-err));
	value = now.it_value;
	/* An absolute deadline stays where it is on its clock, however long the process is away. */
	if ((flags & TFD_TIMER_ABSTIME) && is_set(&value) && !clock_gettime((clockid_t)clock, &base))
		value = add_times(value, base);
	else
		flags &= ~(uint64_t)TFD_TIMER_ABSTIME;
	f->timerfd->clock = (int32_t)clock;
	f->timerfd->settime_flags = (uint32_t)flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	f->timerfd->ticks = ticks;
	f->timerfd->value = new_timespec(value);
	f->timerfd->interval = new_timespec(now.it_interval);
	return f->timerfd->value && f->timerfd->interval ? 0 : thaw_nomem();
}

/* Without TFD_IOC_SET_TICKS (CONFIG_CHECKPOINT_RESTORE) one tick can be had by letting the timer expire. */
static int expire_once(int fd, const struct itimerspec *want)
{
	struct itimerspec soon = { .it_value = { 0, 1 }, .it_interval = want->it_interval };
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	if (timerfd_settime(fd, 0, &soon, NULL))
		return -1;
	return poll(&pfd, 1, 1000) == 1 ? 0 : -1;
}

static int restore_timerfd(const File *f)
{
	const ThawState__Timerfd *t = f->timerfd;
	struct itimerspec its = {
		.it_value = { t->value->sec, t->value->nsec },
		.it_interval = { t->interval->sec, t->interval->nsec },
	};
	uint64_t ticks = t->ticks;
	int fd = timerfd_create(t->clock, TFD_CLOEXEC | TFD_NONBLOCK), saved;

	if (fd < 0)
		return -1;
	if (timerfd_settime(fd, (int)t->settime_flags, &its, NULL))
		goto bad;
	if (ticks && ioctl(fd, TFD_IOC_SET_TICKS, &ticks) && (ticks > 1 || expire_once(fd, &its)))
		goto bad;
	return fd;
bad:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* ---- signalfd ---- */

int thaw_dump_signalfd(struct thaw_dt *t, File *f)
{
	f->kind = KIND(SIGNALFD);
	f->has_signalfd_mask = thaw_info_u64(t->fd->info, "sigmask", 16, &f->signalfd_mask);
	return f->has_signalfd_mask ? 0 : no_info(t, "sigmask");
}

static int restore_signalfd(const File *f)
{
	/* the kernel's mask has 64 bits, glibc's sigset_t more: so the system call itself */
	return (int)syscall(SYS_signalfd4, -1, &f->signalfd_mask, sizeof(f->signalfd_mask), SFD_CLOEXEC);
}

int thaw_restore_event(struct thaw_fr *r, const File *f)
{
	int fd = f->eventfd ? restore_eventfd(f) : f->timerfd ? restore_timerfd(f) : restore_signalfd(f), rc;

	if (fd < 0)
		return thaw_err_set(-errno, "fd %d: %s cannot be made again: %s", thaw_fr_num(r, f),
				    f->eventfd ? "eventfd" : f->timerfd ? "timerfd" : "signalfd", strerrordesc_np(errno));
	rc = thaw_fr_setfl(r, f, fd);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}
