#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/real_sqlite.sh - sqlite3 while it fills a database
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires sqlite3

# Deterministic: no random(), so that the dump of the database can be compared.
cat >"$TMP/fill.sql" <<'END'
PRAGMA journal_mode = DELETE;
PRAGMA cache_size = 20000;
CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);
CREATE INDEX t_a ON t (a);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
INSERT INTO t SELECT i, (i * 7919) % 1000003, printf('row %d of many, %s', i, hex(i * i)) FROM n;
COMMIT;
SELECT count(*), sum(a), sum(length(b)) FROM t;
PRAGMA integrity_check;
END
dump_of() { sqlite3 "$1" .dump | sha1sum; }

mkdir "$TMP/db"
sqlite3 "$TMP/whole.db" <"$TMP/fill.sql" >"$TMP/whole.out" || fail "sqlite3 itself"
whole=$(dump_of "$TMP/whole.db")

cd "$TMP/db" || exit 1
{
	bare setsid sqlite3 "$TMP/db/job.db" <"$TMP/fill.sql" 2>>"$TMP/program.err" &
	echo $! >"$TMP/pid"
	wait $!
} 2>/dev/null | cat >"$TMP/first.out" &
pipeline=$!
eventually 10 test -s "$TMP/pid" || fail "sqlite3 was not started"
pid=$(cat "$TMP/pid")
remember "$pid"
# In the middle of its transaction: the journal is there.
is_in_the_middle() { [ -e "$TMP/db/job.db-journal" ]; }
eventually "$LIMIT" is_in_the_middle || fail "sqlite3 has begun no transaction"
sleep 0.3
checkpoint "$pid"
wait "$pipeline"
is_gone "$pid" || fail "sqlite3 is still there after its checkpoint"
[ -e "$TMP/db/job.db-journal" ] || fail "it was not in the middle: more work, please"
cp -a "$TMP/db" "$TMP/at-checkpoint"

# The same files (inodes) with the content they had.
# shellcheck disable=SC2317
before_restore()
{
	local name
	for name in job.db job.db-journal; do
		[ -e "$TMP/db/$name" ] || ln "$TMP/keep-$name" "$TMP/db/$name"
		cat "$TMP/at-checkpoint/$name" >"$TMP/db/$name"
	done
}
for name in job.db job.db-journal; do
	ln "$TMP/db/$name" "$TMP/keep-$name"
done
# shellcheck disable=SC2317
after_restore()
{
	[ "$(sqlite3 "$TMP/db/job.db" 'PRAGMA integrity_check')" = ok ] || fail "$1: the database is not whole"
	[ "$(dump_of "$TMP/db/job.db")" = "$whole" ] || fail "$1: the database holds something else"
}
each_way "$TMP/whole.out" "$TMP/first.out"
