#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/chroot.sh - a process in a root of its own
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires chroot ldd gawk

root=$TMP/root
mkdir -p "$root/tmp" "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3 || skip "cannot make a device node here"
gawk=$(readlink -f "$(command -v gawk)")
copy() { mkdir -p "$root$(dirname "$1")" && cp "$(readlink -f "$1")" "$root$1"; }
copy "$gawk"
for lib in $(ldd "$gawk" | grep -o '/[^ )]*'); do
	copy "$lib"
done
cat >"$root/tmp/job.awk" <<'END'
BEGIN {
	for (i = 0; i < 200000; i++)
		a[i] = i ":" substr("abcdefghijklmnopqrstuvwxyz", 1 + i % 26)
	for (r = 1; r <= 1000; r++) {
		for (n = 0; n < 3000; n++)
			s = (s * 31 + length(a[(s + n * 71) % 200000])) % 1000003
		print "round", r, s
		print "round", r, s >"/tmp/written"
		fflush()
	}
	close("/tmp/written")
	while ((getline line <"/tmp/written") > 0)
		lines++
	print "lines", lines
}
END
run_whole "$TMP/whole.out" chroot "$root" "$gawk" -f /tmp/job.awk
run_piped "$TMP/first.out" chroot "$root" "$gawk" -f /tmp/job.awk
eventually "$LIMIT" has_lines "$TMP/first.out" 40 || fail "it has not printed 40 lines"
checkpoint_piped
cp "$root/tmp/written" "$TMP/written"
# shellcheck disable=SC2317
before_restore() { cat "$TMP/written" >"$root/tmp/written"; }
each_way "$TMP/whole.out" "$TMP/first.out"
