#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/peers/criu_local.sh - dumped by CRIU, restored by `criu restore --lazy-pages` beside `thaw lazy-pages` from local images:
# one process, threads, a tree with a zombie; memory that arrives by faults alone, behind the process, and both at once
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/peers/criu.inc"
requires_criu
own() { [ "$DAEMON" = "$THAW" ]; }

for mode in ${THAW_TEST_MODES:-single threads tree}; do
	start_subject "$mode"
	dump "$SUBJECT_PID" img
	eventually 20 is_free "$SUBJECT_PID" || fail "$mode: it was not ended by its dump"

	# while it checks, the rest arrives
	cp -a img both
	start_daemon both
	restore both
	go "$mode, both at once"
	end_daemon "$mode, both at once"

	# an emulated machine has no time for every way of every subject
	if [ -n "${THAW_TEST_BRIEF:-}" ] && [ "$mode" != tree ]; then
		rm -rf img both
		say "$mode"
		continue
	fi

	# everything arrives before it looks
	rm -rf work/go work/out
	: >work/out
	cp -a img behind
	start_daemon behind
	restore behind
	end_daemon "$mode, behind it"
	go "$mode, behind it"

	if own; then
		rm -rf work/go
		: >work/out
		cp -a img faults
		start_daemon faults --stay-lazy
		restore faults
		go "$mode, by faults alone"
		end_daemon "$mode, by faults alone"
	fi
	if own && [ -z "${THAW_TEST_BRIEF:-}" ]; then
		rm -rf work/go
		: >work/out
		cp -a img delayed
		start_daemon delayed --background-delay 500
		restore delayed
		go "$mode, delayed"
		end_daemon "$mode, delayed"
	fi
	rm -rf img both behind faults delayed
	say "$mode"
done
