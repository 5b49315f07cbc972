#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/abi/header.sh - thaw.h stands alone, as strict C99, as C11 and as C++
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
CC=${CC:-cc}
CXX=${CXX:-c++}
requires "${CC%% *}"

printf '#include "thaw.h"\n#include "thaw.h"\nint main(void) { return thaw_get_errno() != 0; }\n' >"$TMP/alone.c"
cp "$TMP/alone.c" "$TMP/alone.cc"
for std in c99 c11; do
	$CC -std=$std -pedantic-errors -Wall -Wextra -Wundef -Werror -I"$THAW_SRCDIR/include" -c -o "$TMP/alone.o" \
		"$TMP/alone.c" 2>"$TMP/cc.log" || fail "thaw.h does not compile as $std"
done
if command -v "${CXX%% *}" >/dev/null; then
	for std in c++11 c++17; do
		$CXX -std=$std -pedantic-errors -Wall -Wextra -Werror -I"$THAW_SRCDIR/include" -c -o "$TMP/alone.o" \
			"$TMP/alone.cc" 2>"$TMP/cxx.log" || fail "thaw.h does not compile as $std"
	done
	# names are C names for a C++ program, too
	nm "$TMP/alone.o" | grep -q ' U thaw_get_errno$' || fail "thaw_get_errno is mangled in C++"
else
	say "no C++ compiler: C only"
fi
! grep -n '#include <\(linux\|sys\|asm\)/' "$THAW_SRCDIR/include/thaw.h" || fail "thaw.h includes a kernel header"
