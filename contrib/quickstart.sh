#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# contrib/quickstart.sh - from a fresh clone to a process restored behind its memory: installs the packages of the
# build, builds in build-quickstart, and runs the demonstration (contrib/demo/run.sh).
set -eu
umask 022
# A stranger's pipe that the demonstration's process would inherit is a reason to refuse its checkpoint.
for fd in /proc/self/fd/*; do
	fd=${fd##*/}
	[ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
done
src=$(cd "$(dirname "$0")/.." && pwd)
build=$src/build-quickstart

"$src/contrib/packages.sh" build
mkdir -p "$build"
if [ -f "$src/config.status" ]; then
	echo "this source tree was configured in place; run 'make distclean' first" >&2
	exit 1
fi
echo "building in $build (the log is $build/build.log)"
(
	[ -x "$src/configure" ] || (cd "$src" && autoreconf -fi)
	cd "$build"
	[ -f Makefile ] || "$src/configure" -q
	make -j"$(nproc)"
) >"$build/build.log" 2>&1 || { tail -n 30 "$build/build.log"; echo "the build failed"; exit 1; }
exec "$src/contrib/demo/run.sh" "$build"
