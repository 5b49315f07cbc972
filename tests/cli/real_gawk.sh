#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/real_gawk.sh - gawk with an associative array
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires gawk

cat >"$TMP/job.awk" <<'END'
BEGIN {
	srand(42)
	for (i = 0; i < 300000; i++)
		a[i] = sprintf("%d:%s", int(rand() * 1000000), substr("abcdefghijklmnopqrstuvwxyz", 1 + i % 26))
	for (r = 1; r <= 200; r++) {
		for (n = 0; n < 3000; n++) {
			k = int(rand() * 300000)
			s = (s * 31 + length(a[k]) + substr(a[k], 1, 4)) % 1000003
			a[k] = a[k] (n % 10)
		}
		print "round", r, s
		fflush()
	}
	for (i = 0; i < 300000; i++)
		s = (s * 33 + length(a[i]) + substr(a[i], 1, 5)) % 1000003
	print "all", s
}
END
interrupted 40 gawk -f "$TMP/job.awk"
