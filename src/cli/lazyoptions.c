// SPDX-License-Identifier: LGPL-2.1-or-later
// cli/lazyoptions.c - the options of thaw lazy-pages: those of criu lazy-pages in CRIU's forms, and its own.
#include "config.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/lazy.h"
#include "util/err.h"

#define DELAY_LIMIT 86400000 /* milliseconds: a day */
#define TIMEOUT_LIMIT 86400  /* seconds */

const struct thaw_criu_option thaw_lazy_own_options[] = {
	{ "copiers", 0, THAW_CRIU_VALUE },
	{ "chunk", 0, THAW_CRIU_VALUE },
	{ "background-delay", 0, THAW_CRIU_VALUE },
	{ "stay-lazy", 0, THAW_CRIU_FLAG },
	{ "read-around", 0, THAW_CRIU_VALUE },
	{ "stats", 0, THAW_CRIU_VALUE },
	{ "status-socket", 0, THAW_CRIU_VALUE },
	{ "reconnect-timeout", 0, THAW_CRIU_VALUE },
	{ "on-failure", 0, THAW_CRIU_VALUE },
	{ "page-server-protocol", 0, THAW_CRIU_VALUE },
	{ "quiet", 'q', THAW_CRIU_FLAG },
	/* as thaw's other commands call them */
	{ "log", 0, THAW_CRIU_VALUE },
	{ "verbose", 0, THAW_CRIU_FLAG },
	{ 0 }
};

/* ---- values ------------------------------------------------------------------------------------------------ */
static int bad(const struct thaw_criu_given *g, const char *want)
{
	return thaw_err_set(-EINVAL, "%s%s--%s: '%s' is not %s", g->file ? g->file : "", g->file ? ": " : "", g->option->name,
			    g->value, want);
}

static int take_number(const struct thaw_criu_given *g, long min, long max, long *value)
{
	char want[80], *end;

	errno = 0;
	*value = strtol(g->value, &end, 10);
	if (*g->value && strspn(g->value, "0123456789") == strlen(g->value) && !errno && *value >= min && *value <= max)
		return 1;
	snprintf(want, sizeof(want), "a whole number from %ld to %ld", min, max);
	return bad(g, want);
}

static int take_int(const struct thaw_criu_given *g, long min, long max, int *value)
{
	long v;
	int r = take_number(g, min, max, &v);

	if (r == 1)
		*value = (int)v;
	return r;
}

static int take_text(const struct thaw_criu_given *g, const char **value)
{
	if (!*g->value)
		return thaw_err_set(-EINVAL, "%s%s--%s: the value is empty", g->file ? g->file : "", g->file ? ": " : "",
				    g->option->name);
	*value = g->value;
	return 1;
}

static int take_chunk(const struct thaw_criu_given *g, size_t *chunk)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(g->value, &end, 10);
	if (end != g->value && (*end == 'K' || *end == 'k')) {
		v = v > 0 && v <= 1 << 20 ? v << 10 : -1;
		end++;
	}
	if (*g->value < '0' || *g->value > '9' || errno || *end || v < 4096 || v > 256 << 10 || v & 4095)
		return bad(g, "whole pages of 4096 bytes, from 4K to 256K");
	*chunk = v;
	return 1;
}

static int take_failure(const struct thaw_criu_given *g, enum thaw_lazy_failure *f)
{
	static const char *const names[] = { "freeze", "kill", "sigbus" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(g->value, names[i])) {
			*f = i;
			return 1;
		}
	}
	return bad(g, "one of freeze, kill, sigbus");
}

/* -v, -v4, -vvv, --verbosity, --verbosity=4. One more than the last, or the number. */
static int take_level(const struct thaw_criu_given *g, long *level)
{
	if (!g->value) {
		++*level;
		return 1;
	}
	if (*g->value == 'v' && strspn(g->value, "v") == strlen(g->value)) {
		*level += 1 + (long)strlen(g->value);
		return 1;
	}
	*level = atol(g->value); /* as CRIU has it: what is no number is 0 */
	*level = *level < 0 ? 0 : *level;
	return 1;
}

static int take_script(const struct thaw_criu_given *g, struct thaw_lazy_command *c)
{
	if (c->n_scripts == THAW_LAZY_SCRIPTS)
		return thaw_err_set(-EINVAL, "--action-script: more than %d", THAW_LAZY_SCRIPTS);
	return take_text(g, &c->script[c->n_scripts++]);
}

static int take_close(const struct thaw_criu_given *g, struct thaw_lazy_command *c)
{
	if (c->n_closes == THAW_LAZY_CLOSES)
		return thaw_err_set(-EINVAL, "--close: more than %d", THAW_LAZY_CLOSES);
	return take_int(g, 0, 1 << 20, &c->closes[c->n_closes++]);
}

