#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/scope_calls.sh - scope_calls.c, checkpointed and restored
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/live/scope.inc"
requires_root
scope_table calls
for item in ${THAW_TEST_ITEMS:-$("$SCOPE" list calls)}; do
	scope_running "$item"
done
