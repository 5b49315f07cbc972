# SPDX-License-Identifier: LGPL-2.1-or-later
# contrib/demo/firstline.py - runs a command with its standard output copied into a file, and tells on the last line of its
# own output how many milliseconds the first line of output took to come.
#
#	python3 firstline.py FILE [--end] COMMAND ARG...     --end: SIGTERM to the command after its first line
import signal
import subprocess
import sys
import time


def main():
    path, command = sys.argv[1], sys.argv[2:]
    end = command[0] == "--end"
    if end:
        command = command[1:]
    started = time.monotonic()
    first = None
    with open(path, "wb") as out, subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as p:
        while True:
            data = p.stdout.read(65536)
            if not data:
                break
            if first is None:
                first = time.monotonic() - started
                if end:
                    p.send_signal(signal.SIGTERM)
            out.write(data)
        status = p.wait()
    print("%.1f" % (first * 1000 if first is not None else -1))
    if end:
        return 0 if first is not None and status in (143, -signal.SIGTERM) else 1
    return status


sys.exit(main())
