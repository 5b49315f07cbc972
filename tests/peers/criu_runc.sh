#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/peers/criu_runc.sh - a container of runc, as doc/lazy-pages.md tells it: checkpointed and restored with --lazy-pages from
# local images, and migrated (runc checkpoint --lazy-pages --page-server, thaw lazy-pages, runc restore --lazy-pages)
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/peers/criu.inc"
requires_criu
requires runc busybox
RUNC=(runc --root "$TMP/state" --criu "$(command -v "$CRIU")")
PORT=27100

# make_bundle: a container that shares the network (a dump that locks one needs iptables)
make_bundle()
{
	local d
	for d in bin proc sys dev tmp data; do
		mkdir -p "rootfs/$d"
	done
	cp -L "$(command -v busybox)" rootfs/bin/busybox
	ln -s busybox rootfs/bin/sh
	cp "$SUBJECT" rootfs/bin/subject
	runc spec || fail "runc spec"
	sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"readonly": true/"readonly": false/' \
		-e "s|^\\(\\s*\\)\"sh\"\$|\\1\"sh\", \"-c\", \"exec /bin/subject calm /data $MIB >/data/out 2>\\&1\"|" config.json
	# the namespace of the network goes, with the comma after it
	sed -i '/"namespaces"/,/\]/{/{/{N;N;/"network"/d}}' config.json
	grep -q 'exec /bin/subject' config.json && ! grep -q '"network"' config.json ||
		fail "runc spec makes another config.json than is expected here: $(cat config.json)"
}

delete_all()
{
	"${RUNC[@]}" delete -f one
	"${RUNC[@]}" delete -f two
} >/dev/null 2>&1

finds_ok() { [ "$(tail -n 1 rootfs/data/out)" = ok ]; }

# start_container
start_container()
{
	delete_all
	rm -rf img work rootfs/data
	mkdir img work rootfs/data
	"${RUNC[@]}" run -d one </dev/null >runc.out 2>&1 || skip "runc cannot run a container here: $(tail -n 1 runc.out)"
	eventually 60 test -e rootfs/data/ready || fail "the container does not get ready: $(cat rootfs/data/out)"
}

# restore_container WHAT: as "two", which finds all of its memory
restore_container()
{
	timeout 100 "${RUNC[@]}" restore -d --lazy-pages --image-path "$TMP/img" --work-path "$TMP/work" two \
		</dev/null >runc.out 2>&1 || {
		grep -a Error work/restore.log >criu.err
		fail "$1: runc restore --lazy-pages: $(tail -n 1 runc.out)"
	}
	: >rootfs/data/go
	eventually 100 finds_ok || fail "$1: the restored container says '$(tail -n 1 rootfs/data/out)'"
	end_daemon "$1"
	say "$1"
}

make_bundle
at_exit delete_all

start_container
timeout 100 "${RUNC[@]}" checkpoint --work-path "$TMP/work" --image-path "$TMP/img" one </dev/null >runc.out 2>&1 || {
	grep -a Error work/dump.log >criu.err
	fail "runc checkpoint: $(tail -n 1 runc.out)"
}
start_daemon img -W "$TMP/work"
restore_container "local images"

can_serve || {
	say "without CAP_SYS_RESOURCE, or a sysctl fs.pipe-max-size of 4194304, criu dump --lazy-pages serves nothing: no migration"
	exit 0
}
start_container
rm -f status
mkfifo status
"${RUNC[@]}" checkpoint --lazy-pages --page-server 127.0.0.1:$PORT --status-fd 3 --work-path "$TMP/work" \
	--image-path "$TMP/img" one 3>status </dev/null >runc.out 2>&1 &
server=$!
remember "$server"
await_byte "runc checkpoint --lazy-pages" work/dump.log
start_daemon img -W "$TMP/work" --page-server --address 127.0.0.1 --port $PORT
restore_container "migrated"
eventually 60 is_gone "$server" || fail "runc checkpoint --lazy-pages does not end"
wait "$server" || fail "runc checkpoint --lazy-pages ended with $?: $(tail -n 1 runc.out)"
