// SPDX-License-Identifier: LGPL-2.1-or-later
/* main.c - thaw-bench: options, content, rounds */
#include "config.h"
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

void die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	fputs("thaw-bench: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* The clock of a process counts what a thread has run only when that is written down, at the tick or when it sleeps: up to milliseconds
 * late for one that spins. The clock of a thread asks it. It is made of its number as pthread_getcpuclockid() does. */
static clockid_t other[256];
static unsigned others;

void others_find(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *e;

	if (!tasks)
		die("/proc/self/task: %s", strerror(errno));
	others = 0;
	while ((e = readdir(tasks)) && others < sizeof(other) / sizeof(other[0])) {
		int tid = atoi(e->d_name);

		if (tid > 0 && tid != gettid())
			other[others++] = (clockid_t)(~(unsigned)tid << 3 | 6);
	}
	closedir(tasks);
}

uint64_t others_cpu_ns(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < others; i++)
		sum += clock_ns(other[i]);
	return sum;
}

/* Never zero, so that a page that was lost cannot pass. */
uint64_t page_word(uint64_t page)
{
	return page * 0x9e3779b97f4a7c15ULL | 1;
}

static void usage(void)
{
	puts("Usage: thaw-bench [OPTION]...\n"
	     "Measures the kernel's floor and thaw's own figures in one run, round by round.\n"
	     "\n"
	     "  --size SIZE     memory to bring in, with K, M or G behind the number (1G)\n"
	     "  --rounds N      rounds; the best and the median of them are shown (5)\n"
	     "  --quick         one round of few faults: does it run at all?\n"
	     "  --content DIR   where the content's file is made; \"memory\": a memfd (/var/tmp)\n"
	     "  --thaw FILE     the thaw program, for the restore time (beside this one)\n"
	     "  --criu FILE     instead of all that: a redis-server of that size that this criu dumps and restores with\n"
	     "                  --lazy-pages, beside its own daemon and beside thaw lazy-pages, in turns (as root)\n"
	     "  --json          one JSON object instead of the table (doc/bench.md names its keys)\n"
	     "  --help          this text\n"
	     "\n"
	     "Missing a target is shown, and is no failure.");
	exit(0);
}

static size_t parse_size(const char *s)
{
	char *end;
	unsigned long long n = strtoull(s, &end, 10);
	unsigned shift = 0;

	if (*end == 'K' || *end == 'k')
		shift = 10;
	else if (*end == 'M' || *end == 'm')
		shift = 20;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	if (shift)
		end++;
	if (end == s || *end || n > (1ULL << 40 >> shift) || n << shift < 16 << 20)
		die("--size %s: give at least 16M, as in 512M or 2G", s);
	return (n << shift) & ~((2UL << 20) - 1);
}

static void parse(struct bench *b, int argc, char **argv)
{
	enum { SIZE = 1, ROUNDS, QUICK, CONTENT, THAW, JSON, HELP, SUBJECT, CRIU };
	static const struct option options[] = {
		{ "size", required_argument, NULL, SIZE },   { "rounds", required_argument, NULL, ROUNDS },
		{ "quick", no_argument, NULL, QUICK },	     { "thaw", required_argument, NULL, THAW },
		{ "json", no_argument, NULL, JSON },	     { "help", no_argument, NULL, HELP },
		{ "subject", required_argument, NULL, SUBJECT }, { "content", required_argument, NULL, CONTENT },
		{ "criu", required_argument, NULL, CRIU },	 { 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (o) {
		case SIZE:
			b->size = parse_size(optarg);
			break;
		case ROUNDS:
			b->rounds = strtoul(optarg, NULL, 10);
			if (b->rounds < 1 || b->rounds > 100)
				die("--rounds %s: 1 to 100", optarg);
			break;
		case QUICK:
			b->quick = true;
			break;
		case CONTENT:
			b->content_dir = optarg;
			break;
		case THAW:
			b->program = optarg;
			break;
		case CRIU:
			b->criu = optarg;
			break;
		case JSON:
			b->json = true;
			break;
		case HELP:
			usage();
			break;
		case SUBJECT:
			run_restore_subject(strtoull(optarg, NULL, 10));
		default:
			exit(2);
		}
	if (optind != argc)
		die("%s: there are no arguments but options; see --help", argv[optind]);
}

/* The program beside us, or in the build directory's top when libtool has put us into .libs. */
static const char *find_program(void)
{
	static char path[PATH_MAX + 16];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash && slash - path > 6 && !strncmp(slash - 6, "/.libs", 6))
		slash -= 6;
	if (!slash)
		return NULL;
	strcpy(slash, "/thaw");
	return access(path, X_OK) ? NULL : path;
}

/* A file without a name, on the disk that images are on: mapped, it costs what an image in the page cache costs. */
static int content_file(struct bench *b)
{
	char path[PATH_MAX];
	int fd;

	if (!strcmp(b->content_dir, "memory")) {
		fd = memfd_create("thaw-bench", MFD_CLOEXEC);
	} else {
		snprintf(path, sizeof(path), "%s/thaw-bench-XXXXXX", b->content_dir);
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
	}
	if (fd < 0 || ftruncate(fd, b->size))
		die("content of %zu MiB in %s: %s", b->size >> 20, b->content_dir, strerror(errno));
	return fd;
}

static void make_content(struct bench *b)
{
	uint64_t page[PG / 8], *p, n, i;

	b->content_fd = content_file(b);
	p = malloc(2 << 20);
	if (!p)
		die("no memory");
	for (n = 0; n < b->size / PG; n++) {
		for (i = 0; i < PG / sizeof(*p); i++)
			page[i] = page_word(n) + i;
		memcpy((char *)p + n * PG % (2 << 20), page, PG);
		if ((n + 1) * PG % (2 << 20) == 0 &&
		    pwrite(b->content_fd, p, 2 << 20, (n + 1) * PG - (2 << 20)) != 2 << 20)
			die("content of %zu MiB in %s: %s", b->size >> 20, b->content_dir, strerror(errno));
	}
	free(p);
	if (fsync(b->content_fd)) /* writing it out is not to go on beside the measuring */
		die("%s: %s", b->content_dir, strerror(errno));
	b->content = mmap(NULL, b->size, PROT_READ, MAP_SHARED | MAP_POPULATE, b->content_fd, 0);
	if (b->content == MAP_FAILED)
		die("content of %zu MiB: %s", b->size >> 20, strerror(errno));
}

int main(int argc, char **argv)
{
	struct bench b = { .size = 1UL << 30, .rounds = 0, .faults = 8192, .drain_faults = 20000,
			   .content_dir = "/var/tmp" };
	unsigned i;

	parse(&b, argc, argv);
	if (!b.rounds)
		b.rounds = b.quick ? 1 : 5;
	if (b.quick)
		b.faults = 512;
	if (b.faults > b.size / PG / 4)
		b.faults = b.size / PG / 4;
	if (b.drain_faults > b.size / PG / 8)
		b.drain_faults = b.size / PG / 8;
	if (!b.program)
		b.program = find_program();
	if (b.criu)
		measure_criu(&b);
	else
		make_content(&b);
	for (i = 0; i < b.rounds && !b.criu; i++) {
		if (!b.json && isatty(2))
			fprintf(stderr, "\rround %u of %u ", i + 1, b.rounds);
		measure_floor_faults(&b);
		measure_floor_copy(&b);
		measure_engine(&b);
		measure_restore(&b);
	}
	if (!b.json && isatty(2))
		fputs("\r                  \r", stderr);
	if (b.json)
		report_json(&b);
	else
		report_table(&b);
	return 0;
}
