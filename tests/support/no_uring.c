// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/support/no_uring.c - no_uring PROGRAM ARG...: runs it where io_uring is forbidden, as in many containers.
 * Its exit status is the program's; 77: there can be no filter */
#include "config.h"

#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int err;

	if (argc < 2 || !ctx)
		return 2;
	/* Root needs no promise never to gain privileges, and what is run keeps what it had. */
	if (!geteuid())
		seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0);
	if (!err)
		err = seccomp_load(ctx);
	if (err) {
		fprintf(stderr, "no_uring: no filter: %s\n", strerror(-err));
		return 77;
	}
	seccomp_release(ctx);
	execvp(argv[1], argv + 1);
	fprintf(stderr, "no_uring: %s: %s\n", argv[1], strerror(errno));
	return 126;
}
