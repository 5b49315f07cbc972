#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/checksums.sh - a wrong bit anywhere in a checkpoint: it is refused, or whoever needs that page waits; nobody ends well with wrong data
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON"
FLIPS=${THAW_TEST_BRIEF:+10}
FLIPS=${FLIPS:-40}

# Memory, a memfd (file-0.raw) and shared memory (file-1.raw), all of it looked at again at the end
cat >"$TMP/job.py" <<'END'
import hashlib, mmap, os, random, sys, time
data = [os.urandom(4096) for _ in range(3000)]
fd = os.memfd_create("kept")
os.write(fd, os.urandom(300000))
shared = mmap.mmap(-1, 500000)
shared.write(os.urandom(400000))
def look():
    h = hashlib.sha256()
    for d in data:
        h.update(d)
    h.update(os.pread(fd, 1 << 20, 0))
    h.update(shared[:])
    return h.hexdigest()
before = look()
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("right" if look() == before else "WRONG", flush=True)
END
run_piped "$TMP/first.out" "$PYTHON" "$TMP/job.py" "$TMP/go"
eventually 20 has_lines "$TMP/first.out" 1 || fail "the job does not start"
pid=$PIPED
checkpoint_piped
[ -s "$IMAGE/file-1.raw" ] || fail "there is nothing stored: $(ls "$IMAGE")"
cp -a "$IMAGE" "$TMP/good"
touch "$TMP/go"

# Not one file of it is without a checksum.
"$THAW" show -D "$IMAGE" >"$TMP/show.out" || fail "thaw show: $?"
restore_piped "$TMP/second.out" && grep -qx right "$TMP/second.out" || fail "the good one: $(cat "$TMP/second.out")"

# one WHERE ARG...: restores what was changed, as far as it goes. OUTCOME: refused, waits or right
one()
{
	local where=$1 thaw
	shift
	: >"$TMP/one.out"
	: >"$TMP/one.err"
	"$THAW" restore -D "$IMAGE" "$@" </dev/null >"$TMP/one.out" 2>"$TMP/one.err" &
	thaw=$!
	told() { is_gone $thaw || grep -q "does not match its checksum" "$TMP/one.err"; }
	eventually 60 told || fail "$where: thaw restore $*: neither an end nor a word"
	sleep 0.1
	OUTCOME=
	if ! is_gone $thaw; then # somebody may wait for that page, and may not
		ended() { is_gone $thaw; }
		eventually 1 ended || { OUTCOME=waits; kill -KILL "$pid"; }
	fi
	wait $thaw
	status=$?
	grep -q WRONG "$TMP/one.out" && fail "$where: thaw restore $*: the process ran with wrong memory"
	is_gone "$pid" || fail "$where: thaw restore $*: process $pid is left"
	if [ "$OUTCOME" = waits ]; then
		grep -q "pages-1.img at byte [0-9]*): does not match its checksum" "$TMP/one.err" || fail "$where: it says $(cat "$TMP/one.err")"
	elif [ $status = 0 ]; then
		grep -qx right "$TMP/one.out" || fail "$where: status 0 with '$(cat "$TMP/one.out")'"
		OUTCOME=right
	else
		[ $status = 1 ] || fail "$where: status $status; $(cat "$TMP/one.err")"
		grep -qE "\.(img|raw)" "$TMP/one.err" || fail "$where: no file in '$(cat "$TMP/one.err")'"
		OUTCOME=refused
	fi
}

