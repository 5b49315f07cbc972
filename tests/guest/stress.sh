#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/guest/stress.sh - thaw-stress on the guest's kernel: a minute, or ten in the long form; every byte is checked
program=${THAW_BUILDDIR:-.}/thaw-stress
[ -x "$program" ] || { echo "stress: SKIPPED: thaw-stress is not built"; exit 77; }
seconds=60
[ "${GUEST_FORM:-short}" = short ] || seconds=600
seed=${STRESS_SEED:-$RANDOM}
# A minute of emulation has few rounds: the source under which a copy's own race shows is among them for certain.
"$program" --seconds $((seconds / 4)) --seed "$seed" --source resident &&
	"$program" --seconds $((seconds - seconds / 4)) --seed "$seed"
status=$?
echo "stress: seed $seed: status $status"
[ $status != 77 ] || echo "stress: SKIPPED: thaw-stress says that it is not possible here"
exit $status
