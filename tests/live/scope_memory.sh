#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/scope_memory.sh - scope_memory.c, checkpointed and restored
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/live/scope.inc"
requires_root
scope_table memory

# The same image once the file has changed: what was not stored of the private mapping is not to be had any more.
dir=$TMP/private-above-shared
if [ -d "$dir/image" ]; then
	printf changed | dd of="$dir/files/below" conv=notrunc status=none
	timeout 60 "$THAW" restore -q --eager -D "$dir/image" </dev/null >"$TMP/said.out" 2>"$TMP/said.err" &&
		fail "private-above-shared: restored with a file that has changed: $(cat "$dir/out" "$dir/err")"
	grep -q "below: is not the file that was checkpointed (modified at" "$TMP/said.err" ||
		fail "private-above-shared: it says $(cat "$TMP/said.err")"
	say "private-above-shared: $(cut -c 7- "$TMP/said.err")"
fi
exit 0
