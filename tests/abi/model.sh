#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/abi/model.sh - what doc/model/README.md says of the code is there: each function that its table names, in the file that it
# names; each switch and moment that runs.txt uses is one of the model's; and the table of verdicts names the runs that exist.
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
cd "$THAW_SRCDIR" || exit 1
model=doc/model

# file: `function()`, ... pairs of the second column
pairs=$(awk -F'|' '/^## Model and code/ { on = 1 } /^`tests/ { on = 0 } on && NF == 4 { print $3 }' $model/README.md |
	grep -oE '`[^`]*`' | tr -d '\140' | awk '/^src\// { file = $0; next } /\(\)$/ { sub(/\(\)/, ""); print file, $0 }')
[ "$(wc -l <<<"$pairs")" -gt 25 ] || fail "the table of $model/README.md was not found"
while read -r file function; do
	[ -f "$file" ] || fail "$model/README.md names $file, which is not there"
	# a definition: the name at the head of a line, behind a type
	grep -qE "^[a-z].*[ *]$function\(" "$file" ||
		fail "$model/README.md names $function() in $file, where no such function is defined"
done <<<"$pairs"

words=$(sed -E 's/#.*//' $model/runs.txt | grep -oE -- '-D[A-Z_0-9]+' | sort -u | sed 's/^-D//')
for word in $words; do
	grep -qwE "$word" $model/*.pml || fail "runs.txt uses -D$word, which no part of the model knows"
done
moments=$(grep -v '^#' $model/runs.txt | awk -F'|' 'NF > 4 { print $5 }')
for moment in $moments; do
	grep -qE "SEEN\($moment\)" $model/*.pml || fail "runs.txt asks for the moment $moment, which the model does not count"
done
names=$(awk -F'|' '!/^#/ && NF > 3 { gsub(/ /, "", $1); print $1 }' $model/runs.txt | sort)
[ -z "$(uniq -d <<<"$names")" ] || fail "runs.txt has two runs of one name: $(uniq -d <<<"$names")"
told=$(awk -F'|' '/^## Verdicts/ { on = 1 } on && NF == 6 && !/---|states/ { gsub(/ /, "", $2); print $2 }' $model/README.md | sort)
[ "$names" = "$told" ] || fail "runs.txt and the table of verdicts differ:
$(diff <(echo "$names") <(echo "$told"))"
"$THAW_SRCDIR/doc/model/check-model" -l >/dev/null || fail "check-model -l"
"$THAW_SRCDIR/doc/model/check-model" -f medium 2>/dev/null
[ $? = 2 ] || fail "an unknown form is not refused"
# with -t the way to a violation is shown; without spin there are no ways
if command -v spin >/dev/null && command -v gcc >/dev/null; then
	"$THAW_SRCDIR/doc/model/check-model" -t -o "$TMP/model" no-bisect >"$TMP/way" || fail "no-bisect: $(tail -n 3 "$TMP/way")"
	grep -q 'proc .*(copier)' "$TMP/way" || fail "check-model -t shows no way"
fi
