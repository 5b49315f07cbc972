#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/live/without_uring.sh - where io_uring is forbidden content is read by the pool of threads: restores, live programs, cold images
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires "$PYTHON"

# No setting of the machine is changed, for others use it: a system call filter on what is run here alone.
NO_URING=$THAW_BUILDDIR/tests/support/no_uring
"$NO_URING" true 2>"$TMP/filter.err" || skip "no system call filter: $(cat "$TMP/filter.err")"
"$NO_URING" "$THAW" check >"$TMP/check"
grep -q 'io_uring: .*: not permitted' "$TMP/check" || fail "under the filter io_uring is: $(grep io_uring "$TMP/check")"

export THAW_TEST_BRIEF=1
for program in live/test_basic live/test_start_faults live/test_many live/test_failures lazy/cold_images; do
	timeout 60 "$NO_URING" "$THAW_BUILDDIR/tests/$program" </dev/null >"$TMP/program.log" 2>&1
	status=$?
	[ $status = 0 ] || [ $status = 77 ] || fail "$program ends with $status"
	say "$program: $([ $status = 0 ] && echo passed || tail -n 1 "$TMP/program.log")"
done

# Only thaw restore runs under the filter: whoever inherits one is refused at checkpoint.
cat >"$TMP/thaw" <<END
#!/bin/sh
[ "\$1" != restore ] || exec "$NO_URING" "$THAW" "\$@"
exec "$THAW" "\$@"
END
chmod 755 "$TMP/thaw"
THAW_TEST_PROGRAM=$TMP/thaw THAW_TEST_ITEMS="anon private-file stack" THAW_TEST_WAYS="lazy stay-lazy" \
	bash "$THAW_SRCDIR/tests/live/scope_memory.sh" || fail "scope_memory.sh"
THAW=$TMP/thaw

before_restore()
{
	sync "$IMAGE"/pages-1.img
	dd if="$IMAGE/pages-1.img" iflag=nocache count=0 status=none # out of the page cache, where it is on a disk
}
cat >"$TMP/job.py" <<'END'
import hashlib, random, time
r = random.Random(1)
data = [r.randbytes(1 << 16) for i in range(400)]
for i in range(400):
    print(i, hashlib.sha1(data[(i * 151) % 400]).hexdigest(), flush=True)
    time.sleep(0.005)
END
interrupted 40 "$PYTHON" "$TMP/job.py"
