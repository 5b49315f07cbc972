#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/real_bash.sh - a shell loop in bash: builtins only while it is checkpointed, children afterwards
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root

cat >"$TMP/job.bash" <<'END'
declare -A map
for ((i = 0; i < 40000; i++)); do
	map[key$i]=$((i * 7919 % 100003)).$i
done
x=1 sum=0
for ((round = 1; round <= 200; round++)); do
	for ((n = 0; n < 400; n++)); do
		x=$(((x * 1103515245 + 12345) & 0x7fffffff))
		k=key$((x % 40000))
		sum=$(((sum * 31 + ${#map[$k]} + ${map[$k]%%.*}) % 1000003))
		map[$k]+=$((n % 10))
	done
	# Late enough to come after the checkpoint: children that inherit memory which may not be there yet.
	if ((round > 170)); then
		sum=$((($(for ((i = round; i < 40000; i += 97)); do echo "${map[key$i]}"; done | cksum | cut -d ' ' -f 1) + sum) % 1000003))
	fi
	echo "round $round: $sum"
done
for ((i = 0; i < 40000; i++)); do
	sum=$(((sum * 33 + ${#map[key$i]}) % 1000003))
done
trap 'echo "and its traps: $sum"' EXIT
END
interrupted 40 bash "$TMP/job.bash"
