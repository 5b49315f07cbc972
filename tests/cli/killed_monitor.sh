#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/killed_monitor.sh - thaw restore is killed: the process waits for its memory and reads nothing else; one line says so
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON"

cat >"$TMP/job.py" <<'END'
import sys, time
data = [bytes([i & 255]) * 4096 for i in range(30000)]
print("built", flush=True)
while True:
    time.sleep(0.01)
    # Half of the data is never touched before the checkpoint is restored and the monitor killed.
    try:
        go = open(sys.argv[1]).read()
    except OSError:
        continue
    break
for i, d in enumerate(data):
    if d != bytes([i & 255]) * 4096:
        print("page", i, "is wrong:", d[:8], flush=True)
print("all read", flush=True)
END
run_piped "$TMP/first.out" "$PYTHON" "$TMP/job.py" "$TMP/go"
eventually 30 has_lines "$TMP/first.out" 1 || fail "the job does not start"
checkpoint_piped

for round in 1 2 3; do
	rm -f "$TMP/go"
	"$THAW" restore --stay-lazy -D "$IMAGE" --pidfile "$TMP/pid" </dev/null >"$TMP/second.out" 2>"$TMP/restore.err" &
	thaw=$!
	remember $thaw
	eventually 20 test -s "$TMP/pid" || fail "no pidfile"
	pid=$(cat "$TMP/pid")
	remember "$pid"
	sleep 0.$((round * 2))
	kill -KILL $thaw
	wait $thaw 2>/dev/null
	touch "$TMP/go"
	sleep 1
	is_alive "$pid" || fail "round $round: the process did not wait, it ended"
	[ -s "$TMP/second.out" ] && fail "round $round: it went on without its memory: $(head -n 3 "$TMP/second.out")"
	grep -q "$pid" "$TMP/restore.err" || fail "round $round: no line names process $pid: $(cat "$TMP/restore.err")"
	say "round $round: it waits; $(grep "$pid" "$TMP/restore.err" | head -n 1)"
	kill -KILL "$pid"
	eventually 10 is_gone "$pid" || fail "round $round: the waiting process cannot be ended"
	rm -f "$TMP/pid"
done