static int take_delay(const struct thaw_criu_given *g, struct thaw_lazy_command *c)
{
	long v;
	int r = take_number(g, 0, DELAY_LIMIT, &v);

	if (r == 1) {
		c->core.delayed = c->delay_given = true;
		c->core.delay_ms = v;
	}
	return r;
}

static int take_copiers(const struct thaw_criu_given *g, struct thaw_lazy_command *c)
{
	long v;
	int r = take_number(g, 1, 64, &v);

	if (r == 1) {
		c->core.copiers = v;
		c->copiers_given = true;
	}
	return r;
}

static int take_protocol(const struct thaw_criu_given *g, long *protocol)
{
	if (strcmp(g->value, "24") && strcmp(g->value, "32"))
		return bad(g, "24 (CRIU up to 4.1) or 32 (from 4.2)");
	*protocol = atol(g->value);
	return 1;
}

/* ---- one option -------------------------------------------------------------------------------------------- */
/* Those whose value is only kept. */
static const char **text_of(struct thaw_lazy_command *c, const char *name)
{
	const struct {
		const char *name;
		const char **value;
	} all[] = {
		{ "images-dir", &c->images_dir }, { "work-dir", &c->work_dir },     { "log-file", &c->log_file },
		{ "log", &c->log_file },          { "pidfile", &c->pidfile },       { "stats", &c->stats },
		{ "address", &c->address },       { "status-socket", &c->status_socket },
		{ "tls-cacert", &c->tls_cacert }, { "tls-cacrl", &c->tls_cacrl },   { "tls-cert", &c->tls_cert },
		{ "tls-key", &c->tls_key },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (!strcmp(name, all[i].name))
			return all[i].value;
	return NULL;
}

static bool *switch_of(struct thaw_lazy_command *c, const char *name)
{
	const struct {
		const char *name;
		bool *value;
	} all[] = {
		{ "daemon", &c->detach },           { "page-server", &c->page_server },
		{ "auto-dedup", &c->core.auto_dedup }, { "display-stats", &c->display_stats },
		{ "tls", &c->tls },                 { "tls-no-cn-verify", &c->tls_no_cn_verify },
		{ "stay-lazy", &c->core.stay_lazy },
		/* CRIU's -d is both; the long one is that of restore, and does the same there */
		{ "restore-detached", &c->detach },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (!strcmp(name, all[i].name))
			return all[i].value;
	return NULL;
}

static int take(void *opaque, const struct thaw_criu_given *g)
{
	struct thaw_lazy_command *c = opaque;
	const char *name = g->option->name, **text = text_of(c, name);
	bool *flag = switch_of(c, name);

	if (text)
		return take_text(g, text);
	if (flag) {
		*flag = !g->off;
		return 1;
	}
	if (!strcmp(name, "verbosity") || !strcmp(name, "verbose"))
		return take_level(g, &c->level);
	if (!strcmp(name, "quiet")) {
		c->level = 1;
		return 1;
	}
	if (!strcmp(name, "port"))
		return take_number(g, 1, 65535, &c->port);
	if (!strcmp(name, "status-fd"))
		return take_int(g, 0, 1 << 20, &c->status_fd);
	if (!strcmp(name, "ps-socket"))
		return take_int(g, 0, 1 << 20, &c->ps_socket);
	if (!strcmp(name, "action-script"))
		return take_script(g, c);
	if (!strcmp(name, "close"))
		return take_close(g, c);
	if (!strcmp(name, "copiers"))
		return take_copiers(g, c);
	if (!strcmp(name, "chunk"))
		return take_chunk(g, &c->core.chunk);
	if (!strcmp(name, "background-delay"))
		return take_delay(g, c);
	if (!strcmp(name, "read-around"))
		return take_int(g, 0, 64, &c->core.read_around);
	if (!strcmp(name, "reconnect-timeout"))
		return take_number(g, 0, TIMEOUT_LIMIT, &c->reconnect_timeout);
	if (!strcmp(name, "on-failure"))
		return take_failure(g, &c->core.failure);
	if (!strcmp(name, "page-server-protocol"))
		return take_protocol(g, &c->protocol);
	if (!strcmp(name, "version")) {
		c->version = true;
		return 1;
	}
	if (!strcmp(name, "stream") && !g->off)
		return thaw_err_set(-EINVAL, "--stream: images that come through a stream cannot be read in the order of faults");
	if (!strcmp(name, "help")) { /* a beginning of it, or beside other letters */
		c->help = true;
		return 1;
	}
	if (!strcmp(name, "config") || !strcmp(name, "no-default-config"))
		return 1; /* looked at before */
	return 0;
}

/* ---- all of them ------------------------------------------------------------------------------------------- */
static void help(void)
{
	/* One screen. Options are the words that begin with a dash: tests compare them with the manual page. */
	fputs("Usage: thaw lazy-pages -D DIR [OPTION]...\n"
	      "Bring in the memory of what criu restore --lazy-pages restores from DIR.\n\n"
	      "  -D, --images-dir DIR    the images        -W, --work-dir DIR  socket, log here\n"
	      "  -d, --daemon            in the background --pidfile FILE  its pid\n"
	      "  --status-fd FD  one zero byte when it listens; --action-script FILE  run then\n"
	      "  -o, --log-file FILE  -v, --verbosity[=N]  -q, --quiet  --log-pid  --close FD\n"
	      "  --display-stats  --stats FILE  statistics at the end (JSON)\n"
	      "  --status-socket PATH    tell thaw status how far it is\n"
	      "  --page-server --address HOST --port N  pages from there; or --ps-socket FD\n"
	      "  --page-server-protocol 24|32  --reconnect-timeout SECONDS  (0: never give up)\n"
	      "  --tls --tls-cacert FILE --tls-cacrl FILE --tls-cert FILE --tls-key FILE\n"
	      "  --tls-no-cn-verify      the server's certificate need not name HOST\n"
	      "  --copiers N             threads that copy ahead (1-64)\n"
	      "  --chunk SIZE            the longest single copy (4K-256K)\n"
	      "  --background-delay MS   first only what is touched, for so long\n"
	      "  --stay-lazy             bring in only what is touched\n"
	      "  --read-around N         pages beside a fault at most (0-64)\n"
	      "  --on-failure HOW        content cannot be had: freeze, kill or sigbus (freeze)\n"
	      "  --auto-dedup            free the images' disk space when all is in\n"
	      "  --config FILE --no-default-config    as CRIU's, and so the rest of its table:\n"
	      "  -h, --help  -V, --version            accepted, ignored, named at -v\n", stdout);
}

static int check(const struct thaw_lazy_command *c)
{
	if (c->core.stay_lazy && c->delay_given)
		return thaw_err_set(-EINVAL, "--stay-lazy and --background-delay do not go together: lazily there is no background copy");
	if (c->core.stay_lazy && c->copiers_given)
		return thaw_err_set(-EINVAL, "--stay-lazy and --copiers do not go together: lazily there is no background copy");
	if (c->detach && c->ps_socket >= 0 && c->ps_socket <= STDERR_FILENO)
		return thaw_err_set(-EINVAL, "--ps-socket %d: standard descriptors are /dev/null with --daemon: hand it over as another one",
				    c->ps_socket);
	return 0;
}

/* CRIU begins with less than a page server's whole address: it is wanted when the first task has come. */
static void complete_server(struct thaw_lazy_command *c, struct thaw_criu_line *l)
{
	if (!c->page_server)
		return;
	if (!c->address)
		c->address = "127.0.0.1";
	if (c->core.auto_dedup && l->n_ignored < THAW_CRIU_IGNORED) /* the pages are not in the images here */
		l->ignored[l->n_ignored++] = "auto-dedup";
	c->core.auto_dedup = false;
}

int thaw_lazy_parse(struct thaw_lazy_command *c, int argc, char **argv)
{
	struct thaw_criu_line l = { .command = "lazy-pages", .own = thaw_lazy_own_options, .take = take, .opaque = c };
	int r;

	*c = (struct thaw_lazy_command){ .status_fd = -1, .ps_socket = -1, .level = 2 };
	c->core.read_around = c->core.holder_log = -1;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help();
			return THAW_EXIT_OK;
		}
	}
	/* What thaw's common options before the command have said already. */
	c->level += thaw_cli.verbose;
	if (thaw_cli.quiet)
		c->level = 1;
	r = thaw_criu_parse(&l, argc, argv, strcmp(argv[0], "lazy-pages") != 0);
	if (r >= 0)
		return r;
	if (c->help) {
		help();
		return THAW_EXIT_OK;
	}
	if (c->version) {
		thaw_options_version();
		return THAW_EXIT_OK;
	}
	if (check(c) < 0) {
		thaw_say_error("%s; see thaw lazy-pages --help", thaw_err_text());
		return THAW_EXIT_FAILURE;
	}
	complete_server(c, &l);
	c->no_config = l.no_config;
	c->no_config_error = l.no_config_error;
	thaw_cli.quiet = c->level < 2;
	thaw_cli.verbose = c->level > 2 ? c->level - 2 : 0;
	c->core.log_most = c->level < 2 ? THAW_LOG_ERROR : c->level == 2 ? THAW_LOG_WARNING :
			   c->level == 3 ? THAW_LOG_INFO : THAW_LOG_DEBUG;
	memcpy(c->ignored, l.ignored, sizeof(c->ignored));
	c->n_ignored = l.n_ignored;
	return -1;
}
