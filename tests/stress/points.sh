#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/points.sh - every fault point has a row here that says which test makes it fail; those that no other test names fail here
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
grep -q '^#define THAW_DEBUG 1' "$THAW_BUILDDIR/config.h" || skip "not a debug build: nothing can be injected"
requires_root

# POINT FILE          the test names it
# POINT STATUS SPEC COMMAND...   run here (in the build directory): how it has to end, and a call has to have come by
rows()
{
	cat <<'END_OF_ROWS'
uffd.node          tests/live/test_probe.c
uffd.call          tests/live/test_probe.c
uffd.api           tests/live/test_probe.c
uffd.register      tests/stress/inject.sh
uffd.registered    0 uffd.registered:EAGAIN:1 tests/live/test_registration
uffd.watch         0 uffd.watch:delay=20ms:1+ tests/lazy/on_failure
uffd.unregister    tests/live/test_uffd.c
uffd.copy          tests/stress/inject.sh
uffd.copy.page     tests/live/test_overtaken.c
uffd.zero          tests/stress/inject.sh
uffd.poison        tests/live/test_uffd.c
uffd.wake          tests/stress/inject.sh
uffd.probe         tests/stress/inject.sh
uffd.read          tests/stress/inject.sh
epoll.create       tests/live/test_start_faults.c
epoll.add          tests/stress/inject.sh
epoll.arm          tests/stress/inject.sh
epoll.process      tests/live/test_start_faults.c
epoll.stop         tests/live/test_start_faults.c
epoll.wait         tests/stress/inject.sh
eventfd.make       tests/live/test_start_faults.c
eventfd.raise      tests/stress/inject.sh
eventfd.raise      0 eventfd.raise:EAGAIN:1/4 tests/lazy/on_failure
eventfd.raise      0 eventfd.raise:EAGAIN:1/10 tests/lazy/remote_round_trips
content.stat       tests/live/test_start_faults.c
content.map        tests/stress/inject.sh
content.unlock     tests/live/test_start_faults.c
content.mincore    tests/stress/inject.sh
content.populate   tests/stress/inject.sh
content.size       tests/stress/inject.sh
content.end        0 content.end:EIO:3 tests/live/test_many
fetch.close        tests/live/test_late_answers.c
content.ahead      tests/stress/inject.sh
content.read       tests/stress/inject.sh
ring.setup         tests/live/test_start_faults.c
ring.make          tests/stress/inject.sh
ring.submit        tests/stress/inject.sh
ring.read          tests/stress/inject.sh
holder.start       tests/live/test_start_faults.c
holder.memory      tests/live/test_start_faults.c
holder.clone       tests/live/test_start_faults.c
holder.add         tests/live/test_start_faults.c
holder.poll        0 holder.poll:EINTR:1,holder.write:EINTR:1,holder.write:short:1,holder.probe:EAGAIN:1/4 tests/live/test_holder
holder.list        0 holder.list:ENOMEM:1,holder.entries:EIO:3,holder.link:ENOMEM:2,holder.open:ENOMEM:2 tests/live/test_holder
holder.entries     tests/stress/points.sh
holder.link        tests/stress/points.sh
holder.open        tests/stress/points.sh
holder.probe       tests/stress/points.sh
holder.write       tests/stress/points.sh
sandbox.load       tests/live/test_start_faults.c
sandbox.install    tests/live/test_start_faults.c
thread.create      tests/live/test_start_faults.c
thread.nice        tests/live/test_start_faults.c
thread.pin         0 thread.pin:EPERM:1+ bash $THAW_SRCDIR/tests/live/scope_calls.sh
memory.staging     tests/live/test_start_faults.c
memory.lock        tests/stress/inject.sh
memory.space       tests/stress/inject.sh
memory.core        tests/stress/inject.sh
memory.parked      tests/stress/inject.sh
memory.follow      tests/live/test_start_faults.c
pace.dear          tests/live/beside.sh
engine.apply       tests/stress/inject.sh
futex.wait         tests/stress/inject.sh
futex.wake         tests/stress/inject.sh
pidfd.open         tests/live/test_start_faults.c
pidfd.getfd        1 pidfd.getfd:EMFILE:1+ ./thaw check
pidfd.signal       0 pidfd.signal:delay=20ms:1+ tests/lazy/on_failure
timerfd.ticks      tests/live/scope_timers.sh
remote.step        tests/live/test_remote.c
remote.continue    tests/live/unanswered.sh
dump.worker        tests/live/unanswered.sh
dump.name          tests/live/unanswered.sh
process.kcmp       1 process.kcmp:EPERM:1+ ./thaw check
process.read       1 process.read:EPERM:1+ ./thaw check
process.read       0 process.read:short:1/2,process.write:short:1/2 ./thaw check
process.write      1 process.write:EPERM:1+ ./thaw check
procfs.open        1 procfs.open:EMFILE:1+ ./thaw check
procfs.read        tests/stress/inject.sh
pagemap.scan       tests/live/test_probe.c
lazy.news          tests/lazy/remote_daemon.c
net.listen         0 net.listen:delay=20ms:1 tests/lazy/many_clients
net.accept         0 net.accept:EMFILE:2,net.accept:ECONNABORTED:5 tests/lazy/many_clients
net.prepare        0 net.receive:ECONNRESET:30,net.prepare:ENOMEM:2 tests/lazy/remote_round_trips
net.connect        0 net.receive:ECONNRESET:30,net.connect:ETIMEDOUT:2 tests/lazy/remote_round_trips
net.receive        0 net.receive:EAGAIN:1/3,net.send:EAGAIN:1/3 tests/lazy/pageserver_layouts
net.send           0 net.send:EPIPE:10 tests/lazy/remote_round_trips
END_OF_ROWS
}

