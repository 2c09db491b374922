#!/usr/bin/env python3
"""Checks the XOR-TyDi figures of plain search with multilingual-e5-small.

usage: check_xor.py OURS.json NLTK.json

Two claims: our evaluation equals the official rules computed with NLTK itself (official_xor.py) to
the last digit, and the macro averages are those of a PyTorch reference, each within 0.6 points.
"""
import json
import sys

EXPECTED = {"R@2kt": 25.3, "R@5kt": 31.2}
WITHIN = 0.6


def main():
    """Prints each figure and exits with status 1 where a claim does not hold."""
    ours, nltk = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:3])
    failed = False
    for measure, expected in EXPECTED.items():
        mine, theirs = ours["measures"][measure], nltk[measure]
        same = abs(mine["macro"] - theirs["macro"]) < 1e-12
        for lang, value in mine["by_lang"].items():
            other = theirs["by_lang"][lang]
            other = other["mean"] if isinstance(other, dict) else other
            same = same and abs(value["mean"] - other) < 1e-12
        near = abs(100 * mine["macro"] - expected) <= WITHIN
        print(f"{measure}: {100 * mine['macro']:.2f} (expected {expected} within {WITHIN}: "
              f"{'yes' if near else 'NO'}; equal to NLTK's: {'yes' if same else 'NO'})")
        failed = failed or not (same and near)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
