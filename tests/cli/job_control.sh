#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/job_control.sh - a job of a shell on a terminal, restored in the foreground: stopped, continued, ended from the keyboard
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON" pgrep

# The terminal is a pseudo terminal whose other side is drive.py: an interactive bash runs the job, then thaw.
cat >"$TMP/job.py" <<'END'
import signal, sys, time
data = bytearray(range(256)) * 40000
n = 0
def interrupted(*args):
    print("interrupted at", n, flush=True)
    sys.exit(7)
signal.signal(signal.SIGINT, interrupted)
while n < 100000:
    n += 1
    print("tick", n, sum(data[n * 64:n * 64 + 256]), flush=True)
    time.sleep(0.02)
END
cat >"$TMP/drive.py" <<'END'
import os, pty, re, select, subprocess, sys, time
thaw, python, tmp = os.environ["THAW"], sys.argv[1], os.environ["TMP"]
pid, tty = pty.fork()
if pid == 0:
    os.environ.update(PS1="ready$ ", TERM="xterm", HISTFILE="")
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
log = open(tmp + "/terminal.log", "wb")
seen = b""
def read(seconds):
    global seen
    if select.select([tty], [], [], seconds)[0]:
        try:
            data = os.read(tty, 65536)
        except OSError:
            data = b""
        log.write(data)
        log.flush()
        seen += data
def give_up(what):
    print("FAILED:", what, "; the terminal shows: %r" % seen[-600:])
    os.kill(pid, 9)
    sys.exit(1)
def expect(pattern, what, seconds=20):
    global seen
    end = time.time() + seconds
    while True:
        m = re.search(pattern, seen)
        if m:
            seen = seen[m.end():]
            return m
        if time.time() > end:
            give_up("waited in vain for " + what)
        read(0.2)
def send(text):
    os.write(tty, text.encode())
def is_quiet():
    global seen
    seen = b""
    end = time.time() + 0.4
    while time.time() < end:
        read(0.05)
    return not re.search(rb"tick \d+", seen)

expect(rb"ready\$ ", "a prompt")
send("%s %s/job.py\n" % (python, tmp))
expect(rb"tick 20 ", "the job")
job = int(subprocess.check_output(["pgrep", "-f", "-P", str(pid), "job.py"]))
subprocess.check_call([thaw, "checkpoint", "-q", "-t", str(job), "-D", tmp + "/image"])
expect(rb"ready\$ ", "a prompt after the checkpoint")
for how in sys.argv[2:]:
    seen = b""
    send("%s restore -D %s/image %s\n" % (thaw, tmp, "" if how == "lazy" else "--" + how))
    m = expect(rb"tick (\d+) ", "the restored job")
    if not 20 <= int(m[1]) < 200:
        give_up("it went on at %s" % m[1])
    send("\x1a")
    expect(rb"Stopped", "bash to see it stopped")
    expect(rb"ready\$ ", "a prompt while it is stopped")
    if not is_quiet():
        give_up("a stopped job prints")
    send("fg\n")
    expect(rb"tick (\d+) ", "the continued job")
    expect(rb"tick (\d+) ", "the continued job, again")
    send("\x1a")
    expect(rb"Stopped", "bash to see it stopped again")
    send("bg\n")
    expect(rb"tick (\d+) ", "the job in the background")
    send("fg\n")
    expect(rb"tick (\d+) ", "the job in the foreground")
    time.sleep(0.3)
    seen = b""
    expect(rb"tick (\d+) ", "the job in the foreground, still")
    send("\x03")
    expect(rb"interrupted at \d+", "the job's own end")
    expect(rb"ready\$ ", "a prompt at the end")
    send("echo its status $?\n")
    m = expect(rb"its status (\d+)", "the status")
    if int(m[1]) != 7:
        give_up("status %s instead of 7" % m[1].decode())
    print(how, "ok", flush=True)
# Bug: ^Z did nothing to a process that leads a session of its own, whose group the kernel does not stop.
expect(rb"ready\$ ", "a prompt before the leader")
send("setsid %s %s/job.py\n" % (python, tmp))
expect(rb"tick 20 ", "the leader")
job = int(subprocess.check_output(["pgrep", "-n", "-f", python + " " + tmp + "/job.py"]))
if os.getsid(job) != job:
    give_up("the job is no session leader")
subprocess.check_call([thaw, "checkpoint", "-q", "-t", str(job), "-D", tmp + "/leader"])
while not is_quiet(): # what it had printed before
    pass
send("%s restore -D %s/leader\n" % (thaw, tmp))
expect(rb"tick (\d+) ", "the restored leader")
for i in range(2):
    send("\x1a")
    expect(rb"Stopped", "bash to see the leader stopped")
    expect(rb"ready\$ ", "a prompt while the leader is stopped")
    if not is_quiet():
        give_up("a stopped leader prints")
    send("fg\n")
    expect(rb"tick (\d+) ", "the continued leader")
    expect(rb"tick (\d+) ", "the continued leader, again")
send("\x03")
expect(rb"interrupted at \d+", "the leader's own end")
expect(rb"ready\$ ", "a prompt behind the leader")
print("session leader ok", flush=True)
send("exit\n")
os.waitpid(pid, 0)
END
(bare timeout "$LIMIT" "$PYTHON" "$TMP/drive.py" "$PYTHON" eager lazy stay-lazy) >"$TMP/drive.log" 2>&1 || fail "on the terminal"
cat "$TMP/drive.log"
