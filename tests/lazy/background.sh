#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/lazy/background.sh - how it starts: the byte on --status-fd, action scripts, -d with its pidfile, and how signals end it
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
export HOME=$TMP
unset CRIU_CONFIG_FILE
mkdir img
. "$THAW_SRCDIR/tests/lazy/zombie.inc"

# ---- one zero byte, when it listens; then the descriptor is closed
mkfifo status
"$THAW" lazy-pages -D img --status-fd 7 7>status 2>said.err &
pid=$!
remember $pid
od -An -tx1 status >byte # until it is closed
[ "$(tr -d ' \n' <byte)" = 00 ] || fail "--status-fd: '$(cat byte)'; $(cat said.err)"
[ -S img/lazy-pages.socket ] || fail "the byte came before it listened"
is_alive $pid || fail "it is gone"
[ "$(stat -c %a img/lazy-pages.socket)" = 700 ] || fail "others may connect: $(stat -c %a img/lazy-pages.socket)"
python3 say.py img/lazy-pages.socket
wait $pid || fail "the end: $?"

# ---- a standard descriptor will do, also with -d, which makes it /dev/null; and it is not another file's afterwards
for fd in 0 1 2; do
	for how in '' -d; do
		rm -f pid.std
		# shellcheck disable=SC2086 # no argument at all where there is none
		eval "\"\$THAW\" lazy-pages -D img $how --pidfile \"\$TMP/pid.std\" -o log --status-fd $fd $fd>status &"
		pid=$!
		remember $pid
		od -An -tx1 status >byte
		[ "$(tr -d ' \n' <byte)" = 00 ] || fail "--status-fd $fd $how: '$(cat byte)'; $(cat img/log)"
		if [ -n "$how" ]; then wait $pid || fail "--status-fd $fd $how: $?"; fi
		pid=$(cat pid.std)
		remember "$pid"
		[ "$(readlink "/proc/$pid/fd/$fd")" = /dev/null ] || fail "--status-fd $fd $how: $(readlink "/proc/$pid/fd/$fd")"
		python3 say.py img/lazy-pages.socket
		eventually 60 is_gone "$pid" || fail "--status-fd $fd $how: it does not end"
		wait
	done
done

# ---- none when it cannot start
"$THAW" lazy-pages -D absent --status-fd 7 7>status 2>said.err &
pid=$!
od -An -tx1 status >byte
[ ! -s byte ] || fail "a byte although it cannot start"
wait $pid && fail "it succeeds"

# ---- action scripts, before the byte; one that fails ends it
cat >script <<END
#!/bin/sh
echo "\$CRTOOLS_SCRIPT_ACTION \$CRTOOLS_IMAGE_DIR \$(ls img/lazy-pages.socket)" >>"$TMP/actions"
END
chmod +x script
"$THAW" lazy-pages -D img -W . --action-script "$TMP/script" --action-script "echo two >>actions" --status-fd 7 7>status 2>said.err &
pid=$!
remember $pid
od -An -tx1 status >byte
[ "$(tr -d ' \n' <byte)" = 00 ] || fail "--status-fd with scripts: $(cat said.err)"
[ "$(head -n 1 actions)" = "status-ready $(realpath img) " ] || [ "$(head -n 1 actions)" = "status-ready $(realpath img)" ] ||
	fail "the script saw: $(cat actions)"
[ "$(tail -n 1 actions)" = two ] || fail "the second script did not run: $(cat actions)"

# ---- before a task has come a signal ends it, and nothing is left
kill -TERM $pid
wait $pid && fail "a signal ends it with success"
[ ! -e lazy-pages.socket ] || fail "it left its socket"
grep -q "ended by signal 15" said.err || fail "said: $(cat said.err)"
"$THAW" lazy-pages -D img --action-script 'exit 3' 2>said.err && fail "a script that fails is not minded"
grep -q "action script exit 3: failed with exit status 3" said.err || fail "said: $(cat said.err)"
[ ! -e img/lazy-pages.socket ] || fail "it left its socket"

