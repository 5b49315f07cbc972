#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/documents.sh - every option of --help is in the manual page and the completion, and the other way round
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
man=$THAW_SRCDIR/doc/man
completion=$THAW_SRCDIR/contrib/completion/thaw

# Long and short options of a command, one a line, as --help shows them
of_help()
{
	"$THAW" "$1" --help | sed -n 's/^  \(-.\), \(--[a-z-]*\).*/\1\n\2/p; s/^      \(--[a-z-]*\).*/\1/p' | sort -u
}

# Those that have an entry of their own in the page: .It Fl D , -images Ar dir / .It Fl -help , -version
of_page()
{
	sed -n 's/^\.It Fl //p' "$man/thaw-$1.1" | sed 's/ Ar .*//; s/ , /\n/g' | sed 's/^\(.\)$/-\1/; s/^-\([a-z]\)/--\1/; s/^--\(.\)$/-\1/' | sort -u
}

of_completion()
{
	bash -c '. "$1"; COMP_WORDS=(thaw "$2" -); COMP_CWORD=2; COMPREPLY=(); _thaw; printf "%s\n" "${COMPREPLY[@]}"' - \
		"$completion" "$1" | sort -u
}

for command in checkpoint restore show check page-server status; do
	of_help $command >"$TMP/help.$command"
	[ "$(wc -l <"$TMP/help.$command")" -ge 8 ] || fail "$command: --help shows too few options: $(tr '\n' ' ' <"$TMP/help.$command")"
	of_page $command >"$TMP/page.$command"
	diff "$TMP/help.$command" "$TMP/page.$command" >"$TMP/diff.log" || fail "$command: --help (<) and the manual page (>) differ"
	of_completion $command >"$TMP/completion.$command"
	diff "$TMP/help.$command" "$TMP/completion.$command" >"$TMP/diff.log" || fail "$command: --help (<) and the completion (>) differ"
done
bash -c '. "$1"; COMP_WORDS=(thaw c); COMP_CWORD=1; _thaw; printf "%s\n" "${COMPREPLY[@]}"' - "$completion" >"$TMP/words"
printf 'checkpoint\ncheck\n' | cmp - "$TMP/words" || fail "the completion of 'thaw c': $(cat "$TMP/words")"
mkdir "$TMP/daemon" "$TMP/daemon/images"
: >"$TMP/daemon/a.log"
(cd "$TMP/daemon" && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("a socket")') || fail "no socket could be made"
bash -c '. "$1"; cd "$2"; COMP_WORDS=(thaw status ""); COMP_CWORD=2; _thaw; printf "%s\n" "${COMPREPLY[@]}"' - "$completion" "$TMP/daemon" |
	sort >"$TMP/words"
printf 'a socket\nimages\n' | cmp - "$TMP/words" || fail "the completion of 'thaw status': $(cat "$TMP/words")"

# Every key of the statistics is in thaw-restore(1): the source has them as strings.
grep -oE 'put\(o, "[a-z0-9_]+"|object_add\(o, "[a-z0-9_]+"|\{ "[a-z0-9_]+", s->' "$THAW_SRCDIR/src/cli/stats.c" |
	sed 's/.*"\(.*\)".*/\1/' | sort -u >"$TMP/keys"
[ "$(wc -l <"$TMP/keys")" -gt 30 ] || fail "too few keys found in stats.c"
while read -r key; do
	grep -qE "^\.It Va .*\b$key\b" "$man/thaw-restore.1" || fail "statistics key $key is not in thaw-restore(1)"
done <"$TMP/keys"
grep -oE '"[a-z_]+"' "$THAW_SRCDIR/src/cli/showjson.c" | tr -d '"' | sort -u | while read -r key; do
	grep -qE "^\.(It )?Va .*\b$key\b" "$man/thaw-show.1" || fail "key $key is not in thaw-show(1)"
done || exit 1

# What is refused, and what is different afterwards, is in thaw(1).
tr '\n' ' ' <"$man/thaw.1" >"$TMP/thaw.1"
for words in "not waited for" "being traced" "is stopped by a signal" "main thread that has ended" "32-bit programs" "of one thread" \
	"seccomp filters" "Landlock sandboxes" PR_SET_MDWE PR_SET_TSC SCHED_DEADLINE PR_SET_SYSCALL_USER_DISPATCH "sealed mappings" \
	"protection keys" "mbind 2" "modify_ldt 2" "io_setup 2" "a program, a working directory" "another name" "file leases" \
	"unread inotify events" "UNIX connections made by name" "wait to be accepted" CLOCK_PROCESS_CPUTIME_ID "times 2" \
	CLOCK_BOOTTIME "control group" autogroup F_NOTIFY SEM_UNDO MAP_DROPPABLE; do
	grep -qF -e "$words" "$TMP/thaw.1" || fail "thaw(1) says nothing of '$words'"
done
grep -q "SO_RCVTIMEO" "$man/thaw-checkpoint.1" || fail "thaw-checkpoint(1) does not tell what a process may notice"

if command -v mandoc >/dev/null; then
	for page in "$man"/*.1; do
		mandoc -T lint -W warning "$page" >"$TMP/lint.log" || fail "mandoc -T lint $page"
	done
else
	say "mandoc is not installed: pages not linted"
fi
say "help, manual pages and completion agree"
