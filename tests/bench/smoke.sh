#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# smoke.sh: thaw-bench runs from end to end, and its JSON has exactly the keys that doc/bench.md names
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"

bench=$THAW_BUILDDIR/thaw-bench
[ -x "$bench" ] || skip "thaw-bench has not been built"
timeout 120 "$bench" --quick --size 64M --json >"$TMP/json" 2>"$TMP/bench.err" || fail "thaw-bench --quick --json"
grep -o '^| `[a-zA-Z0-9_.]*`' "$THAW_SRCDIR/doc/bench.md" | tr -d '|` ' | sort >"$TMP/documented"
grep -o '^ *"[a-zA-Z0-9_.]*":' "$TMP/json" | tr -d '": ' | sort >"$TMP/printed"
sed -i '/^criu[._]/d' "$TMP/documented" # with --criu alone
[ -x "$THAW" ] || sed -i /^thaw.restore/d "$TMP/documented"
[ -s "$TMP/documented" ] || fail "doc/bench.md names no keys"
diff -u "$TMP/documented" "$TMP/printed" || fail "the keys of the JSON are not those of doc/bench.md"
if command -v python3 >/dev/null; then
	python3 - "$TMP/json" <<-'EOF' || fail "the figures"
	import json, sys
	o = json.load(open(sys.argv[1]))
	f = o["figures"]
	assert o["size"] == 64 << 20 and o["rounds"] == 1 and o["quick"] is True
	bad = [k for k, v in f.items() if not v["best"] >= 0 or (k.endswith("p50") and not 0.5 < v["best"] < 1e6)]
	assert not bad, bad
	assert f["thaw.drain.faults.count"]["best"] > 0
	EOF
fi
timeout 120 "$bench" --quick --size 64M >"$TMP/table" 2>"$TMP/bench.err" || fail "thaw-bench --quick"
grep -q 'thaw.fault.idle.p50 ' "$TMP/table" && grep -q -E '(reached|missed)$' "$TMP/table" || fail "the table"
"$bench" --help | grep -q -e --rounds || fail "--help"
"$bench" --help | grep -q -e '--criu FILE' || fail "--help does not know --criu"
"$bench" --criu /nonexistent --size 16M >"$TMP/x" 2>&1 && fail "--criu /nonexistent was taken"
[ "$(wc -l <"$TMP/x")" = 1 ] || fail "--criu /nonexistent: not one sentence"
if [ "$(id -u)" = 0 ] && command -v redis-server >/dev/null && [ -n "${CRIU:-}" ]; then
	timeout 250 "$bench" --criu "$CRIU" --size 32M --rounds 1 --json >"$TMP/json" 2>"$TMP/bench.err" || fail "thaw-bench --criu"
	grep -o '^| `criu[a-zA-Z0-9_.]*`' "$THAW_SRCDIR/doc/bench.md" | tr -d '|` ' | sort >"$TMP/documented"
	grep -o '^ *"criu[a-zA-Z0-9_.]*":' "$TMP/json" | tr -d '": ' | sort >"$TMP/printed"
	diff -u "$TMP/documented" "$TMP/printed" || fail "the keys of --criu are not those of doc/bench.md"
fi
"$bench" --size 1X 2>"$TMP/x" && fail "--size 1X was taken"
grep -q -e '--size 1X' "$TMP/x" || fail "the message for --size 1X"
