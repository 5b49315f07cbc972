#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/foreground.sh - thaw restore in front: signals and exit status pass through; statistics and pidfile
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON"

cat >"$TMP/job.py" <<'END'
import signal, sys, time, os
data = [os.urandom(4096) for _ in range(5000)]
def got(number, frame):
    print("signal", signal.Signals(number).name, flush=True)
def end(number, frame):
    print("ends", flush=True)
    sys.exit(43)
for s in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGWINCH, signal.SIGPIPE,
          signal.SIGURG, signal.SIGIO):
    signal.signal(s, got)
signal.signal(signal.SIGUSR2, end)
print("ready", flush=True)
while True:
    line = sys.stdin.readline()
    if line:
        print("read", line.strip(), flush=True)
    else:
        time.sleep(0.05)
END
# Its standard input is a pipe from elsewhere, like its standard output.
exec {PIPED_INPUT}< <(exec sleep 300)
remember $!
run_piped "$TMP/first.out" "$PYTHON" "$TMP/job.py"
eventually 20 has_lines "$TMP/first.out" 1 || fail "the job does not start"
exec {PIPED_INPUT}<&-
sleep 0.3
checkpoint_piped
said() { grep -qx -e "$1" "$TMP/second.out"; }

# front ARG...: in the background of this shell, which ignores SIGINT and SIGQUIT there: thaw must take them all the same
front()
{
	rm -f "$TMP/pid" "$TMP/stats.json" "$TMP/second.out"
	"$THAW" restore -D "$IMAGE" --pidfile "$TMP/pid" --stats "$TMP/stats.json" "$@" </dev/null >"$TMP/second.out" 2>"$TMP/restore.err" &
	FRONT=$!
	remember $FRONT
	eventually 20 test -s "$TMP/pid" || fail "no pidfile"
	remember "$(cat "$TMP/pid")"
	sleep 0.2
}

for mode in eager lazy stay-lazy; do
	# shellcheck disable=SC2046
	front $(mode_args $mode)
	for s in HUP INT QUIT USR1 ALRM WINCH PIPE URG IO; do
		kill -$s $FRONT || fail "$mode: thaw restore has ended"
		eventually 10 said "signal SIG$s" || fail "$mode: SIG$s did not arrive"
	done
	kill -USR2 $FRONT
	wait $FRONT
	status=$?
	[ $status = 43 ] || fail "$mode: exit status $status instead of 43"
	said ends || fail "$mode: the last words are missing"
	expect_key pid "$PIPED"
	# written when all memory was in, or the process gone
	if [ $mode = stay-lazy ]; then expect_key process exited; else expect_key process running; fi
	check_mode $mode
	# killed: 128 + n
	# shellcheck disable=SC2046
	front $(mode_args $mode)
	kill -TERM $FRONT
	wait $FRONT
	status=$?
	[ $status = 143 ] || fail "$mode: exit status $status instead of 143 after SIGTERM"
	[ $mode != stay-lazy ] || expect_key process killed
	# shellcheck disable=SC2046
	front $(mode_args $mode)
	kill -KILL "$(cat "$TMP/pid")"
	wait $FRONT
	status=$?
	[ $status = 137 ] || fail "$mode: exit status $status instead of 137 after SIGKILL of the process"
	[ ! -s "$TMP/restore.err" ] || fail "$mode: it said: $(cat "$TMP/restore.err")"
	say "$mode: signals and exit status passed through"
done

# Standard input is passed through.
printf 'one\ntwo\n' >"$TMP/input"
"$THAW" restore -D "$IMAGE" --pidfile "$TMP/pid" <"$TMP/input" >"$TMP/second.out" 2>"$TMP/restore.err" &
FRONT=$!
remember $FRONT
eventually 10 said "read two" || fail "standard input does not arrive"
kill -USR2 $FRONT
wait $FRONT

