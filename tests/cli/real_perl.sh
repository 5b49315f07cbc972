#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/real_perl.sh - perl with hashes of strings
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires perl

cat >"$TMP/job.pl" <<'END'
use strict; use warnings;
$| = 1;
my (%h, $x);
$x = 12345;
sub next_number { $x = ($x * 1103515245 + 12345) % 2147483648; return $x }
for my $i (0 .. 199999) { $h{"key-$i"} = sprintf("%d-%s", next_number(), "v" x ($i % 100)) }
my $sum = 0;
for my $round (1 .. 200) {
	for (1 .. 2000) {
		my $k = "key-" . (next_number() % 200000);
		$sum = ($sum * 31 + length($h{$k}) + ord($h{$k})) % 1000000007;
		$h{$k} .= "." if length($h{$k}) < 120;
	}
	print "round $round: $sum\n";
}
my $all = 0;
for my $k (sort keys %h) { $all = ($all * 33 + unpack("%32C*", $k . $h{$k})) % 1000000007 }
print "all: $all of ", scalar(keys %h), "\n";
END
interrupted 40 perl "$TMP/job.pl"
