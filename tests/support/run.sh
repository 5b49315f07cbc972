#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/support/run.sh - the frame of every test: run.sh SECONDS PROGRAM ARG...
# A test that hangs is ended together with its process group. Whatever a test leaves behind is removed, however it ended:
# processes that carry its mark in their environment, restored ones included, and what is in its TMPDIR. A test that
# passed and left something has failed. Descriptors that whoever called make has left open are closed: a process that
# inherits one end of a stranger's pipe is refused at checkpoint, rightly.
for fd in /proc/self/fd/*; do
	fd=${fd##*/}
	[ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
done
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/t.XXXXXX") || exit 1
export TMPDIR
export THAW_TEST_RUN=$$.$RANDOM$RANDOM

left()
{
	local environ pid
	local all=(/proc/[0-9]*/environ) # before there is a grep that would find itself
	grep -lsazx "THAW_TEST_RUN=$THAW_TEST_RUN" "${all[@]}" | while read -r environ; do
		pid=${environ#/proc/}
		pid=${pid%/environ}
		! grep -qs '^State:.[^ZX]' "/proc/$pid/status" || echo "$pid"
	done
}

clean_up()
{
	local pid pids mount
	for _ in 1 2 3 4 5 6 7 8 9 10; do # a monitor that has just lost its process needs a moment to leave
		pids=$(left)
		[ -n "$pids" ] || break
		sleep 0.2
	done
	for pid in $pids; do
		echo "run.sh: process $pid was left behind: $(tr '\0' ' ' <"/proc/$pid/cmdline")" 2>/dev/null
		kill -KILL "$pid" 2>/dev/null
		[ "$status" != 0 ] || status=1
	done
	while read -r _ mount _; do
		case $mount in "$TMPDIR"/*) umount -l "$mount" ;; esac
	done </proc/mounts
	if [ "$status" = 0 ] && [ -n "$(ls -A "$TMPDIR")" ]; then
		echo "run.sh: left in TMPDIR: $(ls -A "$TMPDIR" | head -n 5 | tr '\n' ' ')"
		status=1
	fi
	rm -rf "$TMPDIR"
}

set -m # the test is no background job whose SIGINT is ignored
timeout -k 10 "$@" &
child=$!
interrupted=
trap 'interrupted=1; kill -TERM "$child" 2>/dev/null' INT TERM HUP
wait "$child"
status=$?
while [ -n "$interrupted" ]; do # wait was cut short
	interrupted=
	wait "$child"
	status=$?
done
set +m
clean_up
exit "$status"
