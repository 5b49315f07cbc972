#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Restores go through while the kernel's calls fail as they may: refused, cut short, out of memory or of descriptors.
here="${THAW_BUILDDIR:-.}"
grep -q '^#define THAW_DEBUG 1' "$here/config.h" || { echo "not a debug build: nothing can be injected"; exit 77; }
for spec in \
	uffd.copy:EAGAIN:1/4 \
	uffd.copy.partial:EAGAIN:1/3 \
	uffd.copy:ENOMEM:1/5 \
	uffd.read:EMFILE:1/20 \
	uffd.copy:EAGAIN:1/3,uffd.zero:EAGAIN:1/3,uffd.copy.partial:EAGAIN:1/2
do
	for test in "test_events 1500" test_many; do
		# shellcheck disable=SC2086
		if ! out=$(THAW_INJECT="$spec" timeout 100 "$here"/tests/live/$test 2>&1); then
			echo "$out"
			echo "failed: THAW_INJECT=$spec tests/live/$test"
			exit 1
		fi
	done
done