# Half of them in pages-1.img, where they are not always seen at once
python - "$IMAGE" "$FLIPS" "${THAW_TEST_SEED:-$RANDOM}" >"$TMP/flips" <<'END'
import os, random, sys
r = random.Random(int(sys.argv[3]))
names = sorted(os.listdir(sys.argv[1]))
for i in range(int(sys.argv[2])):
    name = "pages-1.img" if i % 2 else names[i // 2 % len(names)]
    print(name, r.randrange(os.path.getsize(os.path.join(sys.argv[1], name))), r.randrange(8), ["", "--stay-lazy", "--eager"][i % 3])
END
declare -A count=([refused]=0 [waits]=0 [right]=0)
while read -r name at bit how; do
	python -c 'import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)[0]
    f.seek(int(sys.argv[2])); f.write(bytes([b ^ 1 << int(sys.argv[3])]))' "$IMAGE/$name" "$at" "$bit"
	"$THAW" show -q -D "$IMAGE" 2>"$TMP/show.err" && fail "bit $bit of byte $at of $name: thaw show calls it whole"
	grep -q "$name" "$TMP/show.err" || fail "bit $bit of byte $at of $name: thaw show says $(cat "$TMP/show.err")"
	# shellcheck disable=SC2086
	one "bit $bit of byte $at of $name" $how
	if [ $OUTCOME != refused ] && { [ "$name" != pages-1.img ] || [ "$how" = --eager ]; }; then
		fail "bit $bit of byte $at of $name: $OUTCOME instead of refused ($how)"
	fi
	count[$OUTCOME]=$((count[$OUTCOME] + 1))
	cp -a "$TMP/good/$name" "$IMAGE/$name"
done <"$TMP/flips"
say "$FLIPS wrong bits: ${count[refused]} refused, ${count[waits]} made a reader wait, ${count[right]} were not needed"
[ "${count[refused]}" -ge $((FLIPS / 2)) ] || fail "only ${count[refused]} of $FLIPS were refused"

# A page that the restore itself waits for, since the kernel writes a mutex there when its owner ends. It does not run, and
# thaw restore can be ended.
mkdir -m 777 "$TMP/apart"
spawn "$THAW_BUILDDIR/tests/live/scope" ends-apart "$TMP/apart" </dev/null >"$TMP/apart/out" 2>&1
disown "$SPAWNED"
pid=$SPAWNED
eventually 20 test -e "$TMP/apart/ready" || fail "ends-apart: it did not get ready"
rm -rf "$IMAGE" "$TMP/good"
checkpoint "$pid"
cp -a "$IMAGE" "$TMP/good"
spoil() # [BYTE]: the page there is right again; else all that may hold nothing but a mutex are wrong
{
	python - "$TMP/good/pages-1.img" "$IMAGE/pages-1.img" "$@" <<'END'
import sys
with open(sys.argv[1], "rb") as good, open(sys.argv[2], "r+b") as f:
    if len(sys.argv) > 3:
        good.seek(int(sys.argv[3])); f.seek(int(sys.argv[3])); f.write(good.read(4096))
    else:
        data = bytearray(good.read())
        for at in range(0, len(data), 4096):
            if not any(data[at + 64:at + 4096]) and sum(map(bool, data[at:at + 64])) > 2:
                data[at + 2000] ^= 1
        f.write(data)
END
}
spoil
for ((i = 0; i < 20; i++)); do # one that is looked at before is refused
	"$THAW" restore -D "$IMAGE" </dev/null >"$TMP/apart.out" 2>"$TMP/apart.err" &
	thaw=$!
	remember $thaw
	waits() { is_gone $thaw || grep -q "its readers wait" "$TMP/apart.err"; }
	eventually 60 waits || fail "wrong mutexes: neither an end nor a word"
	is_gone $thaw || break
	wait $thaw
	at=$(sed -n 's/.*the page at byte \([0-9]*\) does not match.*/\1/p' "$TMP/apart.err")
	[ -n "$at" ] || fail "wrong mutexes: $(cat "$TMP/apart.err")"
	spoil "$at"
done
is_gone $thaw && fail "wrong mutexes: nobody waits for one"
grep -q '^TracerPid:.*[1-9]' "/proc/$pid/status" || fail "it runs, without the pages that the kernel needs"
kill -TERM $thaw
eventually 20 is_gone $thaw || fail "SIGTERM does not end a restore that waits for a page"
wait $thaw
status=$?
[ $status = 1 ] || fail "ended while it waits for a page: status $status"
grep -q "interrupted before the process ran: it was not restored" "$TMP/apart.err" || fail "ended while it waits: it says $(cat "$TMP/apart.err")"
grep -q "waits at the next of them for ever" "$TMP/apart.err" && fail "ended while it waits: it says $(cat "$TMP/apart.err")"
eventually 20 is_gone "$pid" || fail "ended while it waits: process $pid is left"
say "a restore that waits for a wrong page was ended"
exit 0
