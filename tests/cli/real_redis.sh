#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/real_redis.sh - redis-server with data: listening sockets, epoll, background threads; every key read back
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
# 1 GiB of values; 128 MiB in a brief run, or where there is not memory for it and its restored copy.
requires_root
requires redis-server redis-cli "$PYTHON"

mib=1024
[ -z "${THAW_TEST_BRIEF:-}" ] && [ "$(awk '$1 == "MemAvailable:" { print int($2 / 1048576) }' /proc/meminfo)" -ge 5 ] || mib=128
value=4096
keys=$((mib * 1024 * 1024 / value))
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cli() { timeout 20 redis-cli -h 127.0.0.1 -p "$port" "$@"; }

# client.py fill|check PORT FIRST LAST SIZE: each value is a function of its key
cat >"$TMP/client.py" <<'END'
import hashlib, socket, sys
what, port, first, last, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
def content(i):
    return (hashlib.sha512(b"%d" % i).digest() * (size // 64))[:size]
s = socket.create_connection(("127.0.0.1", port), timeout=60)
f = s.makefile("rwb", buffering=1 << 20)
for base in range(first, last, 500):
    chunk = range(base, min(base + 500, last))
    for i in chunk:
        k = b"key:%d" % i
        if what == "fill":
            f.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(k), k, size, content(i)))
        else:
            f.write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(k), k))
    f.flush()
    for i in chunk:
        line = f.readline()
        if what == "fill":
            assert line == b"+OK\r\n", line
        else:
            assert line == b"$%d\r\n" % size, (i, line)
            got = f.read(size + 2)
            assert got == content(i) + b"\r\n", "key %d has another value" % i
print(last - first)
END

cat >"$TMP/redis.conf" <<END
bind 127.0.0.1
port $port
unixsocket $TMP/redis.sock
save ""
appendonly no
dir $TMP
daemonize no
logfile $TMP/redis-server.log
lazyfree-lazy-user-del yes
END
spawn redis-server "$TMP/redis.conf"
pid=$SPAWNED
eventually 10 cli ping || fail "redis-server does not answer"
python "$TMP/client.py" fill "$port" 0 "$keys" "$value" >"$TMP/fill.log" 2>&1 || fail "filling redis-server"
cli set counter 41 >"$TMP/cli.log"
used=$(cli info memory | sed -n 's/^used_memory:\([0-9]*\).*/\1/p')
say "$keys keys, $((used / 1048576)) MiB in redis-server"
sleep 0.5 # its last connection is closed in its event loop
checkpoint "$pid"
wait "$pid" 2>/dev/null
is_gone "$pid" || fail "redis-server is still there after its checkpoint"
cli ping >/dev/null 2>&1 && fail "something still answers on its port"

cp "$TMP/redis-server.log" "$TMP/redis-server.at"
# The time until it runs shall not be that of an init that takes its time to reap the one before.
is_reaped() { [ ! -e "/proc/$pid" ]; }
for mode in eager lazy stay-lazy; do
	eventually 5 is_reaped
	rm -f "$TMP/stats.json"
	cat "$TMP/redis-server.at" >"$TMP/redis-server.log"
	# shellcheck disable=SC2046
	timeout "$LIMIT" "$THAW" restore -d -D "$IMAGE" --pidfile "$TMP/redis.pid" --stats "$TMP/stats.json" \
		$(mode_args $mode) </dev/null >"$TMP/restore.log" 2>&1 || fail "$mode: thaw restore -d ended with $?"
	new=$(cat "$TMP/redis.pid")
	remember "$new"
	[ "$new" = "$pid" ] || fail "$mode: its pid is $new instead of $pid"
	[ "$(cli ping)" = PONG ] || fail "$mode: redis-server does not answer"
	[ "$(timeout 20 redis-cli -s "$TMP/redis.sock" incr counter)" = 42 ] || fail "$mode: the counter went wrong"
	timeout "$LIMIT" "$PYTHON" "$TMP/client.py" check "$port" 0 "$keys" "$value" >"$TMP/check.log" 2>&1 ||
		fail "$mode: reading every key"
	timeout "$LIMIT" "$PYTHON" "$TMP/client.py" fill "$port" 0 1000 "$value" >"$TMP/fill.log" 2>&1 ||
		fail "$mode: writing keys"
	cli del key:1 key:2 >/dev/null
	cli shutdown nosave >/dev/null 2>&1
	eventually 10 is_gone "$new" || fail "$mode: it did not shut down"
	eventually 10 test -s "$TMP/stats.json" || fail "$mode: no statistics"
	check_mode $mode
	say "$mode: $(cat "$TMP/check.log") keys read back; it ran after $(($(key running_ns) / 1000000)) ms"
done
