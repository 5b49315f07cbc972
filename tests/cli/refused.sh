#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/refused.sh - what cannot be restored is refused by name, and the process runs on unharmed
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON"

# refused NAME WORDS PYTHON-CODE: the code makes the process hold something; WORDS are in the sentence
refused()
{
	local name=$1 words=$2 pid before
	cat >"$TMP/$name.py" <<END
import os, socket, subprocess, sys, threading, time, signal, select, ctypes
libc = ctypes.CDLL(None, use_errno=True)
$3
n = 0
data = {i: str(i) * 20 for i in range(20000)}
while True:
    n += 1
    assert data[n % 20000] == str(n % 20000) * 20
    open("$TMP/$name.new", "w").write("%d\n" % n)
    os.rename("$TMP/$name.new", "$TMP/$name.count")
    time.sleep(0.02)
END
	spawn "$PYTHON" "$TMP/$name.py" </dev/null >"$TMP/$name.out" 2>&1
	pid=$SPAWNED
	eventually 20 test -s "$TMP/$name.count" || fail "$name: the process does not come up: $(cat "$TMP/$name.out")"
	if timeout 60 "$THAW" checkpoint -t "$pid" -D "$TMP/refused" >"$TMP/said.out" 2>"$TMP/said.err"; then
		fail "$name: not refused"
	fi
	[ "$(wc -l <"$TMP/said.err")" = 1 ] || fail "$name: not one sentence: $(cat "$TMP/said.err")"
	grep -qiE -e "$words" "$TMP/said.err" || fail "$name: it says '$(cat "$TMP/said.err")' without '$words'"
	[ ! -e "$TMP/refused" ] || fail "$name: the directory appeared"
	[ -z "$(find "$TMP" -mindepth 1 -maxdepth 1 -name '*refused*')" ] || fail "$name: left behind: $(find "$TMP" -mindepth 1 -maxdepth 1 -name '*refused*')"
	is_alive "$pid" || fail "$name: the process ended"
	before=$(cat "$TMP/$name.count")
	goes_on() { [ "$(cat "$TMP/$name.count")" -gt $((before + 5)) ]; }
	eventually 10 goes_on || fail "$name: the process stands still"
	[ ! -s "$TMP/$name.out" ] || fail "$name: the process noticed: $(cat "$TMP/$name.out")"
	[ "$(sed -n 's/^TracerPid:\t//p' "/proc/$pid/status")" = 0 ] || fail "$name: it is still traced"
	say "$name: $(cut -c 7- "$TMP/said.err")"
	pkill -KILL -P "$pid" 2>/dev/null
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null
	return 0
}

refused tcp "fd [0-9]+: .*TCP connection to 127.0.0.1" '
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname())
a = l.accept()'
refused child "child" '
child = os.fork()
if child == 0:
    os.closerange(0, 3)
    time.sleep(100)
    os._exit(0)'
refused zombie "child" '
if os.fork() == 0:
    os._exit(0)'
refused pipe "fd [0-9]+: .*pipe" '
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(w)
        os.read(r, 1)
        os._exit(0)
    os._exit(0)
os.wait()'
refused udp "fd [0-9]+: .*UDP" '
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("127.0.0.1", 0))'
refused netlink "fd [0-9]+: .*netlink" '
u = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)'
refused seccomp "seccomp" '
libc.prctl(38, 1, 0, 0, 0)
class F(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]
class P(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(F))]
f = (F * 1)(F(6, 0, 0, 0x7fff0000))
p = P(1, f)
assert libc.prctl(22, 2, ctypes.byref(p), 0, 0) == 0'
refused namespace "namespace" '
assert libc.unshare(0x04000000) == 0'
refused userfaultfd "userfaultfd" '
assert libc.syscall(323, 0o2000000 | 0o4000) >= 0'
refused hugetlb "huge" '
open("/proc/sys/vm/nr_overcommit_hugepages").read()
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
assert libc.mmap(None, 2 << 20, 3, 0x22 | 0x40000 | 0x4000, -1, 0) not in (None, 2**64 - 1)'

# A process that somebody traces
"$PYTHON" - >"$TMP/traced.pid" <<'END' &
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
pid = os.fork()
if pid == 0:
    while True:
        time.sleep(1)
libc.ptrace(0x4206, pid, None, None)
print(pid, flush=True)
time.sleep(20)
os.kill(pid, signal.SIGKILL)
END
remember $!
tracer=$!
eventually 10 test -s "$TMP/traced.pid" || fail "no traced process"
pid=$(cat "$TMP/traced.pid")
remember "$pid"
"$THAW" checkpoint -t "$pid" -D "$TMP/refused" >"$TMP/said.out" 2>"$TMP/said.err" && fail "a traced process is not refused"
grep -q "trace" "$TMP/said.err" || fail "traced: it says $(cat "$TMP/said.err")"
say "traced: $(cut -c 7- "$TMP/said.err")"
kill -KILL "$pid" $tracer

# A kernel thread, and ourselves
"$THAW" checkpoint -t 2 -D "$TMP/refused" >"$TMP/said.out" 2>"$TMP/said.err" && fail "kthreadd is not refused"
[ ! -e "$TMP/refused" ] || fail "the directory appeared"
exit 0
