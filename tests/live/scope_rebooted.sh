#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/scope_rebooted.sh - clocks that began anew with the machine went back, and what waited for them stood still without a word
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/live/scope.inc"
requires_root
requires python3
python3 -c pass 2>"$TMP/python.err" || skip "python3 does not run here: $(tail -n 1 "$TMP/python.err")"

dir=$TMP/heap
mkdir -m 777 "$dir"
spawn "$SCOPE" heap "$dir" </dev/null >"$dir/out" 2>"$dir/err"
disown "$SPAWNED"
eventually 20 test -e "$dir/ready" || fail "it did not get ready"
timeout 60 "$THAW" checkpoint -q -t "$SPAWNED" -D "$dir/image" || fail "thaw checkpoint ended with $?"
: >"$dir/go"

# said WHAT: what the restore says
said()
{
	timeout 60 "$THAW" restore --progress never --eager -D "$dir/image" </dev/null >"$TMP/said.out" 2>"$TMP/said.err" ||
		fail "$1: the restore ended with $?: $(cat "$TMP/said.err")"
	[ "$(cat "$dir/out")" = ok ] || fail "$1: it did not say ok"
	: >"$dir/out"
}

# A boot and its clocks, put behind the fields of the head: the last one of a kind counts.
patch_head()
{
	python3 - "$dir/image/thaw.img" "$1" "$2" <<'END'
import struct, sys, zlib
path, boot, ns = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])
image = open(path, "rb").read()
length = struct.unpack_from("<I", image, 8)[0]
head = image[16:16 + length] + b"\x42" + varint(len(boot)) + boot + b"\x58" + varint(ns) + b"\x60" + varint(ns)
with open(path, "wb") as f:
    f.write(image[:8] + struct.pack("<II", len(head), zlib.crc32(head)) + head + image[16 + length:])
END
}

said "the same boot"
! grep -q "go back" "$TMP/said.err" || fail "the same boot: $(cat "$TMP/said.err")"
up=$(cut -d . -f 1 /proc/uptime)
patch_head 00000000-1111-2222-3333-444444444444 $(((up + 7200) * 1000000000))
said "another boot"
grep -q "started again after the checkpoint: CLOCK_MONOTONIC and CLOCK_BOOTTIME go back by 1[12][0-9] min" "$TMP/said.err" ||
	fail "another boot: $(cat "$TMP/said.err")"
say "$(cut -c 7- "$TMP/said.err")"
patch_head 00000000-1111-2222-3333-444444444444 1000000000
said "another boot, up for longer"
! grep -q "go back" "$TMP/said.err" || fail "another boot, up for longer: $(cat "$TMP/said.err")"
