#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/lazy/options.sh - the command line of thaw lazy-pages: CRIU's options in CRIU's forms and places, its configuration files, its exit
# statuses; and what help, manual page and completion say of them
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
export HOME=$TMP/home
unset CRIU_CONFIG_FILE
mkdir -p "$HOME/.criu" img work

. "$THAW_SRCDIR/tests/lazy/zombie.inc"

listens() { [ -S "$1/lazy-pages.socket" ]; }

# serves DIR COMMAND-LINE...: it listens in DIR, serves the zombie, ends with 0
serves()
{
	local dir=$1 status
	shift
	"$THAW" "$@" >"$TMP/said.out" 2>"$TMP/said.err" </dev/null &
	local pid=$!
	remember "$pid"
	eventually 60 listens "$dir" || fail "thaw $*: does not listen in $dir: $(cat said.err)"
	python3 "$TMP/say.py" "$dir/lazy-pages.socket" || fail "thaw $*: takes no connection"
	wait "$pid"
	status=$?
	[ $status = 0 ] || fail "thaw $*: status $status: $(cat said.err)"
	[ ! -e "$dir/lazy-pages.socket" ] || fail "thaw $*: leaves its socket"
}

# refused WORDS COMMAND-LINE...: exit status 1, one sentence with the words, nothing on standard output
refused()
{
	local words=$1 status
	shift
	timeout 60 "$THAW" "$@" >said.out 2>said.err </dev/null
	status=$?
	[ $status = 1 ] || fail "thaw $*: status $status instead of 1"
	[ ! -s said.out ] || fail "thaw $*: something on standard output"
	[ "$(wc -l <said.err)" = 1 ] || fail "thaw $*: not one line: $(cat said.err)"
	grep -q "^thaw: " said.err || fail "thaw $*: does not begin with 'thaw: '"
	grep -qF -e "$words" said.err || fail "thaw $*: says '$(cat said.err)' without '$words'"
}

# ---- places and forms
serves img lazy-pages -D img
serves img -D img lazy-pages
serves img -Dimg -v4 lazy-pages --display-stats
grep -q "Displaying lazy-pages stats" said.out || fail "--display-stats says nothing"
serves work lazy-pages --images-dir img --work-dir work
serves work --images-dir=img lazy-pages --work-dir=work --verbosity=4 --verbosity -vvvv
(cd img && serves . lazy-pages) || exit 1
(cd img && serves . -v lazy-pages --no-default-config) || exit 1
serves work lazy-pages -D img -W work -o log --log-pid -v
[ -s work/log ] || fail "-o: no log in the work directory"
[ ! -s said.err ] || fail "-o: messages on standard error: $(cat said.err)"
echo before >work/log
serves work lazy-pages -D img -W work --log-file log -vvv
! grep -q before work/log || fail "the log file is not emptied"
serves img lazy-pages -D img -v -o -
grep -q "thaw: " said.out || fail "-o -: nothing on standard output"

# ---- CRIU's table, whatever it is for: accepted with its arguments, named at -v
serves img lazy-pages -D img -t 5 -s -R --restore-detached --no-restore-detached -S --no-restore-sibling -J net:/x -r /x -x \
	--ext-unix-sk=5 --tcp-established --no-tcp-established --no-evasive-devices --veth-pair a=b --link-remap -j --shell-job -l \
	--no-file-locks --no-page-server --prev-images-dir /x --ms --track-mem --no-auto-dedup -L /x --libdir /x --cpu-cap \
	--cpu-cap=none --force-irmap -M auto --exec-cmd --manage-cgroups --manage-cgroups=full --cgroup-root /x --inherit-fd 'fd[5]:x' \
	--feature x --skip-mnt /x --enable-fs all --enable-external-sharing --enable-external-masters --freeze-cgroup /x \
	--ghost-limit 5M --irmap-scan-path /x --lsm-profile x:y --timeout 10 --external x --empty-ns net --lazy-pages --extra \
	--experimental --all --cgroup-props x --cgroup-props-file /x --cgroup-dump-controller x --skip-in-flight --deprecated \
	--weak-sysctls --tcp-close --no-stream --cgroup-yard /x --pre-dump-mode read --file-validation filesize \
	--skip-file-rwx-check --lsm-mount-context x --network-lock nftables --mntns-compat-mode --unprivileged --ghost-fiemap \
	--allow-uprobes --no-daemon -v
