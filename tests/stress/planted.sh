#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/planted.sh - a violation of each class that was planted is found, named, written down, made shorter, and found again
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"

# named OPERATION: the page is, and what the thread did before
named()
{
	local op=$1
	grep -q '^  page  *0x[0-9a-f]*000 ' "$TMP/$op.log" || fail "$op: no page is named"
	# mostly a page is only looked at, by whoever comes first: reads are among what led to it, too, and lie before it
	sed -n '/^  operations that led to it/,/^  [a-z]/p' "$TMP/$op.log" | grep -Eq "^ +[0-9]+\.[0-9]{3} +[0-9]+ (read|write|$op) +(page |[0-9]+ pages, from )?0x[0-9a-f]*000" ||
		fail "$op: no operation that led to it"
}

# planted OPERATION CLASS
planted()
{
	local op=$1 class=$2 before after file status
	case ${THAW_TEST_BRIEF:+$op} in plant-zero | plant-torn | plant-failed | plant-unfinished) return ;; esac
	stress "$op" --ops "read,write,pause,$op" --seconds 30 --processes 2 --threads 1 --size 2M --seed 3
	status=$?
	[ $status = 1 ] || fail "$op: status $status instead of 1"
	grep -qx "VIOLATION: $class" "$TMP/$op.log" || fail "$op: $(grep VIOLATION "$TMP/$op.log") instead of $class"
	[ "$class" = "never finished" ] || named "$op"
	grep -q '^  expected  *[a-z]' "$TMP/$op.log" || fail "$op: nothing is said to be expected"
	grep -q '^  found  *[a-zA-Z]' "$TMP/$op.log" || fail "$op: nothing is said to be found"
	file=$(ls thaw-stress.3.*.replay) || fail "$op: no replay file"
	read -r before after < <(sed -n 's/^  shrunk  *from \([0-9]*\) to \([0-9]*\) operations.*/\1 \2/p' "$TMP/$op.log")
	[ -n "${after:-}" ] && [ "$after" -lt "$before" ] || fail "$op: not shrunk: $(grep '^  shrunk' "$TMP/$op.log")"
	[ "$(grep -c '^op ' "$file")" = "$after" ] || fail "$op: the replay file does not hold the $after operations"
	stress "$op.replay" --replay "$file"
	status=$?
	[ $status = 1 ] || fail "$op: the replay file does not fail again"
	grep -qx "VIOLATION: $class" "$TMP/$op.replay.log" || fail "$op: replayed, it is $(grep VIOLATION "$TMP/$op.replay.log")"
	rm "$file"
	say "$op: $class, from $before to $after operations"
}

planted plant-stale "stale after discard"
planted plant-zero "lost zero"
planted plant-wrong "wrong page"
planted plant-torn "torn"
planted plant-failed "failed access"
planted plant-lost "lost fault"
planted plant-unfinished "never finished"

# No class is left out.
sed -n '/^const char \*const thaw_stress_classes/,/^}/p' "$THAW_SRCDIR/src/stress/verdict.c" | grep -o '"[a-z ]*"' | tr -d '"' | grep -vx none | sort >"$TMP/classes"
sed -n 's/^planted [a-z-]* "\(.*\)"$/\1/p' "$THAW_SRCDIR/tests/stress/planted.sh" | sort >"$TMP/planted"
diff "$TMP/classes" "$TMP/planted" >"$TMP/diff.log" || fail "the classes of violations (<) and those that are planted here (>) differ"
