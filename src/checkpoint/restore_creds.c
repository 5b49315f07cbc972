// SPDX-License-Identifier: LGPL-2.1-or-later
/* checkpoint/restore_creds.c - credentials, thread by thread: ids first with all capabilities, then those */
#include "config.h"
#include "checkpoint/restore.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kern/procfs.h"

/* Ids change without capabilities changing along. A lock is for ever: the process's own come with the final bits. */
#define BITS_MEANWHILE (SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP)
#define LAST_CAP 63u

static bool ids_same(const ThawState__Creds *c, const struct thaw_proc_status *me)
{
	const uint32_t uid[4] = { c->uid, c->euid, c->suid, c->fsuid }, gid[4] = { c->gid, c->egid, c->sgid, c->fsgid };

	if (memcmp(uid, me->uid, sizeof(uid)) || memcmp(gid, me->gid, sizeof(gid)) || c->n_groups != me->n_groups ||
	    c->n_groups > 64)
		return false;
	return !c->n_groups || !memcmp(c->groups, me->groups, c->n_groups * sizeof(*c->groups));
}

static bool caps_same(const ThawState__Caps *c, const struct thaw_proc_status *me)
{
	return c->inheritable == me->cap_inheritable && c->permitted == me->cap_permitted &&
	       c->effective == me->cap_effective && c->bounding == me->cap_bounding && c->ambient == me->cap_ambient;
}

static void id_steps(struct thaw_script *s, const ThawState__Creds *c)
{
	static const char *const remedy = "changing user and group takes CAP_SETUID and CAP_SETGID: run thaw restore as root";

	THAW_STEP(s, .what = "keeping capabilities over the change of user",
		  .remedy = "that takes CAP_SETPCAP: run thaw restore as root", .nr = SYS_prctl,
		  .args = { PR_SET_SECUREBITS, (c->securebits & ~SECURE_ALL_LOCKS) | BITS_MEANWHILE });
	THAW_STEP(s, .what = "groups", .remedy = remedy, .nr = SYS_setgroups, .args = { c->n_groups },
		  .data = c->groups, .len = c->n_groups * sizeof(*c->groups), .data_args = c->n_groups ? 1u << 1 : 0);
	THAW_STEP(s, .what = "group %ld", .at = c->gid, .remedy = remedy, .nr = SYS_setresgid,
		  .args = { c->gid, c->egid, c->sgid });
	THAW_STEP(s, .what = "user %ld", .at = c->uid, .remedy = remedy, .nr = SYS_setresuid,
		  .args = { c->uid, c->euid, c->suid });
	THAW_STEP(s, .what = "setfsgid", .nr = SYS_setfsgid, .args = { c->fsgid });
	THAW_STEP(s, .what = "setfsuid", .nr = SYS_setfsuid, .args = { c->fsuid });
}

static void cap_steps(struct thaw_script *s, const ThawState__Creds *c, const struct thaw_proc_status *me)
{
	const ThawState__Caps *k = c->caps;
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct { struct __user_cap_header_struct head; struct __user_cap_data_struct v[2]; } q = { .head = head };

	for (unsigned cap = 0; cap <= LAST_CAP; cap++)
		if (me->cap_bounding >> cap & 1 && !(k->bounding >> cap & 1))
			THAW_STEP(s, .what = "dropping capability %ld from the bounding set", .at = cap, .nr = SYS_prctl,
				  .args = { PR_CAPBSET_DROP, cap });
	THAW_STEP(s, .what = "securebits", .remedy = "they take CAP_SETPCAP", .nr = SYS_prctl,
		  .args = { PR_SET_SECUREBITS, c->securebits });
	for (unsigned i = 0; i < 2; i++) {
		q.v[i].effective = (uint32_t)(k->effective >> 32 * i);
		q.v[i].permitted = (uint32_t)(k->permitted >> 32 * i);
		q.v[i].inheritable = (uint32_t)(k->inheritable >> 32 * i);
	}
	THAW_STEP(s, .what = "capabilities", .remedy = "the process had capabilities that thaw has not: run thaw restore with them",
		  .nr = SYS_capset, .args = { 0, offsetof(__typeof__(q), v) }, .data = &q, .len = sizeof(q),
		  .data_args = 1u << 0 | 1u << 1);
	THAW_STEP(s, .what = "ambient capabilities", .nr = SYS_prctl, .args = { PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL });
	for (unsigned cap = 0; cap <= LAST_CAP; cap++)
		if (k->ambient >> cap & 1)
			THAW_STEP(s, .what = "ambient capability %ld", .at = cap, .nr = SYS_prctl,
				  .args = { PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap });
}

/* Nothing is done that is so already: who restores a process of his own needs no privilege for it. */
void thaw_restore_creds_steps(struct thaw_script *s, const ThawState__Creds *c)
{
	struct thaw_proc_status me;
	bool known = thaw_procfs_status(getpid(), &me) >= 0, same;

	if (!known)
		memset(&me, 0xff, sizeof(me)); /* then everything is set */
	same = known && ids_same(c, &me) && caps_same(c->caps, &me) &&
	       c->securebits == (uint32_t)prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	if (!same) {
		id_steps(s, c);
		cap_steps(s, c, &me);
	}
	if (c->no_new_privs)
		THAW_STEP(s, .what = "no_new_privs", .nr = SYS_prctl, .args = { PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0 });
}
