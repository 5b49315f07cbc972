#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/inject.sh - the library's kernel calls fail, are cut short or come late, under load: no page is wrong, no thread waits for ever
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"
is_debug_build || skip "not a debug build: nothing can be injected"

# missed SPEC: the points that no call came by; those of a start, which are not met in every round, have a test of their own
missed()
{
	local point
	tr , '\n' <<<"$1" | cut -d : -f 1 | sort -u | while read -r point; do
		grep -qsx "$point" "$TMP/told" || grep -q "\"$point:" "$THAW_SRCDIR/tests/live/test_start_faults.c" || echo "$point"
	done
}

row=0
parity=$RANDOM
# Without a fault that may by chance not come up in a second a row would say nothing: then another seed, until it has.
while read -r spec options; do
	case $spec in '#'* | '') continue ;; esac
	row=$((row + 1))
	[ -z "${THAW_TEST_BRIEF:-}" ] || [ $((row % 2)) = $((parity % 2)) ] || continue # every second, each time others
	: >"$TMP/told"
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
		# shellcheck disable=SC2086 # several options
		THAW_INJECT_TOLD=$TMP/told stress inject --inject "$spec" --seconds "${STRESS_SECONDS:-1}" --seed "$RANDOM" --processes 2 \
			--size 2M --ops -kill,-shatter $options || fail "$spec: status $?"
		missing=$(missed "$spec")
		[ -n "$missing" ] || break
	done
	[ -z "$missing" ] || fail "$spec: no call came by $missing"
	say "$spec: $(grep -m 1 -E '^[0-9]+ rounds' "$TMP/inject.log")"
done <<'END'
uffd.copy:EAGAIN:1/4,uffd.zero:EAGAIN:1/4 --source resident
uffd.copy:EEXIST:1/6,uffd.copy:ENOENT:1/6,uffd.zero:EEXIST:1/6 --source resident --background run
uffd.copy:ENOMEM:1/6,uffd.zero:ENOMEM:1/6 --source slow
uffd.copy:short:1/2,uffd.zero:short:1/2 --source resident --background run
uffd.copy:delay=200us:1/8,uffd.zero:delay=200us:1/8,uffd.wake:delay=300us:1/3 --source resident
uffd.read:EIO:1/20,uffd.read:short:1/2,uffd.read:delay=500us:1/20 --source resident
uffd.probe:EAGAIN:1/2,epoll.wait:EINTR:1/3,futex.wait:EINTR:1/3 --source slow
content.read:short:1/3,content.read:EINTR:1/5,content.ahead:EAGAIN:1/2 --source cold
content.ahead:short:1/2,content.ahead:EIO:1/3 --source resident --background run
content.map:ENOMEM:1/3,content.mincore:ENOMEM:1/2,content.populate:EFAULT:1/3,content.size:EIO:1/4 --source resident --background run
ring.read:short:1/3,ring.read:EINTR:1/4,ring.submit:EBUSY:1/10 --source cold
thread.create:EAGAIN:1/30,memory.staging:ENOMEM:1/20,ring.make:ENOMEM:1/2,holder.start:ENOMEM:1/2 --source resident
memory.parked:ENOMEM:1/2,procfs.read:EIO:1/40,memory.lock:ENOMEM:1/2 --source resident
uffd.copy:EINTR:1/20,uffd.copy:EFAULT:50,uffd.copy:EFAULT:90,uffd.read:EINTR:1/5 --source resident
uffd.register:ENOMEM:1/6,epoll.create:EMFILE:1/8,epoll.stop:ENOMEM:1/8,eventfd.make:EMFILE:1/12,content.stat:EIO:1/8 --source resident
epoll.add:ENOMEM:1/3,epoll.arm:ENOMEM:1/3,epoll.process:ENOMEM:1/2 --source resident
epoll.add:ENOSPC:1+ --source slow
engine.apply:ENOMEM:1/40,memory.core:ENOMEM:1/60,memory.space:ENOMEM:1/6 --source resident
eventfd.raise:EAGAIN:1/3,futex.wake:delay=200us:1/10,futex.wait:EAGAIN:1/4,thread.nice:EPERM:1/2,content.unlock:ENOMEM:1/2 --source cold
procfs.open:EIO:1/3,ring.setup:ENOMEM:1/2 --source cold
holder.memory:ENOMEM:1/2,holder.clone:EAGAIN:1/2,sandbox.load:ENOMEM:1/8,sandbox.install:EINVAL:1/12,pidfd.open:EMFILE:1/8 --source resident
END