grep -q -e "--tree: has no meaning here" said.err || fail "--tree is not named: $(cat said.err)"
grep -q -e "--cgroup-props-file: has no meaning here" said.err || fail "--cgroup-props-file is not named"
[ "$(grep -c -e "--cpu-cap: " said.err)" = 1 ] || fail "--cpu-cap is not named once"
serves img lazy-pages -D img -t 5
! grep -q "meaning" said.err || fail "an option is named without -v"

serves img lazy-pages -D img -vX
serves img lazy-pages -D img --verbosity=X

# ---- a page server's address is looked at when the first task has come, as CRIU does it
for line in --page-server "--page-server --port 9" "--page-server --address 127.0.0.1" "--page-server --auto-dedup --port 9 -v"; do
	# shellcheck disable=SC2086
	"$THAW" lazy-pages -D img $line >said.out 2>said.err &
	pid=$!
	remember $pid
	eventually 60 listens img || fail "$line: does not listen: $(cat said.err)"
	kill -TERM $pid
	wait $pid && fail "$line: a signal ends it with success"
	grep -q "ended by signal 15" said.err || fail "$line: $(cat said.err)"
done
grep -q -e "--auto-dedup: has no meaning here" said.err || fail "--auto-dedup is not named: $(cat said.err)"

# ---- abbreviations: names of ours do not make those of CRIU's unclear
exec 7>byte
serves img lazy-pages -D img --stat 7
exec 7>&-
[ "$(od -An -tx1 byte | tr -d ' \n')" = 00 ] || fail "--stat is not --status-fd: $(od -c byte)"
serves img --stat 1 lazy-pages --images img
serves work lazy-pages -D img --work=work
refused "option --status-fd needs a value" lazy-pages -D img --stat
refused "unknown or ambiguous option '--tls-c'" lazy-pages -D img --tls-c x

# ---- our own
serves img lazy-pages -D img --copiers 3 --chunk 64K --background-delay 10 --read-around 8 --on-failure freeze --reconnect-timeout 5 \
	--page-server-protocol 24 --stats stats
grep -q '"complete": *true' img/stats || fail "--stats: $(cat img/stats)"
serves img lazy-pages -D img --stay-lazy --on-failure kill --chunk=4096 --read-around=0 -q --auto-dedup
[ ! -s said.err ] || fail "-q: $(cat said.err)"

# ---- configuration files
echo 'work-dir work' >"$HOME/.criu/default.conf"
serves work lazy-pages -D img
serves img --no-default-config lazy-pages -D img
cat >conf <<'END'
# a comment

	images-dir   "img"   # what this is
work-dir work
verbosity 4
tcp-established
log-file "a \"log\""
END
rm "$HOME/.criu/default.conf"
serves work lazy-pages --config conf
[ -s 'work/a "log"' ] || fail "a value in quotes: $(ls work)"
serves work lazy-pages --config=conf -o other
[ -s work/other ] || fail "the command line does not win over the file"
CRIU_CONFIG_FILE=conf serves work lazy-pages
echo 'work-dir a b' >bad
refused "bad: line 1: more than one value" lazy-pages --config bad -D img
echo 'work-dir "a' >bad
refused "bad: line 1: a quote that is not closed" lazy-pages --config bad -D img
echo 'nonsense' >bad
refused "bad: unknown or ambiguous option '--nonsense'" lazy-pages --config bad -D img
echo 'tcp-close yes' >bad
refused "bad: option --tcp-close takes no value" lazy-pages --config bad -D img
echo 'copiers 0' >bad
refused "bad: --copiers: '0' is not a whole number from 1 to 64" lazy-pages --config bad -D img
# CRIU goes on without it.
serves img lazy-pages --config absent -D img
grep -q -e "--config absent: No such file or directory; going on without it" said.err || fail "--config absent: $(cat said.err)"

