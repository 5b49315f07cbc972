#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/restore_killed.sh - thaw restore is killed at any instant: the process is there whole, or not at all
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires_root
SCOPE=$THAW_BUILDDIR/tests/live/scope
ROUNDS=${THAW_TEST_ROUNDS:-8}
THREADS=41

status_of()
{
	sed -n "s/^$2:\t\([^ ]*\).*/\1/p" "/proc/$1/status" 2>/dev/null
}

# gone PID: reaped by whoever its parent is now
gone()
{
	[ ! -e "/proc/$1" ]
}

mkdir -m 777 dir
spawn "$SCOPE" tls "$TMP/dir" </dev/null >out.log 2>&1
disown "$SPAWNED"
PID=$SPAWNED
eventually 20 test -e dir/ready || fail "it did not get ready"
timeout 60 "$THAW" checkpoint -t "$PID" -D image >checkpoint.log 2>&1 || fail "thaw checkpoint ended with $?"

whole=0
for way in --eager "" --pidns; do
	for ((i = 0; i < ROUNDS; i++)); do
		[ "$way" = --pidns ] || eventually 20 gone "$PID" || fail "number $PID does not get free"
		# shellcheck disable=SC2086
		setsid "$THAW" restore -q -D image $way </dev/null >restore.log 2>&1 &
		thaw=$!
		disown $thaw
		sleep "0.0$((RANDOM % 8))$((RANDOM % 10))"
		kill -KILL $thaw 2>/dev/null
		eventually 10 is_gone $thaw || fail "thaw survived SIGKILL"
		sleep 0.1
		for pid in $(marked); do
			exe=$(readlink "/proc/$pid/exe") || continue
			[ "$exe" = "$(readlink -f "$SCOPE")" ] || continue # the holder and the init of a namespace end with it
			[ "$(status_of "$pid" Threads)" = $THREADS ] || fail "$way: left with $(status_of "$pid" Threads) threads"
			[ "$(status_of "$pid" TracerPid)" = 0 ] || fail "$way: still traced"
			[ "$(status_of "$pid" SigBlk)" = 0000000000000000 ] || fail "$way: left with signals blocked"
			whole=$((whole + 1))
			kill -KILL "$pid"
			eventually 10 is_gone "$pid" || fail "$way: it cannot be killed"
		done
	done
done
# Nothing is left of all this that stands in the way of a restore.
eventually 20 gone "$PID" || fail "number $PID does not get free"
: >dir/go
timeout 60 "$THAW" restore -q -D image </dev/null >restore.log 2>&1 || fail "the restore after that ended with $?"
say "$((3 * ROUNDS)) restores killed, $whole times the process was complete"
