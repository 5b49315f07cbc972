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

# A container's root, who may not open shared memory itself.
CHECKPOINT_AS=(setpriv "--bounding-set=-checkpoint_restore,-sys_admin")
if ! "${CHECKPOINT_AS[@]}" true 2>/dev/null; then
	say "fewer rights: SKIPPED: no setpriv that knows them"
	exit 0
fi
for item in shared-unseen shared-none; do
	[ -d "$TMP/$item" ] || continue
	rm -rf "${TMP:?}/$item"
	say "with fewer rights:"
	scope_item "$item" eager
done
dir=$TMP/shared-guard
if [ -d "$dir" ] && [ ! -e "$dir/without" ]; then
	rm -r "$dir"
	mkdir -m 777 "$dir"
	spawn "$SCOPE" shared-guard "$dir" </dev/null >"$dir/out" 2>"$dir/err"
	eventually 20 test -e "$dir/ready" || fail "shared-guard: it did not get ready"
	timeout 60 "${CHECKPOINT_AS[@]}" "$THAW" checkpoint -t "$SPAWNED" -D "$dir/image" >"$TMP/said.out" 2>"$TMP/said.err" &&
		fail "shared-guard: not refused with fewer rights"
	grep -q "(shared memory): not all of it can be read (.*be root$" "$TMP/said.err" || fail "shared-guard: it says $(cat "$TMP/said.err")"
	say "shared-guard with fewer rights: $(tail -n 1 "$TMP/said.err" | cut -c 7-)"
	: >"$dir/go"
	wait "$SPAWNED" || fail "shared-guard: it did not run on: $(cat "$dir/err")"
fi
exit 0
