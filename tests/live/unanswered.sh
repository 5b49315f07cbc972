#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/unanswered.sh - who never answers ends a checkpoint or a restore with an error, not with a wait for ever: a thread
# in which system calls are made, and the worker itself
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires_root
grep -q '^#define THAW_DEBUG 1' "$THAW_BUILDDIR/config.h" || skip "not a debug build: nothing can be injected"

stopped()
{
	grep -qE '^State:.[^SRD]' "/proc/$PID/task"/*/status
}

running()
{
	! stopped
}

# unharmed WHEN: no thread of the target is stopped, traced, has its signals blocked or has memory that is not its own
unharmed()
{
	local odd
	eventually 20 running || fail "$1: it is stopped"
	odd=$(grep -E '^(TracerPid:.*[1-9]|SigBlk:.*[1-9a-f])' "/proc/$PID/task"/*/status)
	[ -z "$odd" ] || fail "$1: it was not put back: $odd"
	cmp -s <(mappings) maps || { diff <(mappings) maps >&2; fail "$1: its mappings have changed"; }
	[ "$(find . -name '*.thaw-*')" = "" ] || fail "$1: something was left behind: $(find . -name '*.thaw-*')"
}

mappings()
{
	cut -d' ' -f 1-2 "/proc/$PID/maps"
}

# said PATTERN COMMAND...: it fails with 1 and this sentence, within a minute
said()
{
	local pattern=$1
	shift
	timeout -k 5 60 "$@" </dev/null >said.log 2>&1
	status=$?
	[ $status = 1 ] || fail "$*: ended with $status"
	grep -q "$pattern" said.log || fail "$*: did not say \"$pattern\""
}

mkdir -m 777 dir
spawn "$THAW_BUILDDIR/tests/live/scope" tls "$TMP/dir" </dev/null >out.log 2>&1
disown "$SPAWNED"
PID=$SPAWNED
eventually 20 test -e dir/ready || fail "it did not get ready"
mappings >maps

# The thread stays in a stop that we were told of; the first batch asks for the process, the seventh for a thread.
for n in 1 7; do
	THAW_INJECT=remote.continue:EIO:$n said 'do not return: it has been stopped' "$THAW" checkpoint -t "$PID" -D image
	[ ! -e image ] || fail "lost at $n: there is an image"
	unharmed "lost at $n"
done

# The same in a single call: the first, which makes the work area, before it has begun or in the middle, and the last, which removes it and is
# made once more when the process is let go.
for n in 1 2 3; do
	THAW_INJECT=remote.step:EIO:$n said 'cannot be continued' "$THAW" checkpoint -t "$PID" -D image
	[ ! -e image ] || fail "lost at step $n: there is an image"
	unharmed "lost at step $n"
done

# The worker does not answer when it is told to give up.
THAW_INJECT=dump.worker:EIO:1+ "$THAW" checkpoint -t "$PID" -D image >interrupted.log 2>&1 </dev/null &
thaw=$!
remember $thaw
has_worker()
{
	[ "$(cat "/proc/$(tr -d " " <"/proc/$thaw/task/$thaw/children")/comm")" = thaw-worker ]
}
eventually 20 has_worker || fail "no worker"
kill -TERM $thaw
eventually 60 is_gone $thaw || fail "SIGTERM does not end a checkpoint whose worker does not answer"
wait $thaw
status=$?
[ $status = 1 ] || fail "interrupted: ended with $status"
grep -q 'interrupted: the worker did not answer' interrupted.log || fail "interrupted: it does not say why"
unharmed interrupted

# killed WHEN FAULT [OPTION]: the worker is, while the image gets its name; what is said is true before and after
killed()
{
	local when=$1 spec=$2
	shift 2
	THAW_INJECT=$spec "$THAW" checkpoint "$@" -t "$PID" -D named >killed.log 2>&1 </dev/null &
	thaw=$!
	remember $thaw
	eventually 20 has_worker || fail "$when: no worker"
	worker=$(tr -d " " <"/proc/$thaw/task/$thaw/children")
	eventually 20 "about_$when" || fail "$when: it does not get there"
	kill -KILL "$worker"
	wait $thaw
	status=$?
	[ $status = 1 ] || fail "killed $when: ended with $status"
	grep -q "the worker was killed while .*named got its name.*: unless that is absent or empty, the image is complete" killed.log ||
		fail "killed $when: it said: $(cat killed.log)"
	unharmed "killed $when"
}

about_before()
{
	compgen -G '.named.thaw-*/thaw.img' >/dev/null && sleep "${THAW_TEST_PATIENCE:-1}" # and synced
}

about_after()
{
	[ -e named/thaw.img ]
}

long=$((5 * ${THAW_TEST_PATIENCE:-1}))s
killed before "dump.name:delay=$long:1"
[ ! -e named ] || fail "killed before the image has its name: there is one"
for how in "" --leave-running; do
	# shellcheck disable=SC2086 # none or one
	killed after "dump.name:delay=$long:2" $how
	"$THAW" show -D named >show.log 2>&1 || fail "killed after the image has its name: $(cat show.log)"
	rm -r named
done
grep -q "process $PID runs on" killed.log || fail "left running: it said: $(cat killed.log)"

# It can still be checkpointed; and a restore in which a thread is lost leaves nothing behind.
timeout 60 "$THAW" checkpoint -q -t "$PID" -D image >checkpoint.log 2>&1 || fail "the checkpoint after that ended with $?"
for n in 1 4; do
	THAW_INJECT=remote.continue:EIO:$n said 'do not return: it has been stopped' "$THAW" restore -q -D image
	[ -z "$(marked)" ] || fail "a lost thread leaves $(marked) behind"
done
: >dir/go
timeout 60 "$THAW" restore -q -D image </dev/null >restore.log 2>&1 || fail "the restore after that ended with $?"
