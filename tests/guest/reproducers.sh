#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/guest/reproducers.sh - the programs that count the kernel's holes run here, too: their options, their report, and what must hold on
# every kernel
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires python3
dir=$THAW_BUILDDIR/tests/guest
programs="stale_discard stale_fork stale_replaced stale_lookup replay_order"

# status WANTED COMMAND...: its output in $TMP/out
status()
{
	local wanted=$1 got
	shift
	"$@" >"$TMP/out" 2>&1
	got=$?
	[ "$got" = "$wanted" ] || { cat "$TMP/out"; fail "$* ended with $got, not with $wanted"; }
}

for p in $programs lost_free facts; do
	status 0 "$dir/$p" --help
	grep -q -- --json "$TMP/out" || fail "$p --help does not tell of --json"
	status 2 "$dir/$p" --no-such-option
	status 2 "$dir/$p" --seconds 0
	status 2 "$dir/$p" word
done
status 2 "$dir/stale_discard" --source lukewarm
status 2 "$dir/stale_discard" --pages 1.5
status 2 "$dir/stale_discard" --rule gate --source slow
grep -q 'wait for itself' "$TMP/out" || fail "it is not said why the gate and a slow source do not go together"
status 2 "$dir/replay_order" --threads 65

"$dir/facts" --json >"$TMP/facts"
[ $? != 77 ] || skip "$(cat "$TMP/facts")"
python3 - "$TMP/facts" <<'PYTHON' || fail "facts"
import json, sys
f = json.load(open(sys.argv[1]))
assert len(f) > 40, len(f)
# these are the same on every kernel that thaw runs on
assert f["mremap DONTUNMAP"] == "REMAP(0->300, 4)", f
assert f["COPY, present"] == "EEXIST", f
assert f["mremap, moved and shrunk to 4 of 10"].startswith("REMAP(0->200, "), f
assert f["fork that fails"] != "ENOMEM" or f["fork that fails, then COPY"] == "0", f
assert f["exec'd"].count("ESRCH") == 1, f
assert f["event, then fault, in which order"].startswith("fault(6)"), f
PYTHON

# run PROGRAM OPTION...: one line of JSON, kept as the fields of $TMP/json
run()
{
	local program=$1
	status 0 "$dir/$program" "${@:2}" --json
	[ "$(wc -l <"$TMP/out")" = 1 ] || { cat "$TMP/out"; fail "$* does not print one line"; }
	cp "$TMP/out" "$TMP/json"
}

# field NAME: of the last run
field()
{
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$TMP/json" "$1" || fail "no field $1"
}

run lost_free
[ "$(field rounds)" = 20 ] && [ "$(field pages)" = 320 ] || fail "lost_free does not say what it has counted"
say "$(cat "$TMP/json")"
run stale_discard --rounds 3 --pages 256
[ "$(field rounds)" = 3 ] || fail "three rounds were asked for"
# thaw's rule holds on every kernel, and --closed says so
run stale_discard --rounds 3 --pages 256 --rule gate --closed
[ "$(field stale_pages)" = 0 ] || fail "stale pages in spite of the gate"
run stale_lookup --seconds 1 --rule gate --closed
[ "$(field reread_pages)" -gt 0 ] || fail "nothing was read"
# A copy that waits for its source: without the patches the hole is always there, with them never. Either way the count tells.
numbers=no
if "$dir/stale_lookup" --rounds 1 --rule number >/dev/null 2>&1; then
	numbers=yes
fi
for p in stale_discard stale_fork stale_replaced; do
	run $p --source slow --rounds 2 --pages 64
	if [ $numbers = yes ]; then
		[ "$(field bad_rounds)" = 0 ] || fail "$p: a kernel that numbers its events lets a copy go on"
	else
		[ "$(field bad_rounds)" = 2 ] || fail "$p: the hole did not show"
		status 1 "$dir/$p" --source slow --rounds 1 --pages 64 --closed
	fi
	run $p --source cold --rounds 2 --pages 64
done
run replay_order --seconds 1
[ "$(field remaps)" -gt 0 ] || fail "nothing was moved"
run replay_order --rounds 3 --replay paired
wanted=77
[ $numbers = no ] || wanted=0
status $wanted "$dir/replay_order" --replay number --rounds 3 --closed
say "passed (this kernel numbers its events: $numbers)"
