#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/bad_images.sh - corrupt, truncated, foreign and writable checkpoints are refused with the file and the place; nothing is left
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON"

cat >"$TMP/job.py" <<'END'
import os, sys, time
data = [os.urandom(4096) for _ in range(2000)]
f = open(sys.argv[1], "r")
f.read(4)
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
print("ends with", f.read(), flush=True)
END
echo "0123456789" >"$TMP/file"
run_piped "$TMP/first.out" "$PYTHON" "$TMP/job.py" "$TMP/file" "$TMP/go"
eventually 20 has_lines "$TMP/first.out" 1 || fail "the job does not start"
pid=$PIPED
checkpoint_piped
[ -z "$(find "$IMAGE" -perm /077)" ] || fail "others can read: $(find "$IMAGE" -perm /077)"
cp -a "$IMAGE" "$TMP/good"

# refused WORDS WHAT: both show and restore refuse $IMAGE, naming a file of it; no process is left
refused()
{
	local words=$1 what=$2 command
	for command in "show" "restore" "restore -d" "restore --eager"; do
		[ "${3:-}" = "restore only" ] && [ "$command" = show ] && continue
		# shellcheck disable=SC2086
		timeout 30 "$THAW" $command -D "$IMAGE" >"$TMP/said.out" 2>"$TMP/said.err" </dev/null
		status=$?
		[ $status = 1 ] || fail "$what: thaw $command: status $status instead of 1; $(cat "$TMP/said.err")"
		[ "$(wc -l <"$TMP/said.err")" = 1 ] || fail "$what: thaw $command: not one sentence: $(cat "$TMP/said.err")"
		grep -qE -e "$words" "$TMP/said.err" || fail "$what: thaw $command: says '$(cat "$TMP/said.err")' without '$words'"
		is_gone "$pid" || fail "$what: thaw $command left process $pid"
	done
	say "$what: $(cut -c 7- "$TMP/said.err")"
	rm -rf "$IMAGE"
	cp -a "$TMP/good" "$IMAGE"
}

for name in $(cd "$IMAGE" && echo *); do
	rm "$IMAGE/$name"
	refused "$name|[Nn]o such file" "$name missing"
	truncate -s $(($(stat -c %s "$IMAGE/$name") / 2)) "$IMAGE/$name"
	refused "$name" "$name cut in the middle"
	: >"$IMAGE/$name"
	refused "$name" "$name empty"
	chmod 666 "$IMAGE/$name"
	refused "$name" "$name writable by others"
	chown 65534 "$IMAGE/$name"
	refused "$name" "$name another's"
done

# Nor is a process made from what another user has written because it is the caller of sudo: who may call only thaw gains nothing.
chown -R 65534 "$IMAGE"
export SUDO_UID=65534
refused "belongs to user 65534" "the directory of the caller of sudo"
unset SUDO_UID
# Every file has a checksum, in thaw.img or in pages-1.sum.img: a bit anywhere in it, a byte more, another's of the same length
flip()
{
	python - "$IMAGE/$1" "$2" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)[0]
    f.seek(int(sys.argv[2])); f.write(bytes([b ^ 4]))
END
}
for name in $(cd "$IMAGE" && echo *); do
	size=$(stat -c %s "$IMAGE/$name")
	printf 'X' >>"$IMAGE/$name"
	refused "$name" "$name with a byte more"
	for at in 0 $((size / 3)) $((size - 1)); do
		[ "$name" = pages-1.img ] && at=$((at == 0 ? 4095 : size - 1)) # which are looked at; others when they are read
		flip "$name" "$at"
		refused "$name" "$name with a wrong bit at $at"
	done
done
flip pages-1.img $((17 * 4096 + 5))
refused_by_show_and_eager()
{
	local command
	for command in show "restore --eager"; do
		# shellcheck disable=SC2086
		timeout 30 "$THAW" $command -D "$IMAGE" >"$TMP/said.out" 2>"$TMP/said.err" </dev/null
		status=$?
		[ $status = 1 ] || fail "a wrong page: thaw $command: status $status; $(cat "$TMP/said.err")"
		grep -q "pages-1.img: the page at byte $((17 * 4096)) does not match its checksum" "$TMP/said.err" ||
			fail "a wrong page: thaw $command says '$(cat "$TMP/said.err")'"
		is_gone "$pid" || fail "a wrong page: thaw $command left process $pid"
	done
	rm -rf "$IMAGE"
	cp -a "$TMP/good" "$IMAGE"
}
refused_by_show_and_eager
{ tail -c +4097 "$TMP/good/pages-1.img"; head -c 4096 "$TMP/good/pages-1.img"; } >"$IMAGE/pages-1.img"
refused "pages-1.img: the page at byte 0 does not match its checksum: .* another checkpoint" "pages-1.img another's of the same length"

for name in inventory.img pstree.img thaw.img "mm-$pid.img" "pagemap-$pid.img"; do
	printf 'X' | dd of="$IMAGE/$name" bs=1 seek=1 conv=notrunc status=none
	refused "$name" "$name with another magic number"
done
# thaw.img has checksums: a bit anywhere
size=$(stat -c %s "$IMAGE/thaw.img")
for at in 9 40 $((size / 3)) $((size / 2)) $((size - 2)); do
	flip thaw.img $at
	refused "thaw.img" "thaw.img with a wrong bit at $at"
done
chmod 777 "$IMAGE"
refused "$IMAGE|writ" "the directory writable by others"
mv "$IMAGE/pages-1.img" "$TMP/pages"
ln -s "$TMP/pages" "$IMAGE/pages-1.img"
refused "pages-1.img" "pages-1.img a symbolic link"
rm "$IMAGE"/*
refused "" "an empty directory"

# A file that the process had open is not the same any more
cp "$TMP/file" "$TMP/saved"
mv "$TMP/file" "$TMP/moved"
refused "$TMP/file" "its file missing" "restore only"
cp "$TMP/saved" "$TMP/file"
refused "$TMP/file" "its file another one" "restore only"
mv "$TMP/moved" "$TMP/file"

# And the good one still works.
touch "$TMP/go"
restore_piped "$TMP/second.out" || fail "the good checkpoint: status $?"
grep -qx "ends with 456789" "$TMP/second.out" || fail "the good checkpoint: $(cat "$TMP/second.out")"
exit 0
