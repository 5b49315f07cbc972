#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/generations.sh - a restored process is checkpointed again, over and over; while its memory is still arriving it is refused by name
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires perl

cat >"$TMP/job.pl" <<'END'
use strict; use warnings;
$| = 1;
my @page = map { pack("N", $_) x 1024 } 0 .. 11999;
my ($x, $sum) = (1, 0);
for my $round (1 .. 500) {
	for (1 .. 40) {
		$x = ($x * 1103515245 + 12345) % 2147483648;
		my $i = $x % 12000;
		$sum = ($sum * 31 + unpack("%32N*", $page[$i])) % 1000000007;
		substr($page[$i], ($x % 1000) * 4, 4) = pack("N", $sum);
	}
	print "round $round: $sum\n";
	select(undef, undef, undef, 0.01);
}
my $all = 0;
$all = ($all * 33 + unpack("%32N*", $_)) % 1000000007 for @page;
print "all: $all\n";
END
run_whole "$TMP/whole.out" perl "$TMP/job.pl"
run_piped "$TMP/0.out" perl "$TMP/job.pl"
eventually 60 has_lines "$TMP/0.out" 10 || fail "the job does not start"
checkpoint_piped
pid=$PIPED

generation=0
cp "$TMP/0.out" "$TMP/both"
for args in "" "--eager" "--background-delay 1500" "--copiers 2" "--eager" ""; do
	generation=$((generation + 1))
	mv "$IMAGE" "$TMP/image.$generation"
	# shellcheck disable=SC2086
	"$THAW" restore $args --stats "$TMP/stats.$generation" -D "$TMP/image.$generation" </dev/null 2>"$TMP/restore.err" |
		cat >"$TMP/$generation.out" &
	pipeline=$!
	eventually 20 has_lines "$TMP/$generation.out" $((generation % 2 * 10 + 1)) || fail "generation $generation does not print"
	remember "$pid"
	if [ "${args#--background}" != "$args" ] && "$THAW" checkpoint -t "$pid" -D "$IMAGE" >"$TMP/said.log" 2>&1; then
		fail "checkpointed while its memory was still arriving"
	fi
	eventually 30 test -s "$TMP/stats.$generation" || fail "generation $generation: its memory does not arrive"
	checkpoint "$pid"
	wait $pipeline
	[ $? = 137 ] || fail "generation $generation: thaw restore did not end as killed"
	cat "$TMP/$generation.out" >>"$TMP/both"
	rm -rf "$TMP/image.$generation"
	say "generation $generation ($args): $(wc -l <"$TMP/$generation.out") lines"
done
restore_piped "$TMP/last.out" || fail "the last generation ended with $?"
cat "$TMP/last.out" >>"$TMP/both"
cmp "$TMP/whole.out" "$TMP/both" || fail "it printed something else than the uninterrupted run"
say "$((generation + 1)) restores, output identical"
