#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# contrib/demo/run.sh - the main job, shown: a python3 program with threads and several hundred MiB of live data is
# checkpointed in the middle of its work and restored post-copy. What it prints over both lives must be, byte for byte,
# what an uninterrupted run prints.
#
#	contrib/demo/run.sh [BUILDDIR]        DEMO_MIB=512, DEMO_REPEATS=5 and PYTHON may be set
#
# Ends with a verdict and 0, or with 1.
set -u -o pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd) || exit 1
. "$here/../bare.sh"
build=$(cd "${1:-.}" && pwd) || exit 1
thaw=$build/thaw
mib=${DEMO_MIB:-512}
repeats=${DEMO_REPEATS:-5}
if [ -z "${PYTHON:-}" ]; then
	PYTHON=/usr/bin/python3
	[ -x "$PYTHON" ] || PYTHON=python3
fi
job=
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/thaw-demo.XXXXXX") || exit 1

cleanup()
{
	[ -n "$job" ] && kill -KILL "$job" 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

die()
{
	echo
	echo "demo: FAILED: $*"
	exit 1
}

step()
{
	printf '\n== %s\n' "$*"
}

lines()
{
	wc -l <"$1"
}

# wait_for SECONDS COMMAND...
wait_for()
{
	local until=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$until" ] || return 1
		sleep 0.05
	done
}

has_lines()
{
	[ "$(lines "$1")" -ge "$2" ]
}

# The median of the numbers on standard input
median()
{
	sort -n | awk '{ v[NR] = $1 } END { printf "%.0f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

[ -x "$thaw" ] || die "$thaw: there is no program: build first (./configure && make), then $0 BUILDDIR"

step "The job, uninterrupted: $mib MiB of data in 4 threads"
"$PYTHON" "$here/job.py" "$mib" >"$tmp/whole.out" || die "the job itself does not run"
echo "$(lines "$tmp/whole.out") lines; the last: $(tail -n 1 "$tmp/whole.out")"

step "The job again, checkpointed in the middle of its work"
{
	bare "$PYTHON" "$here/job.py" "$mib" </dev/null &
	echo $! >"$tmp/job.pid"
	wait $!
} 2>/dev/null | cat >"$tmp/first.out" &
wait_for 10 test -s "$tmp/job.pid" || die "the job was not started"
job=$(cat "$tmp/job.pid")
wait_for 120 has_lines "$tmp/first.out" 400 || die "the job has not come to its middle"
echo "process $job: $(sed -n 's/^Threads:\t//p' "/proc/$job/status") threads," \
	"$(($(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$job/status") / 1024)) MiB of memory"
"$thaw" checkpoint -t "$job" -D "$tmp/image" || die "thaw checkpoint"
job=
wait
echo "It had printed $(lines "$tmp/first.out") of $(lines "$tmp/whole.out") lines, and is gone."
"$thaw" show -D "$tmp/image" || die "thaw show"

step "Restored post-copy: it runs at once, its memory arrives behind it"
first=$("$PYTHON" "$here/firstline.py" "$tmp/second.out" "$thaw" restore -D "$tmp/image" --progress always \
	--stats "$tmp/stats.json") || die "the restored job ended with status $?"
echo "Its first line came after $first ms. The statistics:"
"$PYTHON" - "$tmp/stats.json" <<'END'
import json, sys
s = json.load(open(sys.argv[1]))
print("  all %.0f MiB were in after %.0f ms: %d faults, half of them served within %.0f us, 99 %% within %.0f us"
      % (s["bytes_total"] / 2**20, s["arrival_ns"] / 1e6, s["faults"], s["latency_p50"] / 1e3, s["latency_p99"] / 1e3))
END
cat "$tmp/first.out" "$tmp/second.out" >"$tmp/both.out"
echo "$(lines "$tmp/first.out") lines before and $(lines "$tmp/second.out") after; the last: $(tail -n 1 "$tmp/both.out")"
cmp "$tmp/whole.out" "$tmp/both.out" || die "the restored job printed something else than the uninterrupted one"

step "Time to the first line from the same checkpoint, $repeats times each"
for _ in $(seq "$repeats"); do
	for how in eager post-copy; do
		args=()
		[ $how = eager ] && args=(--eager)
		ms=$("$PYTHON" "$here/firstline.py" "$tmp/line.out" --end "$thaw" restore -q -D "$tmp/image" "${args[@]}") ||
			die "$how restore"
		# Whatever it printed until it was ended is what the uninterrupted run printed there.
		cmp -s -n "$(wc -c <"$tmp/line.out")" "$tmp/line.out" "$tmp/second.out" || die "$how: the first lines differ"
		echo "$ms" >>"$tmp/$how.ms"
	done
done
eager=$(median <"$tmp/eager.ms")
lazy=$(median <"$tmp/post-copy.ms")
printf '  %-10s %6s ms (median; all: %s)\n' eager "$eager" "$(tr '\n' ' ' <"$tmp/eager.ms")"
printf '  %-10s %6s ms (median; all: %s)\n' post-copy "$lazy" "$(tr '\n' ' ' <"$tmp/post-copy.ms")"

echo
echo "demo: PASSED: output identical, $(lines "$tmp/whole.out") lines; first line after $lazy ms post-copy, $eager ms eagerly"
