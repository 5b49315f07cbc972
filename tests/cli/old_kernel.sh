#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/old_kernel.sh - a kernel before 6.1 is refused by each command, in one sentence, before anything is touched. What
# kernel it is comes from the personality that exists for this: under it every Linux calls itself 2.6.
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires_root
requires setarch
case $(setarch --uname-2.6 uname -r) in
2.6.*) ;;
*) skip "the personality UNAME26 does nothing here" ;;
esac

# refused COMMAND ARG...
refused()
{
	setarch --uname-2.6 timeout 60 "$THAW" "$@" >said.out 2>said.err </dev/null
	local status=$?
	[ $status = 1 ] || fail "thaw $*: ended with $status"
	[ ! -s said.out ] || fail "thaw $*: output"
	[ "$(wc -l <said.err)" = 1 ] || fail "thaw $*: not one sentence"
	grep -q 'Linux 2\.6 is too old: .*; use Linux 6\.1 or later$' said.err || fail "thaw $*: it says '$(cat said.err)'"
}

spawn sleep 1000 </dev/null >/dev/null 2>&1
pid=$SPAWNED
disown "$pid"
running() { [ "$(tr '\0' ' ' <"/proc/$pid/cmdline")" = "sleep 1000 " ]; }
eventually 20 running || fail "sleep does not run"

refused checkpoint -t "$pid" -D img
[ ! -e img ] || fail "the refused checkpoint left a directory"
is_alive "$pid" || fail "the refused checkpoint ended the process"
grep -q '^TracerPid:.0$' "/proc/$pid/status" || fail "the refused checkpoint left the process traced"

"$THAW" checkpoint -t "$pid" -D img >checkpoint.log 2>&1 || fail "checkpoint"
for way in "" --eager --pidns --detach; do
	# shellcheck disable=SC2086
	refused restore $way -D img
done
[ -z "$(marked)" ] || fail "the refused restore left a process"

setarch --uname-2.6 "$THAW" check >said.out 2>said.err
status=$?
[ $status = 1 ] || fail "thaw check: ended with $status"
grep -q '^missing  kernel: Linux 6\.1 or later: absent (2\.6\..*); remedy: use Linux 6\.1 or later$' said.out ||
	fail "thaw check: $(head -n 1 said.out)"
tail -n 1 said.out | grep -q '^thaw cannot checkpoint and restore here' || fail "thaw check: $(tail -n 1 said.out)"
setarch --uname-2.6 "$THAW" check --json >said.out 2>said.err && fail "thaw check --json: ended with 0"
grep -q '"kernel": *"2\.6\.' said.out || fail "thaw check --json: $(cat said.out)"

# looking at a checkpoint needs no kernel
setarch --uname-2.6 "$THAW" show -D img >said.out 2>said.err || fail "thaw show"
say "refused everywhere"
