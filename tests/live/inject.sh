#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Restores go through, every byte right, while the kernel's calls fail as they may: refused, cut short, late, out of memory or descriptors.
here="${THAW_BUILDDIR:-.}"
grep -q '^#define THAW_DEBUG 1' "$here/config.h" || { echo "inject: SKIPPED: not a debug build: nothing can be injected"; exit 77; }
while read -r spec tests; do
	case $spec in '#'* | '') continue ;; esac
	for test in ${tests//,/ }; do # NAME or NAME:MILLISECONDS
		ms=${test#*:}
		[ "$ms" != "$test" ] || ms=
		# shellcheck disable=SC2086 # no argument at all where there is no time
		if ! out=$(THAW_INJECT="$spec" timeout $((200 * ${THAW_TEST_PATIENCE:-1})) "$here/tests/live/${test%%:*}" $ms 2>&1 </dev/null); then
			echo "$out"
			echo "failed: THAW_INJECT=$spec tests/live/$test"
			exit 1
		fi
	done
	[ -z "${THAW_TEST_BRIEF:-}" ] || break
done <<'END'
uffd.copy:EAGAIN:1/3,uffd.zero:EAGAIN:1/3,uffd.copy:short:1/2 test_events:300,test_many
uffd.copy:EEXIST:1/5,uffd.copy:ENOENT:1/5,uffd.zero:EEXIST:1/5 test_events:300
uffd.copy:ENOMEM:1/5,uffd.zero:ENOMEM:1/5,uffd.zero:short:1/2 test_events:300,test_many
uffd.copy:delay=200us:1/10,uffd.zero:delay=200us:1/10,uffd.wake:delay=300us:1/3 test_events:300
uffd.read:EIO:1/20,uffd.read:short:1/2,uffd.read:delay=1ms:1/20 test_events:300
uffd.probe:EAGAIN:1/2,epoll.wait:EINTR:1/3 test_events:300
futex.wait:EINTR:1/3,memory.parked:ENOMEM:1/2,memory.lock:ENOMEM:1+ test_events:300
content.read:short:1/3,content.read:EINTR:1/5,content.read:EAGAIN:1/5,content.ahead:EAGAIN:1/2 test_events:300,test_many
content.ahead:short:1/2,content.ahead:EIO:1/3,procfs.read:EIO:1/40 test_events:300
content.map:ENOMEM:1/2,content.mincore:ENOMEM:1/2,content.populate:EFAULT:1/3,content.size:EIO:1/4 test_events:300,test_many
ring.read:short:1/2,ring.read:EINTR:1/4,ring.submit:EBUSY:1/10,ring.read:delay=500us:1/10 test_basic
ring.make:ENOMEM:1+,ring.read:EAGAIN:1/4,ring.read:short:1/2 test_basic
END
