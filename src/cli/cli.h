/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cli/cli.h - what the subcommands share: exit statuses, messages, the option table.
 *
 * Rule      standard output belongs to the answer of a command (and, in thaw restore, to the restored process alone);
 *           everything that thaw says of its own goes to standard error or the log file, "thaw: SENTENCE" a line
 * Threads   the settings are immutable once the options are parsed; messages may be written by any thread, a line is
 *           one write(2). No thread waits for who reads them: what cannot be written is counted, and the next line that can be
 *           says how many are missing
 * Errors    a command returns its exit status; the sentence has been written by then */
#ifndef THAW_CLI_CLI_H
#define THAW_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum thaw_exit {
	THAW_EXIT_OK = 0,
	THAW_EXIT_FAILURE = 1,
	THAW_EXIT_USAGE = 2
};

/* ---- settings that every command has ---------------------------------------------------------------------- */
struct thaw_cli {
	unsigned verbose;     /* 0, 1: what is done, 2 and more: every detail */
	bool quiet;           /* errors only */
	const char *log_path; /* -o FILE */
	int log_fd;           /* the opened file; -1: none */
};
extern struct thaw_cli thaw_cli;

/* ---- messages --------------------------------------------------------------------------------------------- */
int thaw_say_open_log(void); /* opens -o FILE; 0, or an exit status */
/* An error: to standard error and, if there is one, the log file. */
void thaw_say_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The failure that util/err.h has recorded for this thread, which is waited for a moment until it can be written: the program ends with
 * it mostly. Not for threads that serve. Returns THAW_EXIT_FAILURE. */
int thaw_say_failure(void);
/* Said unless -q was given (level 0), or from that many -v on; to the log file if there is one, else standard error. */
void thaw_say(unsigned level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The answer on standard output goes out. One that could not be written, whole, is said, once, and is a failure whatever `status` is;
 * else `status`. main() ends with it: no command asks on its own. */
int thaw_say_flush(int status);
/* Errors go to this descriptor (-1: nowhere), at first standard error; it stays the caller's. Not under a filter. */
void thaw_say_redirect(int fd);
void thaw_say_log_to(int fd); /* likewise the log, once, before there are other threads */
/* What stands on the terminal's current line and has to be erased before an error is written ("" or an escape). */
void thaw_say_erase(const char *sequence);
/* thaw_log_fn for thaw_set_log(). */
void thaw_say_log(void *opaque, int level, const char *line);

/* "12.3 MiB", "1.5 GiB"; "12 ms", "3.4 s". The buffer is the caller's. */
const char *thaw_say_bytes(char *buf, size_t len, uint64_t bytes);
const char *thaw_say_time(char *buf, size_t len, uint64_t ns);

/* ---- options ---------------------------------------------------------------------------------------------- */
enum thaw_option_kind {
	THAW_OPTION_FLAG,   /* *(bool *)value = true */
	THAW_OPTION_COUNT,  /* ++*(unsigned *)value */
	THAW_OPTION_STRING, /* *(const char **)value; an empty one is refused */
	THAW_OPTION_NUMBER, /* *(long *)value, min..max */
	THAW_OPTION_CHOICE, /* *(int *)value: which of choices ("auto|always|never") */
	THAW_OPTION_WORD,   /* *(const char **)value: a word that is no option; it has no name */
	THAW_OPTION_END
};
struct thaw_option {
	int letter;       /* 0: it has only its long name */
	const char *name;
	const char *arg;  /* what --help calls the value; NULL: it takes none */
	const char *help;
	enum thaw_option_kind kind;
	void *value;
	long min, max;
	const char *choices;
	bool given;       /* set by the parser */
};

struct thaw_command {
	const char *name;
	const char *usage;   /* after "thaw NAME " */
	const char *summary; /* one sentence */
	int (*run)(const struct thaw_command *c, int argc, char **argv);
};
extern const struct thaw_command thaw_commands[]; /* ends with a NULL name */

/* Parses a command's own and the common options, in any order. -1: go on; else the exit status (help and version have
 * been printed, an error has been said). argv[0] is the command's name. */
int thaw_options_parse(const struct thaw_command *c, struct thaw_option *own, int argc, char **argv);
/* The common options before the command: returns the index of the command in argv, or -(1 + exit status). */
int thaw_options_parse_common(int argc, char **argv);
/* Refuses the command line: "thaw: SENTENCE" and where help is. Returns THAW_EXIT_USAGE. */
int thaw_options_refuse(const struct thaw_command *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void thaw_options_version(void);

/* ---- commands --------------------------------------------------------------------------------------------- */
/* The exit status that a process which goes on in the background writes when it stands, or gives up; -1: it ended without a word. */
int thaw_await_ready(int fd);

int thaw_cmd_checkpoint(const struct thaw_command *c, int argc, char **argv);
int thaw_cmd_restore(const struct thaw_command *c, int argc, char **argv);
int thaw_cmd_show(const struct thaw_command *c, int argc, char **argv);
int thaw_cmd_check(const struct thaw_command *c, int argc, char **argv);
int thaw_cmd_lazy_pages(const struct thaw_command *c, int argc, char **argv);
int thaw_cmd_page_server(const struct thaw_command *c, int argc, char **argv);
int thaw_cmd_status(const struct thaw_command *c, int argc, char **argv);

#endif
