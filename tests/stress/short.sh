#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/short.sh - some rounds of everything are clean (that the same seed is the same schedule, report.sh sees)
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"
stress short --seconds "${STRESS_SECONDS:-6}" --seed "${STRESS_SEED:-$RANDOM}" || fail "thaw-stress: status $?"
grep -qx clean "$TMP/short.log" || fail "it does not say that it was clean"
[ "$(sed -n 's/^read  *\([0-9]*\) .*/\1/p' "$TMP/short.log")" -gt 0 ] || fail "it has read nothing"
say "$(head -n 1 "$TMP/short.log")"
