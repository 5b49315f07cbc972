#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/cli/real_python.sh - python3 with threads and a big dictionary
. "${THAW_SRCDIR:-$(dirname "$0")/../..}/tests/support/functions.sh"
. "$THAW_SRCDIR/tests/cli/real.inc"
requires_root
requires python3

cat >"$TMP/job.py" <<'END'
import hashlib, random, threading
words = {}
lock = threading.Lock()
def fill(n):
    rng = random.Random(n)
    for i in range(60000):
        with lock:
            words["%d/%d" % (n, i)] = rng.randbytes(rng.randrange(16, 400))
threads = [threading.Thread(target=fill, args=(n,)) for n in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
results, turn = {}, threading.Condition()
def work(n):
    rng = random.Random(100 + n)
    for r in range(1200):
        d = hashlib.sha1()
        for _ in range(100):
            d.update(words["%d/%d" % (rng.randrange(4), rng.randrange(60000))])
        with turn:
            results.setdefault(r, {})[n] = d.hexdigest()
            turn.notify_all()
workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in workers]
for r in range(1200):
    with turn:
        turn.wait_for(lambda: len(results.get(r, ())) == 4)
    print(r, [results[r][n] for n in range(4)], flush=True)
[t.join() for t in workers]
d = hashlib.sha1()
for k in sorted(words):
    d.update(k.encode()); d.update(words[k])
print(len(words), d.hexdigest())
END
interrupted 60 "$PYTHON" "$TMP/job.py"