# ---- refused: status 1, as CRIU
refused "unknown option '-y'" lazy-pages -D img -y
refused "unknown or ambiguous option '--nothing'" lazy-pages --nothing
refused "option --port needs a value" lazy-pages -D img --port
refused "option --tls takes no value" lazy-pages -D img --tls=yes
refused "'more' is not expected here" lazy-pages -D img more
refused "'more' is not expected here" -D img lazy-pages more
refused "--stream: " lazy-pages -D img --stream
refused "--port: '0' is not" lazy-pages -D img --port 0
refused "--port: '70000' is not" lazy-pages -D img --port 70000
refused "--status-fd: 'x' is not" lazy-pages -D img --status-fd x
refused "--status-fd 77: " lazy-pages -D img --status-fd 77
refused "--chunk: '5000' is not whole pages" lazy-pages -D img --chunk 5000
refused "--chunk: '1M' is not whole pages" lazy-pages -D img --chunk 1M
refused "--on-failure: 'panic' is not one of freeze, kill, sigbus" lazy-pages -D img --on-failure panic
refused "--page-server-protocol: '16' is not" lazy-pages -D img --page-server-protocol 16
refused "--read-around: '65' is not" lazy-pages -D img --read-around 65
# What TLS needs is looked at before anybody is told to begin.
refused "absent-ca" lazy-pages -D img --page-server --address 127.0.0.1 --port 9 --tls --tls-cacert absent-ca --status-fd 1
refused "--stay-lazy and --background-delay" lazy-pages -D img --stay-lazy --background-delay 5
refused "--stay-lazy and --copiers" lazy-pages -D img --stay-lazy --copiers 5
refused "image directory absent: No such file" lazy-pages -D absent
refused "work directory absent: No such file" lazy-pages -D img -W absent
refused "inventory.img: no such file" lazy-pages -D work
refused "log file absent/log: cannot be opened" lazy-pages -D img -o absent/log
refused "statistics file absent/stats: cannot be written" lazy-pages -D img --stats absent/stats
refused "pidfile absent/pid: cannot be written" lazy-pages -D img --pidfile absent/pid
refused "pidfile absent/pid: cannot be written" lazy-pages -D img -d --pidfile absent/pid
! listens img || fail "a daemon that could not write its pidfile left a socket"
refused "--ps-socket 0: standard descriptors are /dev/null with --daemon" lazy-pages -D img --page-server --ps-socket 0 -d

# ---- one that cannot begin leaves another alone that listens there
"$THAW" lazy-pages -D img >first.out 2>first.err </dev/null &
pid=$!
remember $pid
eventually 60 listens img || fail "does not listen: $(cat first.err)"
eventually 60 test -S img/thaw-status.socket || fail "no status socket" # it comes a moment later
"$THAW" status -D img >said.out || fail "no status while it listens"
grep -qx "  memory   0 bytes of 0 bytes in, 0 bytes/s" said.out || fail "nothing is here yet, and: $(cat said.out)"
refused "status socket absent/s: " lazy-pages -D img --status-socket absent/s
listens img && python3 "$TMP/say.py" img/lazy-pages.socket || fail "the first takes no connection any more"
wait $pid || fail "the first ends with $?: $(cat first.err)"

# ---- under the name of criu
ln -s "$THAW" criu
[ "$(./criu --version)" = "$("$THAW" --version)" ] || fail "criu --version"
./criu lazy-pages --help | cmp - <("$THAW" lazy-pages --help) || fail "criu lazy-pages --help"
for word in dump restore check; do
	./criu -D img $word >said.out 2>said.err && fail "criu $word succeeds"
	grep -q "under the name of criu, and stands in for criu lazy-pages only: for '$word'" said.err || fail "criu $word: $(cat said.err)"
