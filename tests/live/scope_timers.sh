#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/scope_timers.sh - scope_timers.c, checkpointed and restored
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/live/scope.inc"
requires_root
scope_table timers
grep -q '^#define THAW_DEBUG 1' "$THAW_BUILDDIR/config.h" || exit 0 # nothing can be slowed down
# While the checkpoint is slow, several expire between any two questions.
slow()
{
	[ -d "$TMP/$1" ] || return 0 # not in this part
	mv "$TMP/$1" "$TMP/$1-before"
	THAW_INJECT=$2 scope_item "$1" lazy
}
slow expiring remote.continue:delay=250ms:1+
slow expiring-timerfds "timerfd.ticks:delay=250ms:1+"
