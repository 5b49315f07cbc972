#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/replay.sh - a replay file is run as it was written, or refused with its line: nothing in it is believed
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"

cat >good <<'END'
thaw-stress replay 1
# a comment
seed 5
content 3
size 1048576
processes 1
threads 2
copiers 2
readers 1
around 16
spin 50
delay_ms 3
chunk 16384
by_library 1
holder 0
late_add 0
big 0
sandbox 1
shatter 0
held 0
gate 0
io 0
source resident
background run
track 0 0 -1 0 3
op read 1 2 3 -1
op fork 4 5 6 1
op write 7 8 9 -1
track 0 0 0 1 1
op read 1 1 1 -1
track 0 1 -1 0 1
op dontneed 1 1 1 -1

end
END
stress good --replay good --seconds 1 || fail "a good file: status $?"
grep -q '^fork  *[1-9]' good.log || fail "it has not forked"
printf '\n# behind it\n' | cat good - >trailing
stress trailing --replay trailing --seconds 1 || fail "a comment behind the end: status $?"

# A process that calls exec while a thread of it and a child run, and most of its memory is missing: its space ends, and so does the round.
for background in lazy run; do
	sed '28aop exec 0 0 0 -1' good | sed "25s/3\$/4/; s/^held.*/held 1/; s/^source.*/source slow/; s/^background.*/background $background/" >execs
	stress execs --replay execs --seconds 1 || fail "exec, $background: status $?"
	grep -q '^exec  *[1-9][0-9]*  *0$' execs.log || fail "it has not called exec"
	grep -q '^gone  *[1-9]' execs.log || fail "no space is gone after exec"
done

# bad WORDS LINE SED: the file with that change is refused, in that line
bad()
{
	local words=$1 line=$2
	sed "$3" good >bad
	! cmp -s good bad || fail "$3 changes nothing"
	refused_by "$STRESS" "bad: line $line: " --replay bad
	grep -qF -e "$words" said.err || fail "$3: says '$(cat said.err)' without '$words'"
}

for text in 0 65 1000000 -1 x '' '2 3' +2 0x2 99999999999999999999; do
	bad "copiers is '$text', and has to be a whole number from 1 to 64" 8 "s/^copiers.*/copiers $text/"
done
bad "size is '1048575'" 5 's/^size.*/size 1048575/'
bad "size is '1099511627776'" 5 's/^size.*/size 1099511627776/' # 1 TiB
bad "size is not in whole pages" 5 's/^size.*/size 1048577/'
bad "256K for each of the 32 threads" 5 's/^threads.*/threads 32/'
bad "more pages than can be told apart" 5 's/^size.*/size 274877906944/; s/^processes.*/processes 256/'
bad "processes is '4294967297'" 6 's/^processes.*/processes 4294967297/'
bad "processes is '0'" 6 's/^processes.*/processes 0/'
bad "threads is '33'" 7 's/^threads.*/threads 33/'
bad "readers is '0'" 9 's/^readers.*/readers 0/'
bad "around is '4000000000'" 10 's/^around.*/around 4000000000/'
bad "spin is '201'" 11 's/^spin.*/spin 201/'
bad "delay_ms is '60001'" 12 's/^delay_ms.*/delay_ms 60001/'
bad "chunk is '0'" 13 's/^chunk.*/chunk 0/'
bad "chunk is '5'" 13 's/^chunk.*/chunk 5/'
bad "chunk is not in whole pages" 13 's/^chunk.*/chunk 5000/'
for name in by_library holder late_add big sandbox held gate; do
	bad "$name is '7', and has to be a whole number from 0 to 1" "$(grep -n "^$name " good | cut -d : -f 1)" "s/^$name.*/$name 7/"
done
bad "shatter is '99999999999'" 19 's/^shatter.*/shatter 99999999999/'
bad "shatter is 257, and a process has only 256 pages" 19 's/^shatter.*/shatter 257/'
bad "io is '3'" 22 's/^io.*/io 3/'
bad "'warm' is no source" 23 's/^source.*/source warm/'
bad "'never' is no background" 24 's/^background.*/background never/'
bad "'colour' is nothing that a replay file has" 20 's/^held.*/colour 3/'
bad "'held' is not a line of a replay file" 20 's/^held.*/held/'
for name in $(sed -n 's/^\([a-z_]*\) [0-9a-z]*$/\1/p' good); do
	bad "the end, and $name has not been given" 33 "/^$name /d"
	bad "$name is given a second time" "$(($(grep -n "^$name " good | cut -d : -f 1) + 1))" "/^$name /p"
done

bad "the number of operations is '4294967299'" 25 '25s/3$/4294967299/'
bad "lacks 1 of its operations" 29 '25s/3$/4/'
bad "an operation that belongs to no track" 28 '25s/3$/2/'
bad "lacks 1 of its operations" 34 '31s/1$/2/'
bad "there is no thread 1 of process 1" 31 '31s/0 1/1 1/'
bad "thread 0 of process 0 is not its next one" 31 '31s/0 1/0 0/'
bad "process 0 has 2 tracks for its 3 threads" 34 's/^threads 2/threads 3/'
bad "depth 1 does not go with parent -1" 31 '31s/0 1$/1 1/'
bad "the depth is '5'" 29 '29s/1 1$/5 1/'
bad "its process, thread or depth does not go with its parent" 29 '29s/1 1$/2 1/'
bad "its process, thread or depth does not go with its parent" 29 '29s/^track 0 0/track 0 1/'
bad "the parent is '-2'" 25 '25s/-1/-2/'
bad "5 numbers are expected here, and the number of operations is missing" 25 '25s/ 3$//'
bad "5 numbers are expected here, and there is more: '1'" 25 '25s/$/ 1/'

bad "'melt' is no operation" 26 's/^op read 1 2/op melt 1 2/'
bad "the first value is '4294967296'" 26 's/^op read 1 2/op read 4294967296 2/'
bad "the third value is '65536'" 26 's/^op read 1 2 3/op read 1 2 65536/'
bad "the child is '16384'" 27 's/^op fork.*/op fork 4 5 6 16384/'
bad "there is no track 9" 27 's/^op fork.*/op fork 4 5 6 9/'
bad "track 0 is no child of track 0" 27 's/^op fork.*/op fork 4 5 6 0/' # it would fork for ever
bad "track 2 is no child of track 0" 27 's/^op fork.*/op fork 4 5 6 2/'
bad "fork makes a child, and names no track" 27 's/^op fork.*/op fork 4 5 6 -1/'
bad "read makes no child" 26 's/^op read 1 2 3 -1/op read 1 2 3 1/'
bad "track 1 is made a second time" 28 's/^op write.*/op fork 7 8 9 1/'
bad "no operation of track 0 makes track 1" 29 's/^op fork.*/op read 4 5 6 -1/'
bad "kill is for processes that were restored" 30 '30s/read/kill/'
bad "exec is for processes that were restored" 30 '30s/read/exec/'
bad "wipeonfork is for processes that were restored" 30 '30s/read/wipeonfork/'

bad "the file ends here, without the line 'end'" 34 '/^end/d'
bad "'op read 1 2 3 -1' stands behind the end" 35 '$aop read 1 2 3 -1'
bad "'end' stands behind the end" 35 '$aend'
bad "longer than any line" 2 "2s/\$/$(printf '%300s' x)/"
refused_by "$STRESS" ".: line 1: Is a directory" --replay .
say "a replay file is run as it is, or refused with its line"
