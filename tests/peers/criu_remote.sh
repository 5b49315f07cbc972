#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/peers/criu_remote.sh - between two network namespaces, one of which has its own pids: post-copy migration (criu dump
# --lazy-pages on one side, thaw lazy-pages --page-server and criu restore --lazy-pages on the other), CRIU's page server with
# thaw's daemon, and thaw's page server with CRIU's daemon
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/peers/criu.inc"
requires_criu
requires ip unshare nsenter
two_machines
PORT=27000

# start_server WHO ARG...: SERVER_PID, listening
start_server()
{
	local who=$1
	shift
	rm -f status
	mkfifo status
	"${ON_SOURCE[@]}" "$who" "$@" --address $SOURCE_IP --port $PORT --status-fd 3 3>status </dev/null >server.err 2>&1 &
	SERVER_PID=$!
	remember "$SERVER_PID"
	await_byte "$(basename "$who") $1" server.err
}

# one migration MODE [OPTION]...
migrate()
{
	local mode=$1 status
	shift
	rm -rf img target
	mkdir img
	start_subject "$mode"
	start_server "$CRIU" dump -t "$SUBJECT_PID" -D img -o dump.log -v4 --lazy-pages
	cp -a img target
	start_daemon target --page-server --address $SOURCE_IP --port $PORT "$@"
	restore target
	go "migration of $mode $*"
	end_daemon "migration of $mode $*"
	eventually 60 is_gone "$SERVER_PID" || fail "migration of $mode $*: criu dump does not end"
	wait "$SERVER_PID"
	status=$?
	[ $status = 0 ] || { grep -a Error img/dump.log >server.err; fail "migration of $mode $*: criu dump ended with $status"; }
	eventually 20 is_gone "$SUBJECT_PID" || fail "migration of $mode $*: the source runs on"
	say "migrated: $mode $*"
}

# from_server SERVER DAEMON [OPTION]...: the same images on both sides, the pages from the server
from_server()
{
	local server=$1 what
	DAEMON=$2
	shift 2
	what="page server of $(basename "$server"), daemon of $(basename "$DAEMON") $*"
	rm -rf target work/go
	: >work/out
	cp -a img target
	start_server "$server" page-server --lazy-pages -D img -o server.log
	start_daemon target --page-server --address $SOURCE_IP --port $PORT "$@"
	restore target
	go "$what"
	end_daemon "$what"
	kill "$SERVER_PID" 2>/dev/null # thaw's stays up for the next one
	eventually 20 is_gone "$SERVER_PID" || fail "the page server of $(basename "$server") does not end"
	PORT=$((PORT + 1))
	say "$what"
}

if can_serve; then
	modes="single tree"
	[ "$DAEMON" = "$THAW" ] || modes=calm
	for mode in ${THAW_TEST_MODES:-$modes}; do
		migrate "$mode"
		PORT=$((PORT + 1))
	done
	if [ "$DAEMON" = "$THAW" ]; then
		migrate single --stay-lazy
		PORT=$((PORT + 1))
		migrate threads --background-delay 300
		PORT=$((PORT + 1))
	fi
else
	say "without CAP_SYS_RESOURCE, or a sysctl fs.pipe-max-size of 4194304, criu dump --lazy-pages serves nothing: not tried"
fi

start_subject calm
rm -rf img
dump "$SUBJECT_PID" img
daemon=$DAEMON
can_serve && from_server "$CRIU" "$daemon"
if [ "$daemon" = "$THAW" ]; then
	from_server "$THAW" "$CRIU"
	from_server "$THAW" "$THAW"
	from_server "$THAW" "$THAW" --stay-lazy
fi
exit 0
