#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/abi/style.sh - what can be checked by machine: licence lines, layers, line length, symbol names, pages, scripts
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
cd "$THAW_SRCDIR" || exit 1
shopt -s nullglob
bad=0

complain()
{
	[ -z "$2" ] || { say "$1:"; echo "$2"; bad=1; }
} >&2

sources=$(find include src tests -name '*.[ch]' -o -name '*.proto' | sort)
[ -n "$sources" ] || fail "no sources found"
# shellcheck disable=SC2086 # names without spaces
{
	complain "no SPDX line" "$(grep -L 'SPDX-License-Identifier: LGPL-2.1-or-later' $sources)"
	complain "longer than 140 columns without a message in it (aim at 120)" "$(awk 'length($0) > 70 && !/"/ {
		column = 0
		n = split($0, part, "\t")
		for (i = 1; i < n; i++) {
			column += length(part[i])
			column += 8 - column % 8
		}
		if (column + length(part[n]) > 140)
			print FILENAME ":" FNR
	}' $sources)"
	complain "left for later" "$(grep -nwE 'TODO|FIXME|XXX|HACK' $sources)"
}
complain "core asks the kernel" "$(grep -nE '#include <(linux|sys|asm)/|\bsyscall\(' src/core/*.[ch])"
complain "kern includes core" "$(grep -nE '#include "(core|engine|proto|source|image|checkpoint)/' src/kern/*.[ch] src/util/*.[ch])"
complain "core includes upwards" "$(grep -nE '#include "(kern|engine|source|image|checkpoint|cli)/' src/core/*.[ch])"
complain "proto is not pure" "$(grep -nE '#include (<(linux|sys|asm)/|"(kern|core|image|source|engine|checkpoint|cli)/)' src/proto/*.[ch])"
complain "image or source includes upwards" \
	"$(grep -nE '#include "(engine|checkpoint|cli|lib)/' src/image/*.[ch] src/source/*.[ch])"
complain "thaw-stress includes the library's inside" \
	"$(grep -nE '#include "' src/stress/*.[ch] src/stress/worker/*.[ch] | grep -vE '"(config|thaw|stress/[a-z/]*|util/sabotage|util/inject)\.h"')"
complain "engine includes upwards" "$(grep -nE '#include "(checkpoint|cli|lib|lazy)/' src/engine/*.[ch])"
complain "lazy includes sideways or upwards" "$(grep -nE '#include "(engine|checkpoint|cli|lib)/' src/lazy/*.[ch])"

complain "a rule to break that no code breaks" "$(sed -n 's/^\tX(\([A-Z0-9_]*\),.*/\1/p' src/util/sabotage.h |
	while read -r id; do grep -rqE "THAW_SABOTAGE\($id\)" src --include='*.c' || echo "$id"; done)"
used=$(grep -rhoE 'THAW_INJECT(_ERRNO|_SHORT)?\("[a-z.]+"|"process\.(read|write)"' src --include='*.c' --include=alloc.h |
	grep -oE '"[a-z.]+"' | tr -d '"' | sort -u)
listed=$(sed -n 's/^\tX("\([a-z.]*\)",.*/\1/p' src/util/inject.h | sort -u)
complain "fault points listed but not there (<), there but not listed (>)" "$(diff <(echo "$listed") <(echo "$used") | grep '^[<>]')"

if [ -f "$THAW_BUILDDIR/.libs/libthaw-core.a" ]; then
	complain "global symbols without thaw_" "$(nm --defined-only -g "$THAW_BUILDDIR/.libs/libthaw-core.a" 2>/dev/null |
		awk 'NF == 3 && $2 ~ /[TDBR]/ && $3 !~ /^_*thaw_|^__odr_asan|^__asan|^__tsan/ { print $3 }' | sort -u)"
fi
if command -v mandoc >/dev/null; then
	complain "mandoc -T lint" "$(for page in doc/man/*.[1-9]; do
		grep -q '^\.so ' "$page" || mandoc -T lint -W warning "$page"; done)"
else
	say "mandoc is not installed: pages are not checked"
fi
if command -v shellcheck >/dev/null; then
	# shellcheck disable=SC2046
	complain "shellcheck" "$(find contrib tests \( -name '*.sh' -o -path tests/guest/run -o -path tests/guest/inside \
		-o -path contrib/kernel/build -o -path contrib/kernel/test -o -path contrib/kernel/matrix \) -print0 |
		xargs -0 shellcheck -S warning -x -e SC1090,SC1091)"
else
	say "shellcheck is not installed: scripts are not checked"
fi
exit $bad
