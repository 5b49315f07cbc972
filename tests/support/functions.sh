# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/support/functions.sh - what every script of tests/cli stands on: the built program, a scratch directory,
# and an end that leaves no process, file or mount behind, whatever happened.
#
#	#!/bin/bash
#	. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
#	requires python3
#	spawn python3 "$TMP/job.py"             # its pid: $SPAWNED; killed at the end
#	"$THAW" checkpoint -t "$SPAWNED" -D "$TMP/img" || fail "checkpoint"
#	eventually 10 test -s "$TMP/out" || fail "no output"
#
# A script ends with 0 (passed), 1 (failed, says why) or 77 (skipped, says why). Every process that carries this
# script's THAW_TEST_ID in its environment, restored ones included, must be gone at the end: one that still lives is
# ended, and the test fails. By hand, from the build directory: THAW_BUILDDIR=$PWD bash PATH/tests/cli/NAME.sh
# shellcheck shell=bash

set -u -o pipefail
export LC_ALL=C

# What make (its job pipe) or a shell has left open to us would be open in the processes that are checkpointed too, and
# they would be refused for it. 255 is bash's own, of this script.
for fd in /proc/$BASHPID/fd/*; do
	fd=${fd##*/}
	if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then
		eval "exec $fd>&-"
	fi
done
unset fd

: "${THAW_SRCDIR:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
: "${THAW_BUILDDIR:=$PWD}"
export THAW_SRCDIR THAW_BUILDDIR
. "$THAW_SRCDIR/contrib/bare.sh"
THAW=${THAW_TEST_PROGRAM:-$THAW_BUILDDIR/thaw} # something that runs it, where a test says so
export THAW
TEST_NAME=$(basename "$0" .sh)
TMP=$(mktemp -d "${TMPDIR:-/tmp}/thaw-$TEST_NAME.XXXXXX") || exit 1
export TMP
export THAW_TEST_ID=$TEST_NAME.$$.$RANDOM
PATIENCE=${THAW_TEST_PATIENCE:-1} # a factor for everything that is waited for: the machine may be an emulated one
REMEMBERED=()
AT_EXIT=()

say()
{
	echo "$TEST_NAME: $*"
}

fail()
{
	say "FAILED: $*" >&2
	local log
	for log in "$TMP"/*.log "$TMP"/*.err; do
		if [ -s "$log" ]; then
			echo "--- $(basename "$log"), its end:"
			tail -n 25 "$log"
		fi
	done >&2
	exit 1
}

skip()
{
	say "SKIPPED: $*"
	exit 77
}

# requires PROGRAM...: skip where one is not installed
requires()
{
	local p
	for p; do
		command -v "$p" >/dev/null || skip "$p is not installed"
	done
}

requires_root()
{
	[ "$(id -u)" = 0 ] || skip "needs root"
}

# at_exit COMMAND ARG...: run at the end, last one first, before the scratch directory goes
at_exit()
{
	AT_EXIT=("$(printf '%q ' "$@")" "${AT_EXIT[@]}")
}

# remember PID...: processes that the end of the test has to kill
remember()
{
	REMEMBERED+=("$@")
}

# spawn COMMAND ARG...: run in the background in a session of its own; SPAWNED is its pid
spawn()
{
	bare setsid "$@" &
	SPAWNED=$!
	remember "$SPAWNED"
}

is_alive()
{
	local state
	state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
	[ -n "$state" ] && [ "$state" != Z ] && [ "$state" != X ]
}

is_gone()
{
	! is_alive "$1"
}

# timeout SECONDS COMMAND ARG...: as the program, with more patience where THAW_TEST_PATIENCE asks for it
timeout()
{
	local seconds=$1
	shift
	[[ ! $seconds =~ ^[0-9]+$ ]] || seconds=$((seconds * PATIENCE))
	command timeout "$seconds" "$@"
}

# eventually SECONDS COMMAND ARG...: until it succeeds; fails when it has not within that time
eventually()
{
	local deadline=$((${EPOCHREALTIME/./} + $1 * PATIENCE * 1000000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "${EPOCHREALTIME/./}" -lt "$deadline" ] || return 1
		sleep 0.05
	done
}

# The processes that carry this test's mark. Not this shell: environ is what a program was started with.
marked()
{
	local environ pid
	local all=(/proc/[0-9]*/environ) # before there is a grep that would find itself
	grep -lsa "THAW_TEST_ID=$THAW_TEST_ID" "${all[@]}" | while read -r environ; do
		pid=${environ#/proc/}
		pid=${pid%/environ}
		[ "$pid" = "$$" ] || [ "$pid" = "$BASHPID" ] || ! is_alive "$pid" || echo "$pid"
	done
}

name_of()
{
	tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | cut -c 1-120
}

cleanup_()
{
	local status=$? command pid left
	trap - EXIT
	trap '' INT TERM HUP
	for command in "${AT_EXIT[@]}"; do
		eval "$command" || true
	done
	for pid in "${REMEMBERED[@]}"; do
		kill -KILL "$pid" 2>/dev/null
	done
	for pid in "${REMEMBERED[@]}"; do
		wait "$pid" 2>/dev/null
	done
	# A monitor that has just lost its process needs a moment to leave.
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		left=$(marked)
		[ -z "$left" ] && break
		sleep 0.1
	done
	for pid in $left; do
		say "FAILED: process $pid was left behind: $(name_of "$pid")" >&2
		kill -KILL "$pid" 2>/dev/null
		[ "$status" = 77 ] || status=1
	done
	cd /
	rm -rf "$TMP"
	exit "$status"
}

# refused_by PROGRAM WORDS OPTION...: exit status 2, one sentence with its name and the words, nothing on standard output
refused_by()
{
	local program=$1 name=${1##*/} words=$2 status
	shift 2
	"$program" "$@" >"$TMP/said.out" 2>"$TMP/said.err" </dev/null
	status=$?
	[ $status = 2 ] || fail "$name $*: status $status instead of 2"
	[ ! -s "$TMP/said.out" ] || fail "$name $*: something on standard output"
	[ "$(wc -l <"$TMP/said.err")" = 1 ] || fail "$name $*: not one line: $(cat "$TMP/said.err")"
	grep -q "^$name: " "$TMP/said.err" || fail "$name $*: does not begin with its name"
	grep -qF -e "$words" "$TMP/said.err" || fail "$name $*: says '$(cat "$TMP/said.err")' without '$words'"
}

trap cleanup_ EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
cd "$TMP" || exit 1
