#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/abi/install.sh - an installed tree: a stranger's program finds libthaw through pkg-config, links and runs
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
CC=${CC:-cc}
requires make pkg-config "${CC%% *}"

root=$TMP/root
# a make of its own: the outer one's job server is not ours to use
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$THAW_BUILDDIR" install DESTDIR="$root" >"$TMP/install.log" 2>&1 ||
	fail "make install"
pc=$(find "$root" -name libthaw.pc)
[ -n "$pc" ] || fail "libthaw.pc is not installed"
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$root
[ "$(pkg-config --modversion libthaw)" = "$(sed -n 's/^PACKAGE_VERSION = //p' "$THAW_BUILDDIR/Makefile")" ] ||
	fail "libthaw.pc has another version than the build"
libdir=$root$(pkg-config --variable=libdir libthaw | sed "s,^$root,,")

# shellcheck disable=SC2046,SC2086 # several words on purpose
$CC ${THAW_SANITIZER_CFLAGS:-} -std=c99 -o "$TMP/user" "$THAW_SRCDIR/tests/abi/user.c" \
	$(pkg-config --cflags --libs libthaw) 2>"$TMP/cc.log" || fail "user.c does not build with pkg-config's flags"
version=$(LD_LIBRARY_PATH=$libdir "$TMP/user") || fail "user: $version"
[ "$version" = "$(pkg-config --modversion libthaw)" ] || fail "user says version '$version'"

# Bug: GnuTLS was not among what libthaw.a needs. An archive of all that libthaw.so is made of, where none is built.
mkdir "$TMP/static"
archive=$(find "$root" -name libthaw.a)
if [ -n "$archive" ]; then
	cp "$archive" "$TMP/static/"
else
	cp "$THAW_BUILDDIR/.libs/libthaw-core.a" "$TMP/static/libthaw.a" &&
		ar r "$TMP/static/libthaw.a" "$THAW_BUILDDIR/src/lib/.libs/version.o" 2>"$TMP/ar.log" || fail "no archive can be made"
fi
# shellcheck disable=SC2046,SC2086 # several words on purpose
$CC ${THAW_SANITIZER_CFLAGS:-} -std=c99 -o "$TMP/user.static" "$THAW_SRCDIR/tests/abi/user.c" \
	$(pkg-config --cflags libthaw) -L"$TMP/static" -Wl,--whole-archive -lthaw -Wl,--no-whole-archive \
	$(pkg-config --static --libs libthaw) 2>"$TMP/cc.log" || fail "user.c does not link with libthaw.a and pkg-config --static"
! readelf -d "$TMP/user.static" | grep -q 'NEEDED.*libthaw' || fail "what was linked with libthaw.a needs libthaw.so"
[ "$("$TMP/user.static")" = "$version" ] || fail "what was linked with libthaw.a does not run"
for library in $(readelf -d "$THAW_BUILDDIR/.libs/libthaw.so" | sed -n 's/.*NEEDED.*\[lib\(.*\)\.so.*/\1/p' | grep -vxE 'c|asan|ubsan|tsan|gcc_s'); do
	pkg-config --static --libs libthaw | grep -qw -e "-l$library" || fail "libthaw.so needs $library, and libthaw.pc does not name it"
done

# The program runs from there, needs no library of ours at run time, and its manual pages came along.
bindir=$root$(sed -n 's/^prefix = //p' "$THAW_BUILDDIR/Makefile")/bin
[ -x "$bindir/thaw" ] || fail "thaw is not installed"
! readelf -d "$bindir/thaw" | grep 'NEEDED.*libthaw' || fail "thaw links libthaw.so"
[ -n "$("$bindir/thaw" --version)" ] || fail "the installed thaw does not run"
for page in man1/thaw.1 man3/thaw_create.3 man7/libthaw.7; do
	[ -n "$(find "$root" -path "*/man/$page")" ] || fail "$page is not installed"
done
[ -z "$(find "$root" -name 'thaw-bench*')" ] || fail "thaw-bench is installed"

env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$THAW_BUILDDIR" uninstall DESTDIR="$root" >"$TMP/uninstall.log" 2>&1 ||
	fail "make uninstall"
left=$(find "$root" ! -type d)
[ -z "$left" ] || fail "make uninstall leaves $left"
