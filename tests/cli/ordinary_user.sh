#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/ordinary_user.sh - a user who may checkpoint and not restore is told before the process is ended; root takes it over
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires_root
requires setpriv
as_user() { setpriv --reuid nobody --regid nogroup --clear-groups --inh-caps=-all --no-new-privs "$@"; }
warned() { grep -c '^thaw: this user cannot restore process' "$TMP/said.err"; }

# Where this user may go: a program of ours to run, and a directory of its own.
OPEN=$(mktemp -d /tmp/thaw-user.XXXXXX) || exit 1
at_exit rm -rf "$OPEN"
chmod 755 "$OPEN"
cp "$THAW" "$OPEN/thaw"
chmod 755 "$OPEN/thaw"
mkdir "$OPEN/mine"
chown nobody "$OPEN/mine"
as_user "$OPEN/thaw" --version >/dev/null 2>&1 || skip "nobody cannot run a program below $OPEN"
(cd / && exec setsid setpriv --reuid nobody --regid nogroup --clear-groups sleep 1000) </dev/null >/dev/null 2>&1 &
pid=$!
disown "$pid" # bash would say that it was killed
remember "$pid"
is_sleep() { [ "$(cat /proc/$pid/comm)" = sleep ]; }
eventually 10 is_sleep || fail "no process"

as_user "$OPEN/thaw" checkpoint --leave-running -t "$pid" -D "$OPEN/mine/kept" >"$TMP/said.out" 2>"$TMP/said.err" ||
	skip "nobody cannot checkpoint here: $(cat "$TMP/said.err")"
[ ! -s "$TMP/said.err" ] || fail "a process that runs on: $(cat "$TMP/said.err")"
as_user "$OPEN/thaw" checkpoint -t "$pid" -D "$OPEN/mine/image" >"$TMP/said.out" 2>"$TMP/said.err" || fail "checkpoint"
[ "$(warned)" = 1 ] || fail "not one warning: $(cat "$TMP/said.err")"
say "$(cut -c 7- "$TMP/said.err")"
as_user "$OPEN/thaw" restore -d -D "$OPEN/mine/image" </dev/null >/dev/null 2>"$TMP/said.err" && fail "nobody can restore after all"
"$THAW" restore -d -D "$OPEN/mine/image" </dev/null >/dev/null 2>"$TMP/said.err" && fail "root restores what another user owns"

# As thaw-restore(1) says.
mv "$OPEN/mine/image" "$TMP/image"
chown -R root: "$TMP/image"
"$THAW" restore -d --pidfile "$TMP/pid" --stats "$TMP/stats" -D "$TMP/image" </dev/null >/dev/null 2>"$TMP/said.err" ||
	fail "root cannot restore it"
remember "$(cat "$TMP/pid")"
[ "$(cat "$TMP/pid")" = "$pid" ] && is_sleep || fail "another process was restored"
[ "$(stat -c %U "/proc/$pid")" = nobody ] || fail "it runs as $(stat -c %U "/proc/$pid")"

# Root is not warned. (A process whose memory is still arriving is refused.)
eventually 30 test -s "$TMP/stats" || fail "its memory does not arrive"
"$THAW" checkpoint -t "$pid" -D "$TMP/again" >"$TMP/said.out" 2>"$TMP/said.err" || fail "checkpoint by root"
[ "$(warned)" = 0 ] || fail "root is warned: $(cat "$TMP/said.err")"