# ---- in the background
"$THAW" lazy-pages -D img -d --pidfile "$TMP/pid" --stats stats -o log -v </dev/null >said.out 2>said.err || fail "-d: $(cat said.err)"
pid=$(cat pid)
remember "$pid"
is_alive "$pid" || fail "-d: no daemon: $(cat img/log)"
[ -S img/lazy-pages.socket ] || fail "-d: it does not listen"
[ "$(readlink "/proc/$pid/fd/0")" = /dev/null ] && [ "$(readlink "/proc/$pid/fd/2")" = /dev/null ] || fail "-d: it keeps standard I/O"
[ "$(cut -d' ' -f6 "/proc/$pid/stat")" = "$pid" ] || fail "-d: not in a session of its own"
[ "$(readlink "/proc/$pid/cwd")" = "$(realpath img)" ] || fail "-d: it left the work directory"
python3 say.py img/lazy-pages.socket
eventually 60 is_gone "$pid" || fail "-d: it does not end"
grep -q '"complete": *true' img/stats || fail "-d: --stats: $(cat img/log)"
"$THAW" lazy-pages -D img/absent -d --pidfile pid2 2>said.err && fail "-d: a daemon that cannot start succeeds"
[ ! -e pid2 ] || fail "-d: a pidfile of none"

# ---- whoever reads until the end what it says is not kept waiting by the daemon
said=$(timeout 60 "$THAW" lazy-pages -D img -d --pidfile "$TMP/pid3" -o log 2>&1) || fail "-d: its caller waits for the daemon: $said"
remember "$(cat pid3)"
is_alive "$(cat pid3)" || fail "-d: no daemon: $said"
python3 say.py img/lazy-pages.socket
eventually 60 is_gone "$(cat pid3)" || fail "-d: it does not end"

# ---- few descriptors: a log all the same
(ulimit -n 60 && exec "$THAW" lazy-pages -D img -d --pidfile "$TMP/pid4" -o log -v) || fail "a limit of 60: $(cat img/log)"
remember "$(cat pid4)"
python3 say.py img/lazy-pages.socket
eventually 60 is_gone "$(cat pid4)" || fail "a limit of 60: it does not end"
grep -q "the restorer has connected" img/log || fail "a limit of 60: no log: $(cat img/log)"

# ---- a socket that was left by another is replaced; a daemon that lives keeps its own
python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("img/lazy-pages.socket")'
"$THAW" lazy-pages -D img -d --pidfile "$TMP/one" || fail "an old socket is in the way"
python3 say.py img/lazy-pages.socket
eventually 60 is_gone "$(cat one)" || fail "it does not end"

# ---- the second daemon of a directory takes the place of one that still listens, which says so and ends
"$THAW" lazy-pages -D img 2>first.err &
first=$!
remember $first
eventually 60 [ -S img/lazy-pages.socket ] || fail "it does not listen: $(cat first.err)"
"$THAW" lazy-pages -D img -d --pidfile "$TMP/second" 2>said.err || fail "the second does not start: $(cat said.err)"
remember "$(cat second)"
wait $first && fail "the first ends with success"
grep -q "lazy-pages.socket: .*: no restore can come here any more" first.err || fail "the first said: $(cat first.err)"
grep -q "another daemon was listening in this work directory" said.err || fail "the second said: $(cat said.err)"
"$THAW" status -D img --json >status.json || fail "thaw status does not reach the second"
grep -q "\"pid\": *$(cat second)," status.json || fail "thaw status shows another: $(cat status.json)"
python3 say.py img/lazy-pages.socket
eventually 60 is_gone "$(cat second)" || fail "the second does not end"

