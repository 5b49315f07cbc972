// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/abi/dlopen.c - a plug-in host can open libthaw, use it, close it, and do so again */
#include "config.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_mapped(void)
{
	char line[512];
	int found = 0;
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f))
		found |= strstr(line, "libthaw.so") != NULL;
	if (f)
		fclose(f);
	return found;
}

static int open_use_close(const char *path)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL), *h;
	const char *(*version)(void);
	void *(*create)(void);
	void (*close_monitor)(void *);

	if (!lib) {
		printf("%s\n", dlerror());
		return 1;
	}
	*(void **)&version = dlsym(lib, "thaw_get_version");
	*(void **)&create = dlsym(lib, "thaw_create");
	*(void **)&close_monitor = dlsym(lib, "thaw_close");
	if (!version || !create || !close_monitor || strcmp(version(), PACKAGE_VERSION) != 0) {
		printf("version or symbols are wrong\n");
		return 1;
	}
	if (dlsym(lib, "thaw_err_set")) {
		printf("an internal symbol is visible\n");
		return 1;
	}
	h = create();
	if (!h) {
		printf("thaw_create failed\n");
		return 1;
	}
	close_monitor(h);
	if (!is_mapped()) {
		printf("not mapped while it is open\n");
		return 1;
	}
	return dlclose(lib) != 0;
}

int main(void)
{
	const char *build = getenv("THAW_BUILDDIR");
	char path[4096];

	snprintf(path, sizeof(path), "%s/.libs/libthaw.so.0", build ? build : ".");
	for (int i = 0; i < 3; i++) {
		if (open_use_close(path))
			return 1;
		if (is_mapped()) {
			printf("still mapped after dlclose()\n");
			return 1;
		}
	}
	return 0;
}
