#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/support/run.sh - the frame of every test: run.sh SECONDS PROGRAM ARG...
# A test that hangs is ended together with its process group. Descriptors that whoever called make has left open are closed: a
# process that inherits one end of a stranger's pipe is refused at checkpoint, rightly.
for fd in /proc/self/fd/*; do
	fd=${fd##*/}
	[ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
done
exec timeout -k 10 "$@"
