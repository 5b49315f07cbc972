#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/real_xz.sh - xz between two files: offsets, and the result byte for byte
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires xz "$PYTHON"

python - "$TMP/in" <<'END'
import random, sys
rng = random.Random(5)
words = [rng.randbytes(rng.randrange(3, 12)) for _ in range(5000)]
with open(sys.argv[1], "wb") as f:
    for _ in range(5):
        f.write(b" ".join(rng.choice(words) for _ in range(60000)))
END
xz -6 -T1 -c <"$TMP/in" >"$TMP/whole.xz" || fail "xz itself"

# A file in, a file out: both with an offset of their own in the middle.
bare setsid xz -6 -T1 -c <"$TMP/in" >"$TMP/out.xz" 2>>"$TMP/program.err" &
pid=$!
remember $pid
is_in_the_middle() { [ "$(stat -c %s "$TMP/out.xz")" -gt $(($(stat -c %s "$TMP/whole.xz") / 4)) ]; }
eventually "$LIMIT" is_in_the_middle || fail "xz has written nothing"
checkpoint $pid
wait $pid
is_gone $pid || fail "xz is still there after its checkpoint"
cp "$TMP/out.xz" "$TMP/at-checkpoint.xz"
cmp -s "$TMP/out.xz" "$TMP/whole.xz" && fail "it was not in the middle: more work, please"

# shellcheck disable=SC2317
before_restore() { cat "$TMP/at-checkpoint.xz" >"$TMP/out.xz"; }
# shellcheck disable=SC2317
after_restore()
{
	cmp "$TMP/out.xz" "$TMP/whole.xz" || fail "$1: the compressed file differs"
	xz -dc "$TMP/out.xz" | cmp - "$TMP/in" || fail "$1: it unpacks to something else"
}
: >"$TMP/nothing"
each_way "$TMP/nothing" "$TMP/nothing"
