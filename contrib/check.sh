#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# contrib/check.sh - everything, from a fresh clone on Debian 12: installs the packages, builds with warnings as errors
# and runs every test: the suite; those that are meant for it under ThreadSanitizer; the suite, in its short form, under AddressSanitizer;
# the live tests on two other kernels in QEMU, in their short form; the model of the protocol, each fuzz target for a short time, and the
# release archive. (HACKING.md names the long forms.) The last line is "N passed, N failed"; what was skipped, or passed only when it was run
# once more, is told before.
# Everything is built in build-check below the source tree; FUZZ_SECONDS (6), FUZZ_SEED (1; 0: another one each time), JOBS (all
# processors) and THAW_CHECK_WHOLE (1: nothing is left out on a slow machine) may be set.
set -u -o pipefail
umask 022
export LC_ALL=C
export CONFIG_SHELL=/bin/sh # libtool is a script: where that is dash it takes half the time
exec </dev/null
src=$(cd "$(dirname "$0")/.." && pwd) || exit 1
build=$src/build-check
jobs=${JOBS:-$(nproc)}
passed=0
failed=0
skipped=0
second_runs=0
second_passed=0
started=$SECONDS

stage()
{
	echo
	echo "== $* (at $((SECONDS - started)) s)"
}

die()
{
	echo "check.sh: $*" >&2
	echo "0 passed, 1 failed"
	exit 1
}

fail_one()
{
	echo "FAIL: $*"
	failed=$((failed + 1))
}

# alone DIR TEST: a test that failed beside others gets one more run with the machine to itself. A machine that others use as
# well can make a test miss its moment; what a sanitizer reports, a race test, or more than a few failures are no such thing.
alone()
{
	local dir=$1 test=$2
	case $test in tests/race/* | tests/unit/*) return 1 ;; esac
	[ "$second_runs" -lt 8 ] || return 1
	! grep -qE 'Sanitizer|runtime error:' "$dir/$test.log" || return 1
	second_runs=$((second_runs + 1))
	echo "AGAIN: $test failed beside other tests; the end of its log:"
	tail -n 40 "$dir/$test.log" | sed 's/^/    /'
	if [ "$dir" = "$build/build-guest" ]; then # KERNEL/TEST
		local kernel=${test%%/*} inside=${test#*/}
		[ ! -e "$src/$inside.sh" ] || inside=$inside.sh
		"$src/tests/guest/run" --builddir "$build" --out "$build/build-guest-again" "$kernel" -- "$inside" \
			>"$build/again.log" 2>&1 </dev/null || return 1
		echo "AGAIN: $test passed alone"
		return
	fi
	[ ! -e "$src/$test.sh" ] || test=$test.sh
	make -C "$dir" check TESTS="$test" >"$build/again.log" 2>&1 </dev/null || return 1
	echo "AGAIN: $test passed alone"
}

# totals NAME DIR MAKE_STATUS: adds up what the test records in DIR say; a part that ran nothing has failed
totals()
{
	local name=$1 dir=$2 status=$3 trs log p=0 f=0 s=0 again=0
	while IFS= read -r trs; do
		log=${trs%.trs}.log
		case $(sed -n 's/^:global-test-result: //p' "$trs") in
		PASS) p=$((p + 1)) ;;
		SKIP)
			s=$((s + 1))
			echo "SKIP: $name: ${trs#"$dir/"}: $( (grep -i skip "$log" || tail -n 1 "$log") | head -n 1 | cut -c 1-200)"
			;;
		*)
			if alone "$dir" "$(test=${trs#"$dir/"} && echo "${test%.trs}")"; then
				p=$((p + 1))
				again=$((again + 1))
				continue
			fi
			f=$((f + 1))
			echo "FAIL: $name: ${trs#"$dir/"}; the end of its log:"
			tail -n 40 "$log" | sed 's/^/    /'
			;;
		esac
	done < <(find "$dir" -name '*.trs' -not -path "$dir/build-*" | sort)
	echo "$name: $p passed, $f failed, $s skipped"
	passed=$((passed + p))
	failed=$((failed + f))
	skipped=$((skipped + s))
	second_passed=$((second_passed + again))
	if [ "$status" != 0 ] && [ "$f" = 0 ] && [ "$again" = 0 ]; then
		fail_one "$name: make failed before or beside the tests"
		tail -n 40 "$build/$name.log"
	elif [ "$p" = 0 ] && [ "$f" = 0 ] && { [ "$s" = 0 ] || [ "$name" != check-guest ]; }; then
		fail_one "$name: no test has run"
	fi
}

# run NAME COMMAND...: in the build directory, its output in NAME.log and, shortened, here
run()
{
	local name=$1
	shift
	(cd "$build" && "$@") >"$build/$name.log" 2>&1
	local status=$?
	grep -E '^(FAIL|ERROR|XPASS): |warning:|error:|FUZZ (PASS|FAIL)' "$build/$name.log" | sort -u | head -n 60
	return $status
}

stage "packages"
"$src/contrib/packages.sh" all || die "the packages of contrib/packages.txt could not be installed"

stage "configure and build"
rm -rf "$build"
mkdir -p "$build" || die "cannot make $build"
if [ -f "$src/config.status" ]; then
	# a source tree that was configured in place cannot be built beside: take a copy
	mkdir "$build/source" &&
		tar -C "$src" --exclude='./build*' --exclude=./.git -cf - . | tar -C "$build/source" -xf - &&
		make -s -C "$build/source" distclean >/dev/null || die "cannot copy the configured source tree"
	src=$build/source