# ---- one whose socket is removed cannot be reached, and ends
"$THAW" lazy-pages -D img 2>first.err &
first=$!
remember $first
eventually 60 [ -S img/lazy-pages.socket ] || fail "it does not listen: $(cat first.err)"
rm img/lazy-pages.socket
wait $first && fail "it ends with success"
grep -q "lazy-pages.socket: was removed" first.err || fail "it said: $(cat first.err)"

# ---- one who asks for the status when no descriptor is free is not looked at without end, and is answered when there is one
(
	for fd in {3..40}; do # so that all numbers below the limit of later are taken
		eval "exec $fd</dev/null"
	done
	exec "$THAW" lazy-pages -D img -d --pidfile "$TMP/pid5" -o log
) || fail "it does not start: $(cat img/log)"
pid=$(cat pid5)
remember "$pid"
python3 - "$pid" img/thaw-status.socket <<'END' || fail "the status without a descriptor"
import os, resource, socket, sys, time
pid, path = int(sys.argv[1]), sys.argv[2]
def ticks():
    return sum(int(x) for x in open("/proc/%d/stat" % pid).read().rsplit(") ", 1)[1].split()[11:13])
before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (24, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
s = socket.socket(socket.AF_UNIX)
s.connect(path)
used = ticks()
time.sleep(2)
used = ticks() - used
resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
if used > os.sysconf("SC_CLK_TCK") / 2:
    sys.exit("it took %d ticks of CPU in two seconds" % used)
s.settimeout(20)
if b"phase" not in s.recv(65536):
    sys.exit("no answer when a descriptor is free again")
END
python3 say.py img/lazy-pages.socket
eventually 60 is_gone "$pid" || fail "it does not end"

# ---- the page server: in the background its word is that it serves, and a pidfile is that of one that does
cp -a img served
rm -f served/log* served/*.socket
python3 - <<'END'
import struct
def rec(b): return struct.pack("<I", len(b)) + b
open("served/pagemap-7.img", "wb").write(struct.pack("<II", 0x54564319, 0x56084025) + rec(b"\x08\x01") + rec(b"\x08\x80\x80\x04\x10\x01\x20\x04"))
open("served/pages-1.img", "wb").write(b"x" * 4096)
END
chmod 600 served/*
for fd in 0 1 7; do
	rm -f served.pid
	eval "\"\$THAW\" page-server -D served --port 0 -d --pidfile served.pid --status-fd $fd $fd>status &"
	pid=$!
	od -An -tx1 status >byte
	[ "$(tr -d ' \n' <byte)" = 00 ] || fail "page-server -d --status-fd $fd: '$(cat byte)'"
	wait $pid || fail "page-server -d --status-fd $fd: $?"
	pid=$(cat served.pid)
	remember "$pid"
	is_alive "$pid" || fail "page-server -d: it is gone"
	kill -TERM "$pid"
	eventually 60 is_gone "$pid" || fail "page-server -d: it does not end"
	[ ! -e served.pid ] || fail "page-server -d: it left its pidfile"
done
cannot() { fail "page-server $1: one that cannot serve succeeds"; }
left() { [ ! -e served.pid ] || fail "page-server $1: it left a pidfile: $(cat said.err)"; }
for how in '' -d; do
	# shellcheck disable=SC2086 # no argument at all where there is none
	timeout 60 "$THAW" page-server -D served --port 0 $how --pidfile served.pid --status-fd 7 7>/dev/full 2>said.err && cannot "$how"
	grep -q "thaw: --status-fd 7 cannot be written to" said.err || fail "page-server $how: said $(cat said.err)"
	left "$how"
	grep -q '^#define THAW_DEBUG 1' "$THAW_BUILDDIR/config.h" || continue
	# shellcheck disable=SC2086
	THAW_INJECT=sandbox.load:ENOMEM:1 timeout 60 "$THAW" page-server -D served --port 0 $how --pidfile served.pid 2>said.err && cannot "$how"
	grep -q "thaw: sandbox: the filter of the session thread cannot be made" said.err || fail "page-server $how: said $(cat said.err)"
	left "$how"
done
say "starts and ends as it should"
