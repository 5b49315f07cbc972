#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/abi/agreement.sh - header, symbol map, shared library and manual pages name the same functions
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
requires nm

# A declaration may go over several lines: join up to the semicolon, then take the name before the first bracket.
sed -e 's,/\*.*\*/,,' "$THAW_SRCDIR/include/thaw.h" | grep '^THAW_PUBLIC' |
	sed -n 's/^THAW_PUBLIC [^(]*[ *]\(thaw_[a-z0-9_]*\)(.*/\1/p' | sort >"$TMP/header"
sed -n 's/^[[:space:]]*\(thaw_[a-z0-9_]*\);.*/\1/p' "$THAW_SRCDIR/src/lib/libthaw.map" | sort >"$TMP/map"
nm -D --defined-only "$THAW_BUILDDIR/.libs/libthaw.so" | awk '$2 ~ /[TDBRWV]/ { sub(/@.*/, "", $3); print $3 }' |
	sort >"$TMP/library"
for page in "$THAW_SRCDIR"/doc/man/thaw_*.3; do
	basename "$page" .3
done | sort >"$TMP/pages"

[ "$(grep -c '^THAW_PUBLIC' "$THAW_SRCDIR/include/thaw.h")" = "$(wc -l <"$TMP/header")" ] ||
	fail "a THAW_PUBLIC line of thaw.h was not understood"
[ "$(wc -l <"$TMP/header")" -gt 10 ] || fail "thaw.h: only $(wc -l <"$TMP/header") functions found"
for what in map library pages; do
	diff -u "$TMP/header" "$TMP/$what" >"$TMP/diff.log" || fail "thaw.h and the $what differ (-: thaw.h, +: $what)"
done

# A page is a page, or a link to one, and each function is named in the page that it leads to.
while read -r f; do
	page=$THAW_SRCDIR/doc/man/$f.3
	target=$(sed -n 's,^\.so man3/\(.*\)$,\1,p' "$page")
	[ -z "$target" ] || page=$THAW_SRCDIR/doc/man/$target
	[ -f "$page" ] || fail "$f.3 leads to $target, which does not exist"
	grep -q "^\.Nm $f\b" "$page" || fail "$page does not name $f under NAME"
	grep -q "^\.Fo $f$\|^\.Fn $f\b\|^\.Fn $f$" "$page" || fail "$page has no synopsis of $f"
done <"$TMP/header"

# libthaw(7) leads to each: by its name or by its page.
while read -r f; do
	grep -qE "^\.(It )?(Xr|Fn) $f\b" "$THAW_SRCDIR/doc/man/libthaw.7" || fail "libthaw(7) does not name $f"
done <"$TMP/map"
for f in $(sed -nE 's/^\.(It )?(Xr|Fn) (thaw_[a-z_]*).*/\3/p' "$THAW_SRCDIR/doc/man/libthaw.7"); do
	grep -qx "$f" "$TMP/map" || fail "libthaw(7) names $f, which is no function"
done

# Every error code that a page lists is one the C library knows, and every page lists errors or says there are none.
for page in "$THAW_SRCDIR"/doc/man/thaw_*.3; do
	grep -q '^\.so ' "$page" || grep -q '^\.Sh ERRORS' "$page" || fail "$page has no section ERRORS"
done
say "$(wc -l <"$TMP/header") functions agree"