fi
(cd "$src" && autoreconf -fi) >"$build/autoreconf.log" 2>&1 || { cat "$build/autoreconf.log"; die "autoreconf failed"; }
# The tests' own scratch directory: what is left in it at the end was left behind by a test.
TMPDIR=$(mktemp -d /tmp/thaw-check.XXXXXX) || die "no scratch directory"
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
flags=(--enable-werror)
run configure "$src/configure" --enable-debug "${flags[@]}" || { tail -n 20 "$build/configure.log"; die "configure failed"; }
began=$SECONDS
run make make -j"$jobs" || { tail -n 40 "$build/make.log"; die "the build failed"; }
# On some machines every process that starts costs several times as much (page faults under some hypervisors), and all this would take twice
# as long. There tests take their brief form, each fuzz target half its time, and the guests are one kernel instead of two.
seconds=6
asan_form=short
guest_kernels=
if [ $((SECONDS - began)) -gt 30 ] && [ -z "${THAW_CHECK_WHOLE:-}" ]; then
	echo "SLOW: make took $((SECONDS - began)) s: brief tests (no scripts of whole programs under AddressSanitizer), one guest kernel, half the fuzzing; THAW_CHECK_WHOLE=1 for all of it"
	export THAW_TEST_BRIEF=1 THAW_TEST_ROUNDS=3
	seconds=3
	asan_form=brief
	guest_kernels=GUEST_KERNELS=6.1
fi
fuzz_seconds=${FUZZ_SECONDS:-$seconds}

stage "make check"
run check make -j"$jobs" -k check
totals check "$build" $?

stage "make check-race (ThreadSanitizer)"
run check-race make -j"$jobs" -k check-race SUBBUILD_CONFIGURE_FLAGS="${flags[*]}"
totals check-race "$build/build-race" $?

stage "make check-asan (AddressSanitizer, UndefinedBehaviorSanitizer)"
run check-asan make -j"$jobs" -k check-asan ASAN_FORM="${ASAN_FORM:-$asan_form}" SUBBUILD_CONFIGURE_FLAGS="${flags[*]}"
totals check-asan "$build/build-asan" $?

stage "make check-guest (QEMU: the live tests on Debian's kernels 6.1 and 6.12, CRIU beside thaw)"
# shellcheck disable=SC2086 # nothing, or one word
run check-guest make -k check-guest $guest_kernels
status=$?
# An emulated processor now and then runs into an instruction that another one is just patching. Such a guest is booted once more.
if grep -qs 'Oops: int3' "$build"/build-guest/*/console.log; then
	echo "AGAIN: check-guest: a guest's kernel ended in the emulation (int3 of its own patching)"
	# shellcheck disable=SC2086
	run check-guest make -k check-guest $guest_kernels
	status=$?
fi
totals check-guest "$build/build-guest" $status

stage "make check-model (the protocol, under spin)"
MODEL_FORM=${MODEL_FORM:-short} run check-model make check-model JOBS="$jobs"
totals check-model "$build/build-model" $?

stage "fuzz targets, $fuzz_seconds s each"
mkdir -p "$build/build-fuzz"
fuzz()
{
	cd build-fuzz && "$src/configure" -q CC=clang --enable-debug --enable-fuzz CFLAGS='-gline-tables-only -O1' &&
		make -j"$jobs" fuzz-programs && make -k -j"$jobs" fuzz FUZZ_SECONDS="$fuzz_seconds" FUZZ_SEED="${FUZZ_SEED:-1}"
}
run fuzz fuzz
status=$?
p=$(grep -c '^FUZZ PASS' "$build/fuzz.log")
f=$(grep -c '^FUZZ FAIL' "$build/fuzz.log")
passed=$((passed + p))
failed=$((failed + f))
if [ "$f" != 0 ] || [ "$p" = 0 ] || [ "$status" != 0 ]; then
	tail -n 60 "$build/fuzz.log"
	[ "$f" != 0 ] || fail_one "fuzz: could not be built or ran nothing"
fi

stage "make distcheck (a release build from the archive; its unit tests)"
# in_archive: whatever is kept of the sources is in it, as far as git can tell
in_archive()
{
	local absent
	[ -e "$src/.git" ] || return 0
	absent=$(comm -13 <(tar -tf "$build"/thaw-*.tar.xz | sed 's|^[^/]*/||' | sort) \
		<(git -C "$src" ls-files | grep -vx .gitignore | sort)) || return 1
	[ -z "$absent" ] || { echo "not in the archive:"; echo "$absent"; return 1; } >&2
}
if run distcheck make -j"$jobs" distcheck-short && in_archive; then
	passed=$((passed + 1))
else
	tail -n 40 "$build/distcheck.log"
	fail_one "distcheck"
fi

stage "what was left behind"
left=$(find "$TMPDIR" -mindepth 1 -maxdepth 1 | head -n 20)
for environ in /proc/[0-9]*/environ; do
	pid=${environ#/proc/}
	pid=${pid%/environ}
	if grep -qsazx "TMPDIR=$TMPDIR" "$environ" && [ "$(ps -o ppid= -p "$pid" | tr -d ' ')" != "$$" ]; then
		left="$left process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline"))"
	fi
done 2>/dev/null
if [ -z "$left" ]; then
	echo "nothing"
	passed=$((passed + 1))
else
	fail_one "left behind: $left"
fi

echo
echo "took $((SECONDS - started)) s"
[ "$second_passed" = 0 ] || echo "$second_passed of those that passed did so on a second run, see AGAIN above"
[ "$skipped" = 0 ] || echo "$skipped skipped, see SKIP above"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
