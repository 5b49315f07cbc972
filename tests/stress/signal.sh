#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/signal.sh - a signal ends a run early and is no violation: the round that it met counts for nothing
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"
requires python3

# interrupted NAME SIGNAL SECONDS OPTION...: runs with the options for so long; its words in $TMP/NAME.out and .err. Dies of the signal.
interrupted()
{
	local name=$1 signal=$2 seconds=$3 pid status began
	shift 3
	# a shell's background child ignores SIGINT: the program takes it up again
	"$STRESS" "$@" >"$TMP/$name.out" 2>"$TMP/$name.err" </dev/null &
	pid=$!
	sleep "$seconds"
	began=$SECONDS
	kill -s "$signal" $pid || fail "$name: it has ended by itself: $(cat "$TMP/$name.err")"
	wait $pid
	status=$?
	[ $status != 77 ] || skip "$(grep 'not possible here' "$TMP/$name.err")"
	took=$((SECONDS - began))
	[ $status = $((128 + $(kill -l "$signal"))) ] || fail "$name: status $status after $signal: $(tail -n 3 "$TMP/$name.out")"
	! grep -q VIOL "$TMP/$name.out" "$TMP/$name.err" || fail "$name: an interrupted run is a violation"
	! ls thaw-stress.*.replay 2>/dev/null || fail "$name: a replay file of nothing"
}

# In the middle of a round, at several moments: threads wait for pages, copiers copy, spaces are half full.
for met in TERM:0.7 INT:1 HUP:1.3; do
	interrupted round "${met%:*}" "${met#*:}" --seconds 60 --source failing --processes 2 --threads 2 --size 32M --seed "$RANDOM"
	tail -n 1 "$TMP/round.out" | grep -qx "interrupted; clean until then" ||
		fail "it does not say that it was interrupted: $(tail -n 1 "$TMP/round.out")"
done

# The first round, in which a thread waits for a page in vain, and the watch has not lost its patience yet: nothing of it is counted.
interrupted first TERM 3 --json --seconds 60 --ops plant-lost --size 1M --source slow --processes 1 --threads 1 --seed 5
python3 - "$TMP/first.out" <<'END' || fail "the interrupted round is in the totals"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["interrupted"] and j["violation"] is None, j
assert j["rounds"] == 0 and j["processes"] == 0 and j["pages_checked"] == 0 and j["seen"]["pages_fault"] == 0, j
END

# In the set-up of much memory.
interrupted setup TERM 3 --seconds 60 --size 256G --processes 1 --threads 1 --source resident
[ $took -le $((10 * ${THAW_TEST_PATIENCE:-1})) ] || fail "it took $took s to obey in its set-up"
say "interrupted, and clean until then; in the set-up within $took s"
