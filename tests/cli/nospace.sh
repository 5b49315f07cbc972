#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/nospace.sh - no space, an unwritable place, a directory that is in use: a clear error, the process unharmed, nothing left
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON" mount

cat >"$TMP/job.py" <<'END'
import os, sys, time
data = [os.urandom(4096) for _ in range(8000)]
n = 0
while True:
    n += 1
    open(sys.argv[1] + ".new", "w").write("%d\n" % n)
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(0.02)
END
mkdir "$TMP/work" "$TMP/small"
spawn "$PYTHON" "$TMP/job.py" "$TMP/work/count" </dev/null
pid=$SPAWNED
eventually 20 test -s "$TMP/work/count" || fail "the job does not start"

refused()
{
	local dir=$1 words=$2 before
	timeout 60 "$THAW" checkpoint -t "$pid" -D "$dir" >"$TMP/said.out" 2>"$TMP/said.err" && fail "$dir: it succeeds"
	[ "$(wc -l <"$TMP/said.err")" = 1 ] || fail "$dir: not one sentence: $(cat "$TMP/said.err")"
	grep -qi -e "$words" "$TMP/said.err" || fail "$dir: it says '$(cat "$TMP/said.err")' without '$words'"
	is_alive "$pid" || fail "$dir: the process ended"
	before=$(cat "$TMP/work/count")
	goes_on() { [ "$(cat "$TMP/work/count")" -gt $((before + 5)) ]; }
	eventually 10 goes_on || fail "$dir: the process stands still"
	say "$(cut -c 7- "$TMP/said.err")"
}

mount -t tmpfs -o size=8m none "$TMP/small" || skip "cannot mount a small file system here"
at_exit umount "$TMP/small"
refused "$TMP/small/image" "no space"
[ -z "$(ls -A "$TMP/small")" ] || fail "left behind: $(ls -A "$TMP/small")"
refused "$TMP/absent/image" "no such file"
refused /proc/image ""
touch "$TMP/file"
refused "$TMP/file" "$TMP/file"
mkdir "$TMP/full"
touch "$TMP/full/something"
refused "$TMP/full" "$TMP/full"
[ "$(ls -A "$TMP/full")" = something ] || fail "a directory in use was changed: $(ls -A "$TMP/full")"

# Killed in the middle, at random moments: the process runs on, the directory is absent or whole, nothing beside it.
mkdir "$TMP/killed"
for i in 1 2 3 4 5 6; do
	"$THAW" checkpoint --leave-running -t "$pid" -D "$TMP/killed/image" >"$TMP/said.out" 2>"$TMP/said.err" &
	thaw=$!
	sleep "0.0$((i * 13 % 10))"
	signal=KILL
	[ $((i % 2)) = 0 ] && signal=TERM
	kill -$signal $thaw 2>/dev/null
	wait $thaw 2>/dev/null
	before=$(cat "$TMP/work/count")
	goes_on() { [ "$(cat "$TMP/work/count")" -gt $((before + 5)) ]; }
	eventually 10 goes_on || fail "killed by SIG$signal: the process stands still"
	[ "$(sed -n 's/^TracerPid:\t//p' "/proc/$pid/status")" = 0 ] || fail "killed by SIG$signal: it is still traced"
	only_image() { [ -z "$(find "$TMP/killed" -mindepth 1 -maxdepth 1 ! -name image)" ]; }
	eventually 10 only_image || fail "killed by SIG$signal: left behind: $(ls -A "$TMP/killed")"
	if [ -e "$TMP/killed/image" ]; then
		"$THAW" show -q -D "$TMP/killed/image" || fail "killed by SIG$signal: the checkpoint is not whole"
		rm -rf "$TMP/killed/image"
	fi
done

# A full standard output: the checkpoint is complete and its process ended or not as it was asked; what is only an answer has failed.
timeout 60 "$THAW" checkpoint --leave-running -t "$pid" -D "$TMP/full.image" >/dev/full 2>"$TMP/said.err" ||
	fail "a complete checkpoint is a failure when its line cannot be written: $(cat "$TMP/said.err")"
grep -q "standard output: No space" "$TMP/said.err" && grep -q "complete all the same" "$TMP/said.err" ||
	fail "checkpoint to a full device says $(cat "$TMP/said.err")"
for json in "" --json; do
	# shellcheck disable=SC2086 # one option or none
	"$THAW" show -D "$TMP/full.image" $json >/dev/full 2>"$TMP/said.err" && fail "show $json to a full device succeeds"
	[ "$(grep -c '^thaw: standard output: ' "$TMP/said.err")" = 1 ] || fail "show $json to a full device: $(cat "$TMP/said.err")"
done

# And then it can still be checkpointed, and goes on from there.
checkpoint "$pid"
wait "$pid" 2>/dev/null
"$THAW" restore -d --pidfile "$TMP/pid" -D "$IMAGE" </dev/null >"$TMP/restore.log" 2>&1 || fail "restore: $(cat "$TMP/restore.log")"
remember "$(cat "$TMP/pid")"
before=$(cat "$TMP/work/count")
goes_on() { [ "$(cat "$TMP/work/count")" -gt $((before + 5)) ]; }
eventually 10 goes_on || fail "the restored process stands still"
kill -TERM "$(cat "$TMP/pid")"
exit 0
