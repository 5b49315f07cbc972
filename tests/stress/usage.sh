#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/stress/usage.sh - the command line of thaw-stress: what is refused and how, and that help, page and completion agree
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/stress/stress.inc"

refused() { refused_by "$STRESS" "$@"; }

refused "unknown option '-x'" -x
refused "unknown or ambiguous option '--nothing'" --nothing
refused "'extra' is not expected" extra
refused "'lazy' is not expected" --json lazy
refused "takes no value" --json=1
for option in seconds seed size processes threads ops copiers chunk source replay sabotage inject; do
	refused "option --$option needs a value" --$option
done
for text in 0 -1 x 1d '' 1.5 99999999999999999999; do
	refused "is no duration" --seconds="$text"
done
refused "not a whole number" --seed x
refused "from 1M to 256G" --size 1023K
refused "from 1M to 256G" --size 1T
refused "for each of the" --size 1M --threads 32
for text in 0 257 -1 1x ''; do
	refused "from 1 to 256" --processes="$text"
done
refused "from 1 to 32" --threads 33
refused "from 1 to 64" --copiers 65
refused "from 4K to 256K" --chunk 257K
refused "from 4K to 256K" --chunk 5000
refused "none of resident, cold, slow, failing" --source warm
refused "none of run, delayed, lazy" --background=never
refused "none of auto, on, off" --numbering yes
refused "'melt' is no operation" --ops read,melt
refused "leaves nothing to do" --ops read,-read
refused "the FILE is empty" --replay ''
refused "/absent" --replay "$TMP/absent"
echo "something else" >"$TMP/other"
refused "other: line 1: is not 'thaw-stress replay 1'" --replay "$TMP/other"
: >"$TMP/other"
refused "other: line 1: the file ends here" --replay "$TMP/other"
for option in --seed=1 --size=8M --processes=1 --threads=1 --ops=read --copiers=1 --chunk=4K --source=slow --background --numbering=off; do
	refused "${option%%=*} does not go with --replay" --replay "$TMP/other" $option
done

"$STRESS" --version | grep -qx 'thaw-stress [0-9.]*' || fail "--version"
"$STRESS" --help >"$TMP/help" || fail "--help"
awk 'length > 80 { long = 1 } END { exit long || NR > 24 }' "$TMP/help" || fail "--help does not fit 24 lines of 80"
"$STRESS" --help >/dev/full 2>/dev/null && fail "--help to a full device succeeds"

# help, manual page and completion name the same options, list and page the same operations
sed -n 's/^      \(--[a-z-]*\).*/\1/p' "$TMP/help" | sort >"$TMP/options"
[ "$(wc -l <"$TMP/options")" = 18 ] || fail "--help shows $(wc -l <"$TMP/options") options"
page=$THAW_SRCDIR/doc/man/thaw-stress.1
sed -n 's/^\.It Fl //p' "$page" | sed 's/ Ar .*//; s/ Ns .*//; s/ , /\n/g' | sed 's/^-/--/' | sort >"$TMP/page"
diff "$TMP/options" "$TMP/page" >"$TMP/diff.log" || fail "--help (<) and the manual page (>) differ"
bash -c '. "$1"; COMP_WORDS=(thaw-stress --); COMP_CWORD=1; _thaw_stress; printf "%s\n" "${COMPREPLY[@]}"' - \
	"$THAW_SRCDIR/contrib/completion/thaw-stress" | sort >"$TMP/completion"
diff "$TMP/options" "$TMP/completion" >"$TMP/diff.log" || fail "--help (<) and the completion (>) differ"
"$STRESS" --ops list | cut -d ' ' -f 1 | sort >"$TMP/ops"
sed -n '/^\.Sh OPERATIONS/,/^\.Sh VIOLATIONS/s/^\.It Cm //p' "$page" | tr -d ' ' | tr , '\n' | sort >"$TMP/page.ops"
diff "$TMP/ops" "$TMP/page.ops" >"$TMP/diff.log" || fail "--ops list (<) and the manual page (>) differ"

# What cannot be done here is said so, with status 77.
if is_debug_build; then
	refused "'melt' is no rule" --sabotage melt
	[ "$("$STRESS" --sabotage list | wc -l)" -ge 10 ] || fail "--sabotage list"
	[ "$("$STRESS" --inject list | wc -l)" -ge 10 ] || fail "--inject list"
	refused "the SPEC is empty" --inject ''
	refused "'zzz' is no point" --inject zzz:EIO:1
	refused "'' is no point" --inject :EIO:1
	for text in uffd.copy uffd.copy:EIO ',' 'uffd.copy:EIO:1,'; do
		refused "is not POINT:WHAT:COUNT" --inject "$text"
	done
	for text in EFOO '' 0 -1 4096 eio shorter delay delay=1 delay=us delay=-1us delay=100001us delay=1h; do
		refused "'$text' of uffd.copy is neither" --inject "uffd.copy:$text:1/4"
	done
	for text in 0 0/0 0/4 5/4 1/ /4 1/4294967296 +1 -1 1++ 1x '' 99999999999999999999 1:1; do
		refused "'$text' of uffd.copy is no count" --inject "uffd.zero:short:1,uffd.copy:EAGAIN:$text"
	done
	refused "more than 32 rules" --inject "$(yes uffd.copy:EIO:1 | head -n 33 | paste -sd ,)"
	refused "longer than 2047 bytes" --inject "$(yes uffd.copy:EIO:1 | head -n 200 | paste -sd ,)"
	# and the library can read what is not refused
	for text in uffd.copy:EAGAIN:7 uffd.copy:11:1000000+ uffd.copy:short:1/4 uffd.copy:delay=0us:1,uffd.copy:delay=3ms:1/9,uffd.zero:delay=1s:99999; do
		stress injected --inject "$text" --seconds 1 --size 1M --processes 1 --threads 1 --ops read || fail "$text: status $?"
	done
else
	for option in --sabotage=list --inject=uffd.copy:EAGAIN:1; do
		"$STRESS" $option 2>"$TMP/said.err"
		status=$?
		[ $status = 77 ] || fail "$option in a build that cannot do it: status $status"
		grep -q 'not possible here: .*--enable-debug' "$TMP/said.err" || fail "$option: $(cat "$TMP/said.err")"
	done
fi
say "refused by name; help, page and completion agree"
