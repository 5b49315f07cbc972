// SPDX-License-Identifier: LGPL-2.1-or-later
// What only sock_diag tells about a UNIX socket: its peer, its socket file, who waits in its queue.
#include "config.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "checkpoint/files_priv.h"

static void take_attr(const struct rtattr *a, struct thaw_unix *u)
{
	const void *v = RTA_DATA(a);
	const struct unix_diag_vfs *vfs = v;
	const struct unix_diag_rqlen *rq = v;

	switch (a->rta_type) {
	case UNIX_DIAG_PEER:
		u->has_peer = true;
		u->peer = *(const uint32_t *)v;
		break;
	case UNIX_DIAG_VFS:
		u->has_vfs = true;
		u->vfs_ino = vfs->udiag_vfs_ino;
		u->vfs_dev = makedev(vfs->udiag_vfs_dev >> 20, vfs->udiag_vfs_dev & 0xfffff);
		break;
	case UNIX_DIAG_RQLEN:
		u->pending = rq->udiag_rqueue;
		u->backlog = rq->udiag_wqueue;
		break;
	case UNIX_DIAG_SHUTDOWN:
		u->shut = *(const uint8_t *)v;
		break;
	}
}

static int ask(int nl, uint64_t ino)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} q = {
		.h = { .nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.r = { .sdiag_family = AF_UNIX, .udiag_states = ~0U, .udiag_ino = (uint32_t)ino,
		       .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_VFS | UDIAG_SHOW_RQLEN, .udiag_cookie = { ~0U, ~0U } },
	};

	return send(nl, &q, sizeof(q), 0) == (ssize_t)sizeof(q) ? 0 : -errno;
}

static int answer(int nl, struct thaw_unix *u)
{
	union {
		struct nlmsghdr h;
		char room[8192];
	} b;
	ssize_t n = recv(nl, &b, sizeof(b), 0);
	const struct unix_diag_msg *m = NLMSG_DATA(&b.h);
	const struct rtattr *a;
	int len;

	if (n < 0)
		return -errno;
	if (!NLMSG_OK(&b.h, (unsigned)n))
		return -EIO;
	if (b.h.nlmsg_type == NLMSG_ERROR)
		return ((const struct nlmsgerr *)NLMSG_DATA(&b.h))->error ?: -EIO;
	u->type = m->udiag_type;
	u->state = m->udiag_state;
	a = (const struct rtattr *)(m + 1);
	for (len = (int)(b.h.nlmsg_len - NLMSG_LENGTH(sizeof(*m))); RTA_OK(a, len); a = RTA_NEXT(a, len))
		take_attr(a, u);
	return 0;
}

int thaw_unix_diag(int num, uint64_t ino, struct thaw_unix *u)
{
	int nl = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), rc;

	memset(u, 0, sizeof(*u));
	if (nl < 0)
		return thaw_err_set(-errno, "fd %d: UNIX socket: no sock_diag (%s); needs CONFIG_UNIX_DIAG", num, strerrordesc_np(errno));
	rc = ask(nl, ino);
	if (!rc)
		rc = answer(nl, u);
	close(nl);
	if (!rc)
		return 0;
	return thaw_err_set(rc, "fd %d: UNIX socket: sock_diag does not know it (%s); needs CONFIG_UNIX_DIAG, and the same network namespace",
			    num, strerrordesc_np(-rc));
}
