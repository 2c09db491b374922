#!/usr/bin/env python3
"""The table of bench/precision.sh: for each precision the cosine to f32 over all passages and over all
questions (least, mean), and each measure with its difference to f32 and p.

usage: precision.py WORK_DIR NAME...
"""
import glob
import json
import sys

import numpy as np


def matrix(pattern):
    """All shards of a folder, one below the other."""
    return np.concatenate([np.load(f).astype(np.float32) for f in sorted(glob.glob(pattern))])


def cosine(work, name, pattern):
    """Least and mean cosine of an artefact's rows to f32's."""
    ours, theirs = matrix(f"{work}/{name}{pattern}"), matrix(f"{work}/f32{pattern}")
    dots = (ours * theirs).sum(1)
    dots /= np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return f"{dots.min():.5f}, {dots.mean():.5f}"


def difference(path):
    """The run's macro average, its difference to f32's, and p."""
    (measure,) = json.load(open(path))["runs"][0]["measures"].values()
    run, change = measure["run"]["macro"], measure["difference"]["macro"]
    return f"{run:.3f} ({change:+.3f}, p {measure['p']:.2f})"


def main():
    work, names = sys.argv[1], sys.argv[2:]
    print("| precision | cosine, passages: least, mean | cosine, questions: least, mean "
          "| R@2kt | RR@10 ar | RR@10 ru | RR@10 hi |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        cells = [cosine(work, name, ".xor/units/*/d.npy"), cosine(work, name, ".queries/*.npy")]
        cells += [difference(f"{work}/{name}.{part}.json") for part in ("xor", "ar", "ru", "hi")]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
