// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/fuzz/replay.c - runs a fuzz target over its kept corpus, in builds without libFuzzer.
 * The program's name says which corpus: fuzz_NAME reads tests/fuzz/corpus/NAME of the source tree; arguments name
 * other files instead (a crash file, for instance). */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	uint8_t *data;
	size_t got;

	if (!f || fstat(fileno(f), &st) < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	/* exactly as long as the input: a sanitizer sees the first byte too far */
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!data)
		exit(1);
	got = fread(data, 1, (size_t)st.st_size, f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, got);
	free(data);
	return 1;
}

static int replay_all(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[4096];
	int n = 0;

	if (!d) {
		fprintf(stderr, "%s: %s\n", dir, strerror(errno));
		return 0;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) < (int)sizeof(path))
			n += replay(path);
	}
	closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	const char *src = getenv("THAW_SRCDIR"), *name = strstr(argv[0], "fuzz_");
	char dir[4096];
	int n = 0;

	for (int i = 1; i < argc; i++)
		n += replay(argv[i]);
	if (argc == 1) {
		for (const char *next = name; next; next = strstr(next + 1, "fuzz_"))
			name = next; /* the last: a directory may be called so, too */
		snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", src ? src : ".", name ? name + 5 : "");
		n = replay_all(dir);
	}
	printf("%d inputs\n", n);
	return n == 0; /* an empty corpus tests nothing */
}