# Statistics into something that is no file; progress in plain lines on standard error only.
mkfifo "$TMP/fifo"
cat "$TMP/fifo" >"$TMP/stats.json" &
"$THAW" restore -D "$IMAGE" --stats "$TMP/fifo" --progress always </dev/null >"$TMP/second.out" 2>"$TMP/restore.err" &
FRONT=$!
remember $FRONT
eventually 10 grep -q '"staging_bytes"' "$TMP/stats.json" || fail "no statistics in the pipe"
expect_key complete true
kill -USR2 $FRONT
wait $FRONT
grep -q '^thaw: .* in ' "$TMP/restore.err" || fail "no progress on standard error"
grep -q 'thaw: ' "$TMP/second.out" && fail "thaw speaks on standard output"
"$THAW" restore -D "$IMAGE" --eager --progress always </dev/null >"$TMP/second.out" 2>"$TMP/restore.err" &
FRONT=$!
remember $FRONT
eventually 10 grep -q '^thaw: .* in after .*, before the process ran' "$TMP/restore.err" || fail "eager: no progress on standard error"
kill -USR2 $FRONT
wait $FRONT
# A link is followed, not replaced.
ln -s stats.real "$TMP/link.json"
: >"$TMP/stats.real"
"$THAW" restore -D "$IMAGE" --stats "$TMP/link.json" --pidfile "$TMP/pid" </dev/null >"$TMP/second.out" 2>"$TMP/restore.err" &
FRONT=$!
remember $FRONT
eventually 10 test -s "$TMP/stats.real" || fail "no statistics behind a link"
[ -L "$TMP/link.json" ] || fail "the link was replaced"
kill -USR2 $FRONT
wait $FRONT
# A stopped process (out of job control's sight) and its continuation leave thaw alone.
front
kill -STOP "$(cat "$TMP/pid")"
sleep 0.2
kill -CONT "$(cat "$TMP/pid")"
kill -USR1 $FRONT
eventually 10 said "signal SIGUSR1" || fail "it does not go on after SIGSTOP and SIGCONT"
kill -USR2 $FRONT
wait $FRONT
[ $? = 43 ] || fail "exit status after stop and go"
say "input, statistics on a pipe, progress, stop and go"

# Nobody reads standard error: a pipe, or a terminal, that is full. The process runs all the same, its faults, each of them with a line of
# -vv, are served, and when it is read again the number of lines that are missing is told.
cat >"$TMP/unread.py" <<'END'
import fcntl, os, pty, re, select, signal, subprocess, sys, time
kind, thaw, image, out = sys.argv[1:]
patience = int(os.environ.get("THAW_TEST_PATIENCE", "1"))
reader, writer = pty.openpty() if kind == "terminal" else os.pipe()
flags = fcntl.fcntl(writer, fcntl.F_GETFL)
fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
for size in 4096, 1:
    try:
        while True:
            os.write(writer, b"x" * size)
    except BlockingIOError:
        pass
fcntl.fcntl(writer, fcntl.F_SETFL, flags)
p = subprocess.Popen([thaw, "restore", "-vv", "-D", image, "--stay-lazy"], stdin=subprocess.DEVNULL, stdout=open(out, "w"), stderr=writer)
os.close(writer)
def asked(sig, word):
    for _ in range(100 * patience):
        p.send_signal(sig)
        time.sleep(0.1)
        if word in open(out).read():
            return
    p.kill()
    sys.exit("%s: with standard error full the process does not run" % kind)
def read_all():
    text = b""
    while select.select([reader], [], [], 0.3 * patience)[0]:
        try:
            more = os.read(reader, 65536)
        except OSError:
            more = b""
        if not more:
            break
        text += more
    return text
def is_blocked(): # all signals, which are passed on then
    for line in open("/proc/%d/status" % p.pid):
        if line.startswith("SigBlk:"):
            return int(line.split()[1], 16) >> 9 & 1
while not is_blocked():
    time.sleep(0.05)
asked(signal.SIGUSR1, "SIGUSR1")
text = read_all()
p.send_signal(signal.SIGUSR2)
text += read_all()
status = p.wait(20 * patience)
text += read_all()
if status != 43:
    sys.exit("%s: exit status %d" % (kind, status))
if not re.search(rb"thaw: [0-9]+ lines were lost: they could not be written\r?$", text, re.M):
    sys.exit("%s: nobody is told that lines were lost: %r" % (kind, text[-300:]))
END
for kind in pipe terminal; do
	timeout $((60 * PATIENCE)) "$PYTHON" "$TMP/unread.py" $kind "$THAW" "$IMAGE" "$TMP/second.out" 2>"$TMP/unread.err" ||
		fail "standard error that nobody reads: $kind"
done
say "nobody waits for who reads standard error"
