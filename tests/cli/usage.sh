#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/usage.sh - the command line: what is refused, how it is said, and that nothing else is
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
refused() { refused_by "$THAW" "$@"; }

refused "no command"
refused "unknown command 'melt'" melt
refused "unknown option '-x'" -x
refused "unknown or ambiguous option '--nothing'" --nothing show
for command in checkpoint restore show check; do
	refused "unknown option '-x'" $command -x
	refused "unknown or ambiguous option '--nothing'" $command --nothing
	refused "'extra' is not expected" $command extra
	refused "'extra' is not expected" $command -- extra
	refused "takes no value" $command --help=yes
	refused "--verbose and --quiet" -q $command -v
	refused "needs a value" $command -o
	refused "is empty" $command -o ''
done
refused "-t PID is missing" checkpoint -D x
refused "-D DIR is missing" checkpoint -t 1
refused "-D DIR is missing" restore
refused "-D DIR is missing" show
for pid in 0 -1 +1 1x 0x10 '' ' 1' 4194305 99999999999999999999 1.0; do
	refused "from 1 to 4194304" checkpoint -D x --pid="$pid"
done
refused "from 1 to 64" restore -D x --copiers 0
refused "from 1 to 64" restore -D x --copiers 65
refused "from 0 to 86400000" restore -D x --background-delay 86400001
refused "from 0 to 86400000" restore -D x --background-delay 1s
refused "none of auto|always|never" restore -D x --progress sometimes
refused "none of auto|always|never" restore -D x --progress=
refused "--eager and --stay-lazy" restore -D x --eager --stay-lazy
refused "--eager and --stay-lazy" restore --stay-lazy -D x --eager
refused "--eager and --background-delay" restore -D x --eager --background-delay 5
refused "--eager and --copiers" restore -D x --eager --copiers 2
refused "--stay-lazy and --background-delay" restore -D x --stay-lazy --background-delay 0
refused "--stay-lazy and --copiers" restore -D x --stay-lazy --copiers 2
refused "--detach and --progress always" restore -d -D x --progress always
refused "unknown option '-x'" status -x
refused "'more' is not expected" status x more
refused "SOCKET and -D DIR" status x -D y
refused "SOCKET and -D DIR" status x -W y
refused "--json and --prometheus" status --json --prometheus
refused "--prometheus and --watch" status --prometheus --watch
refused "--interval needs --watch" status --interval 2
refused "from 1 to 3600" status --watch --interval 0

# Help fits a screen; version is one line; both win over what else is wrong with the line.
fits() { awk 'length > 80 { exit 1 } END { exit NR > 24 }' "$1"; }
"$THAW" --help >"$TMP/help" || fail "--help"
fits "$TMP/help" || fail "thaw --help does not fit 24 lines of 80"
for command in checkpoint restore show check status; do
	grep -q "^  $command " "$TMP/help" || fail "thaw --help does not name $command"
	"$THAW" $command --help >"$TMP/help.$command" 2>"$TMP/said.err" || fail "thaw $command --help"
	[ ! -s "$TMP/said.err" ] || fail "thaw $command --help writes to standard error"
	fits "$TMP/help.$command" || fail "thaw $command --help does not fit 24 lines of 80"
	"$THAW" --help $command | cmp - "$TMP/help.$command" || fail "thaw --help $command is something else"
	[ "$("$THAW" $command --version)" = "$("$THAW" --version)" ] || fail "thaw $command --version"
done
"$THAW" --version | grep -qx 'thaw [0-9.]*' || fail "thaw --version"

# Bug: an answer longer than a buffer that could not be written was a success (--json), a shorter one failed without a word.
full()
{
	"$THAW" "$@" >/dev/full 2>"$TMP/said.err" </dev/null
	[ $? = 1 ] || fail "thaw $* to a full device: not status 1"
	[ "$(grep -c '^thaw: standard output: ' "$TMP/said.err")" = 1 ] && [ "$(wc -l <"$TMP/said.err")" = 1 ] ||
		fail "thaw $* to a full device says $(cat "$TMP/said.err")"
}
full --help
full --version
full check
full check --json
for command in checkpoint restore show check status page-server lazy-pages; do
	full $command --help
	full $command --version
done
"$THAW" --version 2>"$TMP/said.err" >&- && fail "--version without a standard output succeeds"
grep -q '^thaw: standard output: Bad file' "$TMP/said.err" || fail "without a standard output: $(cat "$TMP/said.err")"

# Failures that are not the command line's: status 1, one sentence.
failed()
{
	local words=$1 status
	shift
	"$THAW" "$@" >"$TMP/said.out" 2>"$TMP/said.err" </dev/null
	status=$?
	[ $status = 1 ] || fail "thaw $*: status $status instead of 1"
	[ ! -s "$TMP/said.out" ] || fail "thaw $*: something on standard output"
	[ "$(grep -c '^thaw: ' "$TMP/said.err")" = 1 ] || fail "thaw $*: not one sentence: $(cat "$TMP/said.err")"
	grep -qF -e "$words" "$TMP/said.err" || fail "thaw $*: says '$(cat "$TMP/said.err")' without '$words'"
}
failed "$TMP/absent" show -D "$TMP/absent"
failed "$TMP/absent" restore -D "$TMP/absent"
failed "$TMP/absent" restore -d -D "$TMP/absent"
failed "$TMP/absent/log" show -D "$TMP" -o "$TMP/absent/log"
failed "$TMP/absent/pid" restore -D "$TMP" --pidfile "$TMP/absent/pid"
failed "$TMP/absent/stats" restore -d -D "$TMP" --stats "$TMP/absent/stats"
failed "no thaw lazy-pages answers there" status -D "$TMP/absent"
failed "no thaw lazy-pages answers there" status "$TMP/absent"
failed "4194304" checkpoint -t 4194304 -D "$TMP/new"
[ ! -e "$TMP/new" ] || fail "a failed checkpoint left its directory"

# The log file gets what standard error gets, at its end.
echo before >"$TMP/log"
failed "$TMP/absent" show -D "$TMP/absent" -o "$TMP/log"
sed '1i before' "$TMP/said.err" | cmp - "$TMP/log" || fail "the log file differs from what was said"
say "all refused by name"
