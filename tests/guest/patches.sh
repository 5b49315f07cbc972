#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/guest/patches.sh - contrib/kernel: patches that git am takes, scripts that say what is wrong. Where the kernel's source is at hand
# (THAW_LINUX_SOURCE, a directory of linux-source-*.tar.xz, or what contrib/kernel/build has fetched) they are applied to it, too, and
# read by its checkpatch.pl.
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires python3 git
kernel=$THAW_SRCDIR/contrib/kernel

for series in 6.1:7 6.12:4; do
	n=${series#*:}
	series=${series%:*}
	[ "$(find "$kernel/$series" -name '*.patch' | wc -l)" = "$n" ] || fail "$series does not have $n patches"
	[ -s "$kernel/$series/0000-cover-letter.txt" ] || fail "$series has no cover letter"
	python3 - "$kernel/$series"/*.patch <<'PYTHON' || fail "a patch of $series"
import email.parser, email.policy, re, sys

def complain(name, text):
    sys.exit(f"{name}: {text}")

total = len(sys.argv) - 1
for number, path in enumerate(sys.argv[1:], 1):
    name = path.split("/", path.count("/") - 1)[-1]
    raw = open(path, encoding="utf-8").read()
    first, rest = raw.split("\n", 1)
    if not re.fullmatch(r"From [0-9a-f]{40} Mon Sep 17 00:00:00 2001", first):
        complain(name, "does not begin as git format-patch begins")
    mail = email.parser.Parser(policy=email.policy.default).parsestr(rest)
    subject = mail["Subject"]
    found = re.match(r"\[(RFC )?PATCH 6\.\d+ (\d+)/(\d+)\] [A-Za-z/]+: (.+)", subject)
    if not found or (int(found[2]), int(found[3])) != (number, total):
        complain(name, f"its subject: {subject}")
    text, _, diff = mail.get_content().partition("\n---\n")
    signers = re.findall(r"^Signed-off-by: (.+ <\S+>)$", text, re.M)
    if not signers or mail["From"] != signers[-1]:
        complain(name, f"From {mail['From']}, signed off by {signers}")
    if len(text.split()) < 40:
        complain(name, "it does not say why")
    if re.search(r"@[0-9A-Z]+_[0-9A-Z_]+@", text):
        complain(name, "a figure is missing")
    for line in text.splitlines():
        if len(line) > 75 and not line.startswith(("Fixes:", "Signed-off-by:")):
            complain(name, f"too long: {line}")
    # the statistics against the diff, hunk by hunk
    stat, _, diff = diff.partition("\ndiff --git ")
    insertions = re.search(r"(\d+) insertion", stat)
    deletions = re.search(r"(\d+) deletion", stat)
    files = re.search(r"(\d+) files? changed", stat)
    plus = minus = touched = 0
    old = new = 0
    for line in ("diff --git " + diff).splitlines():
        hunk = re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)
        if old > 0 or new > 0:
            kind = line[:1]
            old -= kind in " -"
            new -= kind in " +"
            if kind == "+":
                plus += 1
                if line.rstrip() != line or re.search(r" \t", line):
                    complain(name, f"white space: {line!r}")
            minus += kind == "-"
            if kind not in " +-\\":
                complain(name, f"a hunk ends early: {line!r}")
        elif hunk:
            old, new = (int(x) if x else 1 for x in hunk.groups())
        elif line.startswith("diff --git "):
            touched += 1
    if old or new:
        complain(name, "its last hunk is cut off")
    said = tuple(int(m[1]) if m else 0 for m in (files, insertions, deletions))
    if said != (touched, plus, minus):
        complain(name, f"it says {said}, it is {(touched, plus, minus)}")
PYTHON
	mkdir "$TMP/mails-$series" && git mailsplit -o"$TMP/mails-$series" "$kernel/$series"/*.patch >/dev/null || fail "git mailsplit of $series"
	for p in "$kernel/$series"/*.patch; do
		git mailinfo "$TMP/text" "$TMP/diff" <"$p" >"$TMP/info" || fail "git mailinfo $p"
		grep -q '^Subject: [A-Za-z]' "$TMP/info" || fail "git finds no subject in $p"
		[ -s "$TMP/diff" ] || fail "git finds no diff in $p"
	done
done

# the interface of the RFC is the same in both series and in the reproducers
for series in 6.1 6.12; do
	for line in 'UFFD_FEATURE_EVENT_SEQ.*1 << 30' 'UFFDIO_MODE_MATCH_SEQ.*1 << 31' 'UFFDIO_MODE_SEQ(seq).*<< 32'; do
		grep -q "^+#define $line" "$kernel/$series"/*.patch || fail "$series does not define $line"
	done
done
grep -q 'HOLE_FEATURE_EVENT_SEQ (1ULL << 30)' "$THAW_SRCDIR/tests/guest/hole.h" || fail "the reproducers mean another bit"

# the scripts: help, and every way to use them wrongly
status()
{
	local wanted=$1 got
	shift
	HOME=$TMP/home XDG_CACHE_HOME='' "$@" >"$TMP/out" 2>&1 </dev/null
	got=$?
	[ "$got" = "$wanted" ] || { cat "$TMP/out"; fail "$* ended with $got, not with $wanted"; }
}
said()
{
	grep -q -- "$1" "$TMP/out" || { cat "$TMP/out"; fail "it does not say: $1"; }
}
for script in build test matrix; do
	status 0 "$kernel/$script" --help
	said 'Needs'
	said 'minutes'
	status 2 "$kernel/$script" --no-such-option
	status 2 "$kernel/$script" --output
	status 2 "$kernel/$script" 5.10
done
for script in build test; do
	status 2 "$kernel/$script"
	said 'no series'
	status 2 "$kernel/$script" 6.1 6.12
done
status 2 "$kernel/build" 6.1 --output "$THAW_SRCDIR/contrib/out"
said 'source tree'
status 2 "$kernel/build" 6.1 --jobs many
if command -v patch >/dev/null; then
	status 1 "$kernel/build" 6.1 --prepare --source "$TMP/nothing" --output "$TMP/out.d"
	said 'there is no linux-source-6.1.tar.xz'
fi
status 1 "$kernel/test" 6.12
said 'contrib/kernel/build 6.12 makes it'
status 1 "$kernel/test" 6.1 --debug
said 'contrib/kernel/build 6.1 --debug makes it'
status 2 "$kernel/test" 6.1 --seconds none
status 2 "$kernel/matrix" --seconds none
[ ! -e "$TMP/home" ] || fail "something was made in HOME by a wrong call"

# without results the tables are those of the document
"$kernel/matrix" --tables --results "$TMP/results" >"$TMP/tables" || fail "matrix --tables"
sed -n '/^<!-- matrix: begin/,/^<!-- matrix: end/p' "$THAW_SRCDIR/doc/kernel.md" | grep '^|' >"$TMP/written"
[ -s "$TMP/written" ] || fail "doc/kernel.md has lost its markers"
grep '^|' "$TMP/tables" | diff "$TMP/written" - || fail "the tables of the document do not come out as they went in"

# with the source at hand: only the files that the patches touch are unpacked
for series in 6.1 6.12; do
	tar=
	for d in "${THAW_LINUX_SOURCE:-}" "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/thaw-kernel" /usr/src; do
		[ -z "$d" ] || [ ! -f "$d/linux-source-$series.tar.xz" ] || { tar=$d/linux-source-$series.tar.xz; break; }
	done
	if [ -z "$tar" ]; then
		say "linux-source-$series is not at hand: the patches are not applied"
		continue
	fi
	[ -n "${THAW_LINUX_SOURCE:-}" ] || { say "THAW_LINUX_SOURCE is not set: $tar is not unpacked (half a minute)"; continue; }
	tree=$TMP/$series
	mkdir "$tree"
	# shellcheck disable=SC2046 # names without spaces
	tar -C "$tree" --strip-components=1 -xJf "$tar" $(sed -n 's/^diff --git a\/\([^ ]*\) .*/\1/p' "$kernel/$series"/*.patch |
		sort -u | grep -v uffd-event-seq.c | sed "s/^/linux-source-$series\//") \
		"linux-source-$series/scripts" || fail "$tar could not be unpacked"
	(cd "$tree" && git init -q && git add -f . && git -c user.name=test -c user.email=test@localhost commit -qm source &&
		git -c user.name=test -c user.email=test@localhost am -q "$kernel/$series"/*.patch) || fail "git am of $series"
	rm -rf "$tree/.git" # checkpatch would look there for the commits that are named
	# FILE_PATH_CHANGES asks whether a new file needs a line in MAINTAINERS: the selftests' directory has one.
	for p in "$kernel/$series"/*.patch; do
		(cd "$tree" && perl scripts/checkpatch.pl --strict --no-tree --no-summary --quiet \
			--ignore UNKNOWN_COMMIT_ID,GIT_COMMIT_ID,FILE_PATH_CHANGES "$p") >"$TMP/checkpatch.log" 2>&1 || fail "checkpatch of $(basename "$p")"
		[ ! -s "$TMP/checkpatch.log" ] || fail "checkpatch of $(basename "$p") has something to say"
	done
done
say "passed"
