#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/peers/criu_programs.sh - redis-server with data, and python3, dumped by CRIU and restored lazily beside thaw lazy-pages:
# what they held is all there, and they go on working, a fork for a snapshot included
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/peers/criu.inc"
requires_criu
ways=("")
[ "$DAEMON" != "$THAW" ] || ways+=("--stay-lazy")

# ---- redis ----------------------------------------------------------------------------------------------------------
redis()
{
	timeout 60 redis-cli -s "$TMP/redis.sock" "$@"
}

answers() { [ "$(redis ping)" = PONG ]; }
saved() { redis info persistence | grep -q '^rdb_bgsave_in_progress:0'; }

if command -v redis-server >/dev/null && command -v redis-cli >/dev/null; then
	mkdir data
	spawn redis-server --port 0 --unixsocket "$TMP/redis.sock" --save "" --dir "$TMP/data" --enable-debug-command yes \
		</dev/null >/dev/null 2>&1 # a log would have grown when it is restored again
	pid=$SPAWNED
	disown "$pid"
	eventually 60 answers || fail "redis-server does not answer"
	[ "$(redis debug populate $((MIB * 1000)) key 500)" = OK ] || fail "redis-server takes no data"
	redis set proof before >/dev/null
	keys=$(redis dbsize)
	digest=$(redis debug digest)
	dump "$pid" img
	eventually 20 is_free "$pid" || fail "redis-server was not ended by its dump"
	for way in "${ways[@]}"; do
		rm -rf lazy data/dump.rdb
		cp -a img lazy
		# shellcheck disable=SC2086
		start_daemon lazy $way
		restore lazy
		eventually 60 answers || fail "redis-server $way: it does not answer"
		[ "$(redis get proof)" = before ] || fail "redis-server $way: a key"
		redis bgsave >/dev/null
		[ "$(redis dbsize)" = "$keys" ] || fail "redis-server $way: $(redis dbsize) keys instead of $keys"
		[ "$(redis debug digest)" = "$digest" ] || fail "redis-server $way: its data changed"
		redis set new value >/dev/null
		[ "$(redis get new)" = value ] || fail "redis-server $way: it does not take a new key"
		eventually 60 saved || fail "redis-server $way: the snapshot does not end"
		redis info persistence | grep -q '^rdb_last_bgsave_status:ok' || fail "redis-server $way: the snapshot failed"
		[ -s data/dump.rdb ] || fail "redis-server $way: no snapshot"
		[ -n "$way" ] || end_daemon "redis-server"
		redis shutdown nosave >/dev/null 2>&1
		eventually 20 is_free "$pid" || fail "redis-server $way: it does not end"
		[ -z "$way" ] || end_daemon "redis-server $way"
	done
	rm -rf img lazy
	say "redis-server: $keys keys"
else
	say "redis-server is not installed: not tried"
fi

# ---- python ---------------------------------------------------------------------------------------------------------
requires python3
cat >job.py <<'END'
import hashlib, os, sys, time
size, work = int(sys.argv[1]), sys.argv[2]
table = {i: ("%d:" % i) * 20 for i in range(size * 2000)}
blob = bytearray(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(size * 8000)))
def digest():
    h = hashlib.sha256(blob)
    for i in table:
        h.update(table[i].encode())
    return h.hexdigest()
before = digest()
open(work + "/ready", "w").close()
while not os.path.exists(work + "/go"):
    time.sleep(0.01)
pid = os.fork()
if pid == 0:
    os._exit(0 if digest() == before else 1)
table[-1] = "new"
del table[-1]
print("ok" if digest() == before and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else "wrong", flush=True)
END
mkdir work
spawn python3 job.py $((MIB / 2)) "$TMP/work" </dev/null >work/out 2>work/err
SUBJECT_PID=$SPAWNED
disown "$SUBJECT_PID"
eventually 100 test -e work/ready || fail "python3 does not get ready: $(cat work/err)"
dump "$SUBJECT_PID" img
eventually 20 is_free "$SUBJECT_PID" || fail "python3 was not ended by its dump"
for way in "${ways[@]}"; do
	rm -rf lazy work/go
	: >work/out
	cp -a img lazy
	# shellcheck disable=SC2086
	start_daemon lazy $way
	restore lazy
	go "python3 $way"
	end_daemon "python3 $way"
done
say "python3"
