#!/usr/bin/env python3
"""Collections to search, each a .npy of rows of length one, made from a seed.

usage: data.py KIND ROWS OUT.npy [--base DIR] [--first ROW]

KIND real-like: row i is a point between two real embeddings a and b (picked at random from the folder
--base, which `xqg encode --corpus` wrote) with noise, scaled to length one:
    x = (1 - t) a + t b + s * g / sqrt(3),  t uniform in 0..1
where g is standard normal and s the real embeddings' standard deviation, number by number. Between two
points lies 2/3 of the variance on average; the noise gives back the third that is missing, so the
spread and the mean cosine stay those of the real ones.
KIND white: g, scaled to length one: no structure at all.

Rows come in blocks of 10,000 with a seed each, so a smaller collection is the beginning of a greater one;
--first takes later rows, for queries that are not in it. Prints what the rows are like.
"""
import argparse
from pathlib import Path

import numpy as np

BLOCK = 10_000
SEED = 20260101


def unit(rows):
    """Rows of length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def read_folder(folder):
    """All vectors of an embeddings folder."""
    return np.concatenate([np.load(p) for p in sorted(Path(folder).glob("shard-*.npy"))]).astype(np.float32)


def real_like(base, rng):
    """One block of points between real embeddings, with noise."""
    a, b = (base[rng.integers(len(base), size=BLOCK)] for _ in range(2))
    t = rng.random((BLOCK, 1), dtype=np.float32)
    noise = rng.standard_normal((BLOCK, base.shape[1]), dtype=np.float32)
    return unit((1 - t) * a + t * b + base.std(0) * noise * np.float32(1 / np.sqrt(3)))


def white(dim, rng):
    """One block without structure."""
    return unit(rng.standard_normal((BLOCK, dim), dtype=np.float32))


def describe(name, rows):
    """Mean cosine of random pairs, and how many directions the rows spread over."""
    some = rows[:: max(1, len(rows) // 5_000)][:5_000].astype(np.float32)
    cosines = (some[: len(some) // 2] * some[-(len(some) // 2) :]).sum(1)
    values = np.linalg.eigvalsh(np.cov(some.T))
    nearest = np.sort(some[:500] @ rows[:100_000].astype(np.float32).T, axis=1)[:, -11:-1]
    print(f"data: {name}: {len(rows)} x {rows.shape[1]}, cosine of random pairs {cosines.mean():.3f}"
          f" (deviation {cosines.std():.3f}), of the ten nearest among {min(len(rows), 100_000)}"
          f" {nearest.mean():.3f}; spread over {values.sum() ** 2 / (values**2).sum():.0f} directions"
          " (participation ratio)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["real-like", "white"])
    parser.add_argument("rows", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    base = read_folder(args.base)
    dim = base.shape[1]
    partial = args.out.with_suffix(".partial.npy")
    out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(args.rows, dim))
    for start in range(0, args.rows, BLOCK):
        rng = np.random.default_rng([SEED, (args.first + start) // BLOCK])
        block = real_like(base, rng) if args.kind == "real-like" else white(dim, rng)
        out[start : start + BLOCK] = block[: args.rows - start]
    out.flush()
    partial.rename(args.out)
    if args.kind == "real-like":
        describe("the real embeddings", base)
    describe(args.kind, out)


if __name__ == "__main__":
    main()