done
./criu >said.out 2>said.err && fail "criu without a command succeeds"
grep -q "under the name of criu" said.err || fail "criu: $(cat said.err)"

# ---- the page server's: CRIU's name for the log, and options before the command's name
for line in "page-server -D img --port 0 --lazy-pages" "-D img --port 0 page-server --lazy-pages" "-v4 --lazy-pages page-server --port=0 -D img"; do
	rm -f served
	# shellcheck disable=SC2086
	"$THAW" $line --log-file served >said.out 2>said.err && fail "thaw $line: serves a zombie"
	grep -qs "none of its 1 processes has a page map here" served || fail "thaw $line: $(cat said.err)"
done
./criu -D img --port 0 page-server >said.out 2>said.err && fail "criu page-server succeeds"
grep -q "under the name of criu" said.err || fail "criu page-server: $(cat said.err)"

# ---- help, manual page and completion
"$THAW" lazy-pages --help >help || fail "--help"
awk 'length > 80 { exit 1 } END { exit NR > 24 }' help || fail "the help does not fit 24 lines of 80"
for line in -h "--help --nothing" "-D img --help" --hel -dh; do
	# shellcheck disable=SC2086
	"$THAW" lazy-pages $line | cmp - help || fail "lazy-pages $line is something else"
done
"$THAW" --help lazy-pages | cmp - help || fail "thaw --help lazy-pages is something else"
"$THAW" -h | cmp - <("$THAW" --help) || fail "thaw -h is something else"
"$THAW" status -h | cmp - <("$THAW" status --help) || fail "thaw status -h is something else"
for line in -V --version; do
	[ "$("$THAW" lazy-pages $line)" = "$("$THAW" --version)" ] || fail "lazy-pages $line"
done
sed 1,3d help | grep -oE -- '(^|[ (;,])--?[a-zA-Z][a-z-]*' | tr -d ' (;,' | sort -u >options.help
sed -n 's/^\.It Fl //p' "$THAW_SRCDIR/doc/man/thaw-lazy-pages.1" | sed 's/ Ns .*//; s/ , Fl /\n/g; s/ , /\n/g' |
	sed 's/^Fl //; s/ Ar .*//; s/^\(.\)$/-\1/; s/^-\([a-z]\)/--\1/; s/^--\(.\)$/-\1/' | sort -u >options.page
diff options.help options.page || fail "--help (<) and the manual page (>) differ"
bash -c '. "$1"; COMP_WORDS=(thaw lazy-pages -); COMP_CWORD=2; COMPREPLY=(); _thaw; printf "%s\n" "${COMPREPLY[@]}"' - \
	"$THAW_SRCDIR/contrib/completion/thaw" | sort -u >options.completion
diff options.help options.completion || fail "--help (<) and the completion (>) differ"
for line in "thaw lazy-pages -D img" "thaw -D img lazy-pages" "thaw --images-dir = img -v4 lazy-pages"; do
	[ "$(bash -c '. "$1"; shift; COMP_WORDS=($1 --co); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _thaw; echo "${COMPREPLY[*]}"' - \
		"$THAW_SRCDIR/contrib/completion/thaw" "$line")" = "--config --copiers" ] || fail "the completion of '$line --co'"
done
# the wrapper of the manual page: the command, not a value that is called like it
{
	echo '#!/bin/sh'
	sed -n '/^before=$/,/^exec /p' "$THAW_SRCDIR/doc/man/thaw-lazy-pages.1" | sed 's/exec thaw.*/exec echo thaw ;;/; s/^exec .*/exec echo criu/'
} >wrapper
for line in "thaw lazy-pages -D x" "thaw -D x lazy-pages" "criu dump -D lazy-pages -t 1" "criu restore --work-dir lazy-pages --lazy-pages"; do
	# shellcheck disable=SC2086
	[ "$(sh wrapper ${line#* })" = "${line%% *}" ] || fail "the wrapper: $line"
done
say "as CRIU has them"
