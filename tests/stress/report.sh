#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/report.sh - what is said of a run: the same seed is the same schedule, JSON is JSON, what never occurred is told and asked for
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"
requires python3
few="--size 1M --processes 1 --threads 1 --seconds 1 --source resident"

# shellcheck disable=SC2086 # several options
{
	for run in one two; do
		stress $run $few --seed 5 --ops read,write,fork || fail "a clean run: status $?"
		sed -n 's/.*schedule of the first round \([0-9a-f]*\)$/\1/p' "$TMP/$run.log" >"$TMP/$run.schedule"
	done
	[ "$(wc -c <"$TMP/one.schedule")" = 17 ] || fail "the schedule is not named"
	cmp "$TMP/one.schedule" "$TMP/two.schedule" || fail "the same seed, and another schedule"
	stress three $few --seed 6 --ops read,write,fork || fail "a clean run: status $?"
	! grep -q "$(cat "$TMP/one.schedule")" "$TMP/three.log" || fail "another seed, and the same schedule"

	stress covered $few --background run --ops read,write --require-coverage || fail "read and write occur: status $?"
	# O_DIRECT needs a file that cannot be made there
	TMPDIR=/proc stress missing $few --ops read,direct || fail "a clean run without a file for O_DIRECT: status $?"
	grep -qx "never occurred: operation direct" "$TMP/missing.log" || fail "what never occurred is not told"
	TMPDIR=/proc stress required $few --ops read,direct --require-coverage
	status=$?
	[ $status = 1 ] || fail "something never occurred and was required: status $status"

	# private memory refuses MADV_REMOVE: tried and refused is all that can be asked of it
	stress refused $few --background run --ops read,remove --require-coverage || fail "remove is asked for: status $?"
	grep -q '^remove  *0  *[1-9]' "$TMP/refused.log" || fail "a refused remove is done: $(grep '^remove' "$TMP/refused.log")"
	grep -q '^refused, as it has to be: operation remove ' "$TMP/refused.log" || fail "why remove is not asked for is not told"

	# a worker that dies by something else than the watch's or a schedule's doing is a failure, and no want of anything here
	"$STRESS" --size 8M --processes 1 --threads 1 --seconds 20 --source resident --ops read,write >"$TMP/died.out" 2>"$TMP/died.err" </dev/null &
	pid=$!
	remember $pid
	eventually 20 pgrep -P $pid || fail "there is no worker"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		pkill -ILL -P $pid
		sleep 0.3
		kill -0 $pid 2>/dev/null || break
	done
	wait $pid
	status=$?
	[ $status = 1 ] || fail "a worker that dies: status $status: $(tail -n 2 "$TMP/died.err")"
	grep -q "^thaw-stress: a round failed: a worker ended by signal 4" "$TMP/died.err" || fail "a worker that dies: $(cat "$TMP/died.err")"
	[ "$(tail -n 1 "$TMP/died.out")" = FAILED ] || fail "a worker that dies: $(tail -n 1 "$TMP/died.out")"

	# nor is a child of one
	"$STRESS" --size 4M --processes 1 --threads 2 --seconds 20 --source resident --ops fork,read --json >"$TMP/child.json" 2>"$TMP/child.err" </dev/null &
	pid=$!
	remember $pid
	for _ in $(seq 400); do
		for worker in $(pgrep -P $pid); do
			pkill -ILL -P "$worker" && break 2
		done
		sleep 0.02
	done
	wait $pid
	status=$?
	[ $status = 1 ] || fail "a child that dies: status $status: $(tail -n 2 "$TMP/child.err")"
	grep -q "^thaw-stress: a round failed: a worker failed: a child (track [0-9]*) ended by signal 4" "$TMP/child.err" || fail "a child that dies: $(cat "$TMP/child.err")"

	"$STRESS" --processes 256 --threads 32 --size 8M --seconds 1 >"$TMP/long.out" 2>&1
	status=$?
	[ $status = 2 ] || fail "more processes and threads than a round has room for: status $status: $(cat "$TMP/long.out")"

	if is_debug_build; then # a fault that could not come by is no fault that was survived
		stress unmet $few --ops read --inject uffd.poison:EINVAL:1+ || fail "a clean run with a fault that is not met: status $?"
		grep -qx "never occurred: fault point uffd.poison" "$TMP/unmet.log" || fail "a fault that is not met is not told"
		stress met $few --ops read,write --threads 4 --inject uffd.copy:short:1/2 || fail "a clean run with a fault: status $?"
		! grep -q "fault point" "$TMP/met.log" || fail "a fault that is met: $(grep "fault point" "$TMP/met.log")"
	fi

	"$STRESS" $few --ops read,write --json >"$TMP/clean.json" 2>"$TMP/json.err" || fail "--json: status $?"
	"$STRESS" $few --ops read,write,plant-zero --json --seconds 5 >"$TMP/bad.json" 2>"$TMP/bad.err"
	status=$?
	[ $status = 1 ] || fail "--json with a violation: status $status"
	TMPDIR=/proc "$STRESS" $few --ops read,direct --json >"$TMP/missing.json" 2>"$TMP/json.err" || fail "--json: status $?"

	# what cannot be written is no violation, and is said
	for option in "$few --ops read" "$few --ops read --json" --help --version "--ops list"; do
		"$STRESS" $option >/dev/full 2>"$TMP/full.err"
		status=$?
		[ $status = 2 ] || fail "$option to a full device: status $status"
		grep -qx "thaw-stress: standard output cannot be written: No space left on device" "$TMP/full.err" || fail "$option: $(cat "$TMP/full.err")"
	done
	"$STRESS" $few --ops read,write,plant-zero --seconds 5 --json >/dev/full 2>"$TMP/full.err"
	status=$?
	[ $status = 1 ] || fail "a violation, and a full device: status $status"
	grep -q "standard output cannot be written" "$TMP/full.err" || fail "a full device is not told beside a violation"
}
python3 - "$TMP/clean.json" "$TMP/bad.json" "$TMP/bad.err" "$TMP/missing.json" "$TMP/child.json" <<'END' || fail "the JSON is not what the page says"
import json, sys
clean, bad = (json.load(open(f)) for f in sys.argv[1:3])
assert clean["violation"] is None and clean["failed"] is None and clean["rounds"] >= 1 and clean["operations"]["read"]["done"] > 0, clean
assert clean["seen"]["faults"] > 0 or clean["seen"]["pages_background"] > 0, clean
assert clean["never_occurred"] == [] or all(n.split(" ")[0] in ("event", "outcome") for n in clean["never_occurred"]), clean
int(clean["schedule"], 16)
assert len(clean["schedule"]) == 16 and not clean["interrupted"], clean
v = bad["violation"]
assert v["operation_name"] in (None, "read", "write", "plant-zero"), v
assert "page " + hex(v["page"]) in v["expected"] and v["operations_drawn"] >= v["operations_replayed"] > 0, v
# It is the violation that was told, not the one that the shortened schedule had: the same page, pid and operation in the text.
said = open(sys.argv[3]).read()
assert f"  page       {v['page']:#x} " in said and f"track {v['track']}, pid {v['pid']} " in said, (v, said)
if v["operation"] is not None:
    assert f"  operation  {v['operation']} of " in said, (v, said)
assert v["operations"] and all(o["milliseconds_before"] >= 0 and o["name"] in ("read", "write", "plant-zero") for o in v["operations"]), v
assert all(m["text"].startswith("space ") for m in v["messages"]), v
child = json.load(open(sys.argv[5]))
assert child["violation"] is None and "ended by signal 4" in child["failed"] and bad["failed"] is None, child
missing = json.load(open(sys.argv[4]))["never_occurred"]
assert "operation direct" in missing and "event REMAP" not in missing, missing
assert v["class"] == "lost zero" and v["page"] % 4096 == 0 and v["found"] == "zero" and v["replay"], v
END
rm -f thaw-stress.*.replay
say "the same seed, the same schedule; coverage and JSON hold"
