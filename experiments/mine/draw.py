#!/usr/bin/env python3
"""Print mined rows drawn by lot, for a reader to judge whether each positive answers its question.

usage: draw.py MINED PARALLEL_DIR COUNT [SEED]

MINED is what `xqg mine` wrote, PARALLEL_DIR holds LANG-en.tsv (question TAB English).
"""
import json
import random
import sys
from pathlib import Path


def english(folder):
    """English translations by question, white space evened out."""
    found = {}
    for path in sorted(Path(folder).glob("*-en.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines():
            question, text = line.split("\t")[:2]
            found.setdefault(" ".join(question.split()), text.strip())
    return found


def main(mined, folder, count, seed=1):
    """Draws rows and prints question, answer, place and the text around the answer."""
    translation = english(folder)
    with open(mined, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in random.Random(int(seed)).sample(rows, min(int(count), len(rows))):
        passage = row["positive_passages"][0]
        source, text = passage["source"], passage["text"]
        at = max(text.find(source["answer"]), 0)
        question = translation.get(" ".join(row["query"].split()), row["query"])
        print(f"[{row.get('lang', 'und')}] {question}")
        print(f"  answer {source['answer']!r}, {passage['title']}, rank {source['rank']} by {source['asked']}")
        print(f"  … {text[max(0, at - 150):at + 80]!r}")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
