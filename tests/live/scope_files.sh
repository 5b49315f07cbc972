#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/scope_files.sh - scope_files.c, checkpointed and restored
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/live/scope.inc"
requires_root
scope_table files
