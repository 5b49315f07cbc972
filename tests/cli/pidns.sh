#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/pidns.sh - the pid is taken: refused by name, and with --pidns it runs in a pid namespace
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON"

cat >"$TMP/job.py" <<'END'
import os, sys, threading, time
data = [os.urandom(4096) for _ in range(3000)]
keep = [bytes(d) for d in data]
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
n = 0
print("pid", os.getpid(), flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
print("pid", os.getpid(), "same" if data == keep else "different", flush=True)
END
run_piped "$TMP/first.out" "$PYTHON" "$TMP/job.py" "$TMP/go"
eventually 20 has_lines "$TMP/first.out" 1 || fail "the job does not start"
pid=$PIPED
checkpoint "$pid" --leave-running
is_alive "$pid" || fail "--leave-running: the process has ended"

# It still runs: its pid is taken.
"$THAW" restore -D "$IMAGE" </dev/null >"$TMP/second.out" 2>"$TMP/restore.err" && fail "restored on a pid that is taken"
grep -q "$pid" "$TMP/restore.err" || fail "the pid is not named: $(cat "$TMP/restore.err")"
grep -q -e "--pidns" "$TMP/restore.err" || fail "the remedy is not named: $(cat "$TMP/restore.err")"
is_alive "$pid" || fail "the refused restore harmed the process with that pid"

for mode in eager lazy stay-lazy; do
	rm -f "$TMP/go" "$TMP/pid" "$TMP/stats.json"
	# shellcheck disable=SC2046
	"$THAW" restore -D "$IMAGE" --pidns --pidfile "$TMP/pid" --stats "$TMP/stats.json" $(mode_args $mode) </dev/null \
		2>"$TMP/restore.err" | cat >"$TMP/second.out" &
	pipeline=$!
	eventually 20 test -s "$TMP/pid" || fail "$mode: no pidfile"
	new=$(cat "$TMP/pid")
	remember "$new"
	[ "$new" != "$pid" ] || fail "$mode: the pidfile has the pid that is taken"
	is_alive "$new" || fail "$mode: pid $new of the pidfile does not run"
	[ "$(awk '/^NSpid:/ { print $NF }' "/proc/$new/status")" = "$pid" ] || fail "$mode: its own pid is not $pid"
	touch "$TMP/go"
	wait $pipeline || fail "$mode: it ended with $?: $(cat "$TMP/restore.err")"
	grep -qx "pid $pid same" "$TMP/second.out" || fail "$mode: it said: $(cat "$TMP/second.out")"
	check_mode $mode
	say "$mode: pid $pid inside, $new outside"
done
wait "$PIPELINE"
grep -qx "pid $pid same" "$TMP/first.out" || fail "the process that was left running went wrong: $(cat "$TMP/first.out")"
