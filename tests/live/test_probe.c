// SPDX-License-Identifier: LGPL-2.1-or-later
/* test_probe.c - every probe answers with one of four words, tells a cause and leaves nothing; without rights it says
 * so */
#include "config.h"
#include "kern/probe.h"
#include "util/err.h"
#include "util/inject.h"
#include "support/patience.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

static void fail(const char *name, const char *what)
{
	fprintf(stderr, "%s: %s\n", name, what);
	failures++;
}

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static const struct thaw_probe_item *find(const struct thaw_probe_item *items, unsigned n, const char *name)
{
	unsigned i;

	for (i = 0; i < n; i++)
		if (!strcmp(items[i].name, name))
			return &items[i];
	fail(name, "is not probed");
	exit(1);
}

static void check_all(struct thaw_probe_item *items, unsigned n, bool print)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		const struct thaw_probe_item *it = &items[i];

		if (print)
			printf("%-20s %-13s %s%s%s\n", it->name, thaw_probe_state_name(it->state), it->detail,
			       it->remedy[0] ? " -> " : "", it->remedy);
		if (it->state != THAW_PROBE_YES && !it->detail[0])
			fail(it->name, "is not there and no cause is told");
		if (it->state == THAW_PROBE_DENIED && !it->remedy[0])
			fail(it->name, "is not permitted and no remedy is told");
		if (it->state == THAW_PROBE_BROKEN)
			fail(it->name, it->detail);
	}
}

/* A user without rights, on the same kernel: what root may becomes "not permitted", never "absent" or "broken". */
static int without_rights(void)
{
	static const char *const denied[] = { "set_tid", "open_by_handle_at", "pidns", "map_files" };
	struct thaw_probe_item items[THAW_PROBE_MAX];
	unsigned n, i;

	if (setgid(65534) || setuid(65534) || prctl(PR_SET_DUMPABLE, 1))
		return 1;
	n = thaw_probe_all(items, THAW_PROBE_MAX);
	check_all(items, n, true);
	for (i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
		if (find(items, n, denied[i])->state != THAW_PROBE_DENIED)
			fail(denied[i], "should not be permitted to nobody");
	if (find(items, n, "userfaultfd-events")->state == THAW_PROBE_YES)
		fail("userfaultfd-events", "should need CAP_SYS_PTRACE");
	if (!thaw_probe_library() || !strstr(thaw_err_text(), "CAP_SYS_PTRACE"))
		fail("library", "no sentence with the remedy");
	return failures ? 1 : 0;
}

static void test_injected(void)
{
#ifdef THAW_DEBUG
	static const struct {
		const char *spec, *word;
	} cases[] = {
		{ "uffd.node:ENOENT:1+,uffd.call:EPERM:1+", "vm.unprivileged_userfaultfd" },
		{ "uffd.node:EACCES:1+,uffd.call:EPERM:1+", "may not be opened by this user" },
		{ "uffd.node:ENOENT:1+,uffd.call:ENOSYS:1+", "CONFIG_USERFAULTFD" },
		{ "uffd.node:EMFILE:1+,uffd.call:EMFILE:1+", "ulimit -n" },
		{ "uffd.api:EPERM:1+", "CAP_SYS_PTRACE" },
	};
	struct thaw_probe_item items[THAW_PROBE_MAX];
	unsigned i, n;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		thaw_inject_arm(cases[i].spec);
		if (!thaw_probe_library() || !strstr(thaw_err_text(), cases[i].word)) {
			fprintf(stderr, "%s: %s\n", cases[i].spec, thaw_err_text());
			fail(cases[i].word, "is not in the sentence");
		}
	}
	thaw_inject_arm("ring.setup:EPERM:1+");
	n = thaw_probe_all(items, THAW_PROBE_MAX);
	if (find(items, n, "io_uring")->state != THAW_PROBE_DENIED)
		fail("io_uring", "EPERM is not told as not permitted");
	thaw_inject_arm("ring.setup:ENOSYS:1+");
	n = thaw_probe_all(items, THAW_PROBE_MAX);
	if (find(items, n, "io_uring")->state != THAW_PROBE_ABSENT)
		fail("io_uring", "ENOSYS is not told as absent");
	thaw_inject_arm("pagemap.scan:ENOTTY:1+");
	n = thaw_probe_all(items, THAW_PROBE_MAX);
	if (find(items, n, "pagemap-scan")->state != THAW_PROBE_ABSENT ||
	    find(items, n, "pagemap")->state != THAW_PROBE_YES)
		fail("pagemap-scan", "its absence is not told, or takes the pagemap with it");
	thaw_inject_arm(NULL);
#endif
}

int main(void)
{
	struct thaw_probe_item items[THAW_PROBE_MAX];
	unsigned n, fds = count_fds();
	int status;

	alarm(patience(60));
	n = thaw_probe_all(items, THAW_PROBE_MAX);
	check_all(items, n, true);
	if (count_fds() != fds)
		fail("probes", "left descriptors open");
	if (waitpid(-1, NULL, WNOHANG | __WALL) != -1 || errno != ECHILD)
		fail("probes", "left a process");
	test_injected();
	if (geteuid() == 0) {
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (pid == 0) {
			status = without_rights();
			fflush(NULL);
			_exit(status);
		}
		waitpid(pid, &status, 0);
		if (status)
			fail("nobody", "see above");
	}
	return failures ? 1 : 0;
}