# The holder has let go of this file by the time that it makes the call.
untold=" holder.probe "

cd "$THAW_BUILDDIR" || exit 1
export THAW_TEST_BRIEF=1 THAW_TEST_WAYS=lazy # what is injected is met in the first round
./thaw-stress --inject list >"$TMP/list"
mapfile -t points < <(cut -d ' ' -f 1 "$TMP/list")
[ ${#points[@]} -gt 40 ] || fail "the points cannot be listed"
rows >"$TMP/rows"
for point in "${points[@]}"; do
	grep -q "^$point " "$TMP/rows" || fail "no row says which test makes $point fail"
done
while read -r point first spec command; do
	[[ " ${points[*]} " == *" $point "* ]] || fail "there is no point $point any more"
	if [ -z "$spec" ]; then
		[ -f "$THAW_SRCDIR/$first" ] || fail "$point: there is no $first"
		grep -qE "(^|[\" ,=])$point:" "$THAW_SRCDIR/$first" || fail "$point: $first does not name it"
		continue
	fi
	: >"$TMP/told"
	# shellcheck disable=SC2086 # a command and its arguments
	THAW_INJECT=$spec THAW_INJECT_TOLD=$TMP/told timeout $((100 * ${THAW_TEST_PATIENCE:-1})) ${command//\$THAW_SRCDIR/$THAW_SRCDIR} \
		</dev/null >"$TMP/run.log" 2>&1
	status=$?
	[ "$status" != 77 ] || { say "$spec: left out: $(grep -i skip "$TMP/run.log" | head -n 1)"; continue; }
	[ "$status" = "$first" ] || fail "THAW_INJECT=$spec $command ended with $status, not $first; $(tail -n 3 "$TMP/run.log")"
	for name in $(tr , '\n' <<<"$spec" | cut -d : -f 1 | sort -u); do
		[[ $untold == *" $name "* ]] || grep -qx "$name" "$TMP/told" || fail "THAW_INJECT=$spec $command: no call came by $name"
	done
	say "$spec $command: as it has to be"
done <"$TMP/rows"
