// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/live/test_release.c - kernels before 6.1 are refused by the library with one clear sentence, later ones are not:
 * this program's own uname() says what kernel it is */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "thaw.h"

static const char *release;
static int failures;

__attribute__((visibility("default"))) int uname(struct utsname *u)
{
	if (syscall(SYS_uname, u))
		return -1;
	if (release)
		snprintf(u->release, sizeof(u->release), "%s", release);
	return 0;
}

/* The call's own name, the version that it met and the one that is needed. */
static void refused(const char *call, int result)
{
	char version[16];
	const char *said = thaw_get_error();

	snprintf(version, sizeof(version), "Linux %.*s ", (int)strcspn(release, ".") + 1 +
		 (int)strcspn(release + strcspn(release, ".") + 1, "."), release);
	if (result != -1 || thaw_get_errno() != EOPNOTSUPP || strncmp(said, call, strlen(call)) || !strstr(said, version) ||
	    !strstr(said, "too old") || !strstr(said, "use Linux 6.1 or later") || strchr(said, '\n')) {
		fprintf(stderr, "%s on %s: %d, errno %d, \"%s\"\n", call, release, result, thaw_get_errno(), said);
		failures++;
	}
}

static void accepted(const char *call, int result)
{
	if (result < 0) {
		fprintf(stderr, "%s on %s: \"%s\"\n", call, release ? release : "this kernel", thaw_get_error());
		failures++;
	}
}

int main(void)
{
	static const char *const old[] = { "5.10.0-33-amd64", "6.0.19", "5.4.0", "4.19.0-27-cloud-amd64", "2.6.78" };
	static const char *const fine[] = { NULL, "6.1.0-56-cloud-amd64", "6.12.117", "6.10", "7.0.0-rc1", "10.2", "new" };
	struct thaw *h;
	size_t i;
	int fd;

	if (thaw_probe()) {
		printf("test_release: SKIPPED: %s\n", thaw_get_error());
		return 77;
	}
	for (i = 0; i < sizeof(old) / sizeof(old[0]); i++) {
		release = old[i];
		refused("thaw_probe", thaw_probe());
		refused("thaw_uffd_open", thaw_uffd_open());
		h = thaw_create();
		refused("thaw_start", thaw_start(h));
		/* nothing is left of the refusal: the same handle starts where the kernel is new enough */
		release = NULL;
		accepted("thaw_start", thaw_start(h));
		thaw_close(h);
	}
	for (i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		release = fine[i];
		accepted("thaw_probe", thaw_probe());
		fd = thaw_uffd_open();
		accepted("thaw_uffd_open", fd);
		close(fd);
		h = thaw_create();
		accepted("thaw_start", thaw_start(h));
		thaw_close(h);
	}
	return !!failures;
}
