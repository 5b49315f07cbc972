#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/scope_twice.sh - what was restored is checkpointed and restored again
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/live/scope.inc"
requires_root

for item in ${THAW_TEST_ITEMS:-shared heap tls until-event posix-timers altstack user}; do
	dir=$TMP/$item
	mkdir -m 777 "$dir"
	spawn "$SCOPE" "$item" "$dir" </dev/null >"$dir/out" 2>"$dir/err"
	disown "$SPAWNED"
	pid=$SPAWNED
	eventually 20 test -e "$dir/ready" || fail "$item: it did not get ready"
	timeout 60 "$THAW" checkpoint -q -t "$pid" -D "$dir/first" 2>"$TMP/checkpoint.log" || fail "$item: first checkpoint"
	timeout 60 "$THAW" restore -q -d -D "$dir/first" --stats "$dir/stats" </dev/null 2>"$TMP/restore.log" ||
		fail "$item: first restore"
	eventually 60 test -s "$dir/stats" || fail "$item: its memory does not arrive"
	timeout 60 "$THAW" checkpoint -q -t "$pid" -D "$dir/second" 2>"$TMP/checkpoint.log" || fail "$item: second checkpoint"
	: >"$dir/go"
	timeout 60 "$THAW" restore -q -D "$dir/second" </dev/null 2>"$TMP/restore.log" ||
		{ rc=$?; cat "$dir/err" >&2; fail "$item: the second restore ended with $rc"; }
	[ "$(cat "$dir/out")" = ok ] || { cat "$dir/out" "$dir/err" >&2; fail "$item: it did not say ok"; }
	say "$item: twice"
done
