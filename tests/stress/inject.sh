#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/inject.sh - the library's kernel calls fail, are cut short or come late, under load: no page is wrong, no thread waits for ever
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"
is_debug_build || skip "not a debug build: nothing can be injected"

while read -r spec options; do
	case $spec in '#'* | '') continue ;; esac
	# shellcheck disable=SC2086 # several options
	stress inject --inject "$spec" --seconds "${STRESS_SECONDS:-1}" --seed "$RANDOM" --processes 2 --size 2M --ops -kill,-shatter $options ||
		fail "$spec: status $?"
	say "$spec: $(grep -m 1 -E '^[0-9]+ rounds' "$TMP/inject.log")"
done <<'END'
uffd.copy:EAGAIN:1/4,uffd.zero:EAGAIN:1/4 --source resident
uffd.copy:EEXIST:1/6,uffd.copy:ENOENT:1/6,uffd.zero:EEXIST:1/6 --source resident --background run
uffd.copy:ENOMEM:1/6,uffd.zero:ENOMEM:1/6 --source slow
uffd.copy:short:1/2,uffd.zero:short:1/2 --source resident --background run
uffd.copy:delay=200us:1/8,uffd.zero:delay=200us:1/8,uffd.wake:delay=300us:1/3 --source resident
uffd.read:EMFILE:1/20,uffd.read:short:1/2,uffd.read:delay=500us:1/20 --source resident
uffd.probe:EAGAIN:1/2,epoll.wait:EINTR:1/3,futex.wait:EINTR:1/3 --source slow
content.read:short:1/3,content.read:EINTR:1/5,content.ahead:EAGAIN:1/2 --source cold
content.ahead:short:1/2,content.ahead:EIO:1/3 --source resident --background run
content.map:ENOMEM:1/3,content.mincore:ENOMEM:1/2,content.populate:EFAULT:1/3 --source resident --background run
ring.read:short:1/3,ring.read:EINTR:1/4,ring.submit:EBUSY:1/10 --source cold
thread.create:EAGAIN:1/30,memory.staging:ENOMEM:1/20,ring.make:ENOMEM:1/2,holder.start:ENOMEM:1/4 --source resident
memory.parked:ENOMEM:1/2,procfs.read:EIO:1/40,memory.lock:ENOMEM:1/2 --source resident
END
