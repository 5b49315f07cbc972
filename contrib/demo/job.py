# SPDX-License-Identifier: LGPL-2.1-or-later
# contrib/demo/job.py - a long computation: threads build several hundred MiB of data, then work through it and
# print a line a round. What it prints depends on nothing but the data, so two runs print the same.
#
#	python3 job.py [MIB [ROUNDS]]
import hashlib
import random
import sys
import threading

MIB = int(sys.argv[1]) if len(sys.argv) > 1 else 512
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
THREADS = 4
BLOCK = 64 * 1024
WORDS = 400_000


def build(shard, seed):
    rng = random.Random(seed)
    for _ in range(MIB * 1024 * 1024 // THREADS // BLOCK):
        shard.append(bytearray(rng.randbytes(BLOCK)))


def work(shard, number, start, done, results):
    rng = random.Random(1000 + number)
    for r in range(ROUNDS):
        start[r & 1].wait()
        digest = hashlib.blake2b(digest_size=8)
        for _ in range(100):
            block = shard[rng.randrange(len(shard))]
            at = rng.randrange(BLOCK - 256)
            digest.update(block[at:at + 256])
            block[at] ^= digest.digest()[0]
        results[number] = digest.hexdigest()
        done.wait()


def main():
    shards = [[] for _ in range(THREADS)]
    builders = [threading.Thread(target=build, args=(s, i)) for i, s in enumerate(shards)]
    for t in builders:
        t.start()
    words = {"word-%d" % i: hashlib.md5(b"%d" % i).hexdigest() for i in range(WORDS)}
    for t in builders:
        t.join()
    print("built %d MiB in %d threads, and %d words" % (MIB, THREADS, WORDS), flush=True)

    start = [threading.Barrier(THREADS + 1), threading.Barrier(THREADS + 1)]
    done = threading.Barrier(THREADS + 1)
    results = [None] * THREADS
    workers = [threading.Thread(target=work, args=(s, i, start, done, results), daemon=True)
               for i, s in enumerate(shards)]
    for t in workers:
        t.start()
    rng = random.Random(7)
    for r in range(ROUNDS):
        start[r & 1].wait()
        found = "".join(words["word-%d" % rng.randrange(WORDS)][:2] for _ in range(50))
        done.wait()
        print("round %4d: %s %s" % (r, " ".join(results), hashlib.md5(found.encode()).hexdigest()[:8]), flush=True)

    # Every byte of it, so that one wrong byte anywhere shows.
    everything = hashlib.blake2b(digest_size=16)
    for shard in shards:
        for block in shard:
            everything.update(block)
    for i in range(WORDS):
        everything.update(words["word-%d" % i].encode())
    print("all data: %s" % everything.hexdigest(), flush=True)


main()
