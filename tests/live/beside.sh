#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A copier that serves the faults of its space itself, as where copies trap, does so rightly: events, many processes, content that comes from
# elsewhere or not at all, ends; and with kernel calls that fail.
here="${THAW_BUILDDIR:-.}"
grep -q '^#define THAW_DEBUG 1' "$here/config.h" || { echo "beside: SKIPPED: not a debug build: a processor that does not trap cannot be told to"; exit 77; }
failing=uffd.copy:EAGAIN:1/5,uffd.copy:short:1/3,uffd.copy:ENOMEM:1/9,uffd.read:short:1/3,epoll.arm:ENOMEM:1/5
run()
{
	local inject=$1
	shift
	if ! out=$(THAW_INJECT=pace.dear:EAGAIN:1+$inject timeout $((200 * ${THAW_TEST_PATIENCE:-1})) "$here/tests/live/$1" ${2:+"$2"} 2>&1 </dev/null); then
		echo "$out"
		echo "failed: THAW_INJECT=pace.dear:EAGAIN:1+$inject tests/live/$*"
		exit 1
	fi
}
run "" test_events 500
run "" test_many
run ",$failing" test_events 500
[ -z "${THAW_TEST_BRIEF:-}" ] || exit 0
for test in storm moves basic on_its_way come_already ended_awake; do
	run "" "test_$test"
done
run ",$failing" test_many
