#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/last_words.sh - a detached monitor is killed, and its standard error was a pipe: the holder's line is in the system's log
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON" unshare mount pgrep

# In a /dev of its own, for that of the machine has a log that is not ours, or none.
if [ -z "${LAST_WORDS:-}" ]; then
	unshare -m true 2>/dev/null || skip "no mount namespace can be made here"
	LAST_WORDS=1 unshare -m bash "$THAW_SRCDIR/tests/cli/last_words.sh"
	exit
fi
mkdir "$TMP/dev"
mount -t tmpfs none "$TMP/dev" || skip "cannot mount a small file system here"
at_exit umount -l "$TMP/dev"
for device in null zero full random urandom tty userfaultfd; do
	[ -e /dev/$device ] || continue
	touch "$TMP/dev/$device"
	mount --bind /dev/$device "$TMP/dev/$device" || skip "cannot bind /dev/$device"
done
ln -s /proc/self/fd "$TMP/dev/fd"
mkdir "$TMP/dev/shm"
mount --rbind "$TMP/dev" /dev || skip "cannot mount over /dev in a namespace of our own"
at_exit umount -l /dev

cat >"$TMP/log.py" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
out = open(sys.argv[1], "ab", buffering=0)
while True:
    out.write(s.recv(65536))
END
cat >"$TMP/job.py" <<'END'
import time
data = [bytes([i & 255]) * 4096 for i in range(5000)]
print("built", flush=True)
while True:
    time.sleep(0.1)
END
spawn "$PYTHON" "$TMP/log.py" "$TMP/system.log" </dev/null
eventually 10 test -S /dev/log || fail "no /dev/log"
run_piped "$TMP/first.out" "$PYTHON" "$TMP/job.py"
eventually 30 has_lines "$TMP/first.out" 1 || fail "the job does not start"
checkpoint_piped
all() { pgrep -f "^$THAW restore -d --stay-lazy -D $IMAGE"; } # monitor and holder
no_monitor() { ! all; }
names() { grep -q "the monitor (pid .*pid $pid: waits for memory" "$1"; }

# kill_monitor WHERE ARG...: with a pipe as standard error
kill_monitor()
{
	local where=$1 monitor
	shift
	rm -f "$TMP/pid"
	: >"$TMP/system.log"
	timeout 60 "$THAW" restore -d --stay-lazy -D "$IMAGE" --pidfile "$TMP/pid" "$@" </dev/null >"$TMP/second.out" \
		2> >(cat >"$TMP/restore.err") || fail "restore -d"
	pid=$(cat "$TMP/pid")
	remember "$pid"
	for monitor in $(all); do
		[ "$(cat "/proc/$monitor/comm")" = uffd-holder ] || kill -KILL "$monitor"
	done
	eventually 20 names "$where" || fail "no line names process $pid in $where: $(cat "$where")"
	is_alive "$pid" || fail "the process did not wait, it ended"
	kill -KILL "$pid"
	eventually 10 is_gone "$pid" || fail "the waiting process cannot be ended"
	eventually 10 no_monitor || fail "something is left of the monitor"
}
kill_monitor "$TMP/system.log"
[ "$(grep -c '^thaw: the monitor' "$TMP/system.log")" = 1 ] || fail "not one line in the system's log: $(cat "$TMP/system.log")"
kill_monitor "$TMP/o.log" -o "$TMP/o.log"
[ ! -s "$TMP/system.log" ] || fail "with -o the system's log has $(cat "$TMP/system.log")"
say "$(cut -c 7- "$TMP/o.log")"
