#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/daemon.sh - a daemon without a terminal, restored detached
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON" pgrep

cat >"$TMP/daemon.py" <<'END'
import hashlib, os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
os.umask(0o027)
null = os.open("/dev/null", os.O_RDWR)
for fd in 0, 1, 2:
    os.dup2(null, fd)
os.close(null)
log = open(sys.argv[1] + "/daemon.log", "a", buffering=1)
data = {i: os.urandom(100) for i in range(100000)}
def digest():
    d = hashlib.sha1()
    for i in range(100000):
        d.update(data[i])
    return d.hexdigest()
def told(*args):
    log.write("told %s\n" % digest())
def stop(*args):
    log.write("ends\n")
    sys.exit(0)
signal.signal(signal.SIGUSR1, told)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1] + "/daemon.pid", "w").write("%d\n" % os.getpid())
told()
while True:
    time.sleep(1)
END
(bare "$PYTHON" "$TMP/daemon.py" "$TMP") || fail "the daemon does not start"
eventually 20 test -s "$TMP/daemon.log" || fail "the daemon does not come up"
pid=$(cat "$TMP/daemon.pid")
remember "$pid"
sid=$(ps -o sid= -p "$pid" | tr -d ' ')
checkpoint "$pid"
is_gone "$pid" || fail "the daemon is still there after its checkpoint"
first=$(cat "$TMP/daemon.log")
log_has() { [ "$(wc -l <"$TMP/daemon.log")" = "$1" ]; }
no_monitor() { ! pgrep -f "restore -d -D $IMAGE"; }

for mode in eager lazy stay-lazy; do
	echo "$first" >"$TMP/daemon.log"
	rm -f "$TMP/stats.json" "$TMP/new.pid"
	# The substitution ends only when nobody holds the pipe: neither the daemon nor the monitor keeps the caller's output.
	# shellcheck disable=SC2046
	said=$(timeout "$LIMIT" "$THAW" restore -d -D "$IMAGE" --pidfile "$TMP/new.pid" --stats "$TMP/stats.json" \
		$(mode_args $mode) 2>&1 </dev/null) || fail "$mode: thaw restore -d ended with $?: $said"
	[ -z "$said" ] || fail "$mode: it said: $said"
	[ "$(cat "$TMP/new.pid")" = "$pid" ] || fail "$mode: the pidfile has $(cat "$TMP/new.pid") instead of $pid"
	is_alive "$pid" || fail "$mode: the daemon does not run"
	[ "$(ps -o tty= -p "$pid" | tr -d ' ')" = "?" ] || fail "$mode: it got a terminal"
	new=$(ps -o sid= -p "$pid" | tr -d ' ')
	[ "$new" = "$pid" ] || [ "$new" = "$sid" ] || fail "$mode: its session is $new, not $sid and not its own"
	[ "$(sed -n 's/^Umask:\t//p' "/proc/$pid/status")" = 0027 ] || fail "$mode: its umask is not kept"
	kill -USR1 "$pid"
	eventually 20 log_has 2 || fail "$mode: it does not answer its signal"
	[ "$(sort -u "$TMP/daemon.log" | wc -l)" = 1 ] || fail "$mode: its data changed: $(cat "$TMP/daemon.log")"
	if [ $mode != stay-lazy ]; then
		eventually 20 test -s "$TMP/stats.json" || fail "$mode: no statistics after the last page"
		expect_key complete true
		expect_key process running
		eventually 10 no_monitor || fail "$mode: the monitor does not end"
		is_alive "$pid" || fail "$mode: the daemon ended with its monitor"
	fi
	kill -TERM "$pid"
	eventually 20 is_gone "$pid" || fail "$mode: it does not end"
	[ "$(tail -n 1 "$TMP/daemon.log")" = ends ] || fail "$mode: it did not end by itself"
	eventually 10 test -s "$TMP/stats.json" || fail "$mode: no statistics"
	eventually 10 no_monitor || fail "$mode: the monitor does not end with the daemon"
	check_mode $mode
	say "$mode: it answers, has its data, and ended by itself"
done
