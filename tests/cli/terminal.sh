#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/terminal.sh - a program in raw mode moves from one terminal to another, which gets its own modes back at the end
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires_root
PYTHON=/usr/bin/python3
requires $PYTHON

cat >"$TMP/keys.py" <<'END'
import os, sys, termios, tty
# 0, 1, 2 are the terminal; so is this, opened on its own, as editors and shells do
own = os.open("/dev/tty", os.O_RDWR)
os.dup2(own, 200)
old = termios.tcgetattr(0)
tty.setcbreak(0)
print("ready", flush=True)
while True:
    key = os.read(0, 1)
    if key == b"q":
        break
    os.write(1, b"<" + key + b">")
    os.write(200, b"[" + key + b"]")
print("bye", flush=True)
sys.exit(7)
END

cat >"$TMP/drive.py" <<'END'
import os, pty, select, subprocess, sys, termios, time
thaw, tmp = os.environ["THAW"], os.environ["TMP"]

def start(argv):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(argv[0], argv)
    return pid, fd

def until(fd, text):
    got, end = b"", time.time() + 30
    while text not in got:
        if time.time() > end or not select.select([fd], [], [], 30)[0]:
            sys.exit("no %r in %r" % (text, got))
        try:
            got += os.read(fd, 4096)
        except OSError:
            sys.exit("the terminal ended after %r, without %r" % (got, text))
    return got

def is_raw(fd):
    return not termios.tcgetattr(fd)[3] & termios.ICANON

pid, fd = start([sys.executable, tmp + "/keys.py"])
until(fd, b"ready")
os.write(fd, b"a")
until(fd, b"[a]")
log = open(tmp + "/checkpoint.log", "w")
if subprocess.call([thaw, "checkpoint", "-t", str(pid), "-D", tmp + "/image"], stdin=subprocess.DEVNULL, stdout=log, stderr=log):
    sys.exit("thaw checkpoint failed")
os.waitpid(pid, 0)
os.close(fd)
for way in ["--eager"], [], ["--stay-lazy"]:
    pid, fd = start([thaw, "restore", "-q", "-D", tmp + "/image"] + way)
    if is_raw(fd):
        sys.exit("a new terminal is in raw mode")
    end = time.time() + 30
    while not is_raw(fd):
        if time.time() > end:
            sys.exit("%r: the terminal did not become raw" % way)
        time.sleep(0.01)
    os.write(fd, b"b")
    got = until(fd, b"[b]")
    if b"<b>" not in got:
        sys.exit("%r: it said %r" % (way, got))
    os.write(fd, b"q")
    until(fd, b"bye")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 7:
        sys.exit("%r: ended with %d" % (way, status))
    if is_raw(fd):
        sys.exit("%r: the terminal stayed in raw mode" % way)
    os.close(fd)
END
timeout 200 $PYTHON "$TMP/drive.py" 2>"$TMP/drive.err" || fail "$(cat "$TMP/drive.err")"
say "a program in raw mode, on another terminal: eager lazy stay-lazy"
