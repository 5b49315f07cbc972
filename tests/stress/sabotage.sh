#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/sabotage.sh [NAME...] - each rule of the protocol that is broken on purpose shows, within a minute
# Without names: all that the library knows. A rule gets the workload that needs it most; a seed that does not find it is followed by another.
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"
is_debug_build || skip "not a debug build: no rule can be broken"
SECONDS_EACH=45 # and 15 to make the schedule shorter

# options NAME: what shows it soonest
options()
{
	local small="--processes 1 --size 4M" ahead="--source resident --background run --copiers 4"
	case $1 in
	read-outside-x | update-after-x | no-gate | record-outside-s)
		echo "$small --threads 2 $ahead --ops dontneed,remap-move,remap-rotate,read,write,remap-fixed"
		;;
	stale-retry) echo "--processes 1 --size 16M --threads 4 $ahead --chunk 64K --ops dontneed,read" ;;
	faults-before-events) echo "$small --threads 4 --source resident --ops dontneed-read,dontneed,read,remap-move" ;;
	events-reversed | unmap-not-paired)
		echo "--processes 1 --size 1M --threads 1 --source resident --background lazy --ops remap-takeover"
		;;
	eagain-forgotten) echo "$small --threads 4 --source resident --ops dontneed,remap-move,read,write" ;;
	wake-forgotten) echo "--processes 1 --threads 4 --size 16M --source slow --background run --copiers 4 --ops read,read-order" ;;
	enoent-not-bisected) echo "$small --threads 2 $ahead --ops protect,read,unmap,write" ;;
	# a copy that is cut short needs two that meet; or a kernel call that was told to
	placed-as-asked) echo "$small --threads 2 $ahead --ops read,read-order,write --inject uffd.copy:short:1/4" ;;
	short-read-whole | zero-instead-of-waiting) echo "$small --source cold --ops read,read-order,write" ;;
	zero-runs-on) echo "$small --source resident --background lazy --ops read-order,read" ;;
	fork-*) echo "$small --source resident --background run --ops fork,dontneed,read,write,fork-exec" ;;
	wipeonfork-ignored) echo "$small --source resident --ops wipeonfork,fork,read,write" ;;
	remove-ignored) echo "$small --background lazy --source resident --ops dontneed,read" ;;
	unmap-ignored) echo "$small --background lazy --source resident --ops unmap,remap-grow,remap-shrink,read" ;;
	remap-ignored | remap-copies) echo "$small --background lazy --source resident --ops remap-dontunmap,remap-move,read" ;;
	remap-tail-unknown) echo "$small --source resident --ops remap-grow,dontneed,read" ;;
	finish-early) echo "--processes 2 --threads 1 --size 1M --source failing --background run --ops read,write" ;;
	length-32) echo "$small --background lazy --source resident --ops big-dontneed,big-read,big-remap" ;;
	unregister-part) echo "$small --source resident --ops dontneed,remap-move,remap-grow-move,read" ;;
	*) echo "" ;;
	esac
}

# hunt NAME: until it is found or the minute is over
hunt()
{
	local name=$1 began=$SECONDS try=0 status word
	mkdir "$TMP/$name" && cd "$TMP/$name" || exit 1
	while :; do
		try=$((try + 1))
		# shellcheck disable=SC2046 # several options
		"$STRESS" --sabotage "$name" --seconds 2 --seed "$RANDOM" $(options "$name") >"$TMP/$name.out" 2>&1 </dev/null
		status=$?
		case $status in
		0) [ $((SECONDS - began)) -ge $SECONDS_EACH ] || continue; word="not found" ;;
		1) # it may have spent 15 seconds on making the schedule shorter
			word=$(sed -n 's/^VIOLATION: //p' "$TMP/$name.out")
			[ $((SECONDS - began)) -le $((SECONDS_EACH + 15)) ] || status=0 word="found too late"
			;;
		77) word="skipped" ;;
		*) word="status $status" ;;
		esac
		break
	done
	echo "$status $name: $word, $((SECONDS - began)) s, $try seeds" >"$TMP/$name.result"
}

names=("$@")
[ $# != 0 ] || mapfile -t names < <("$STRESS" --sabotage list | cut -d ' ' -f 1)
[ ${#names[@]} != 0 ] || fail "the library knows no rule"
if [ $# = 0 ] && [ -n "${THAW_TEST_BRIEF:-}" ]; then # every third, each time others
	first=$((RANDOM % 3))
	for i in "${!names[@]}"; do
		[ $(((i + first) % 3)) = 0 ] || unset "names[i]"
	done
fi
for name in "${names[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
		wait -n
	done
	hunt "$name" &
done
wait
for name in "${names[@]}"; do
	read -r status words <"$TMP/$name.result" || fail "$name: no result"
	say "$words"
	[ "$status" != 77 ] || skip "$(grep 'not possible here' "$TMP/$name.out")"
	[ "$status" = 1 ] || fail "$words"
done
