"""Gives passages as many of their generated questions as people look for answers there, in place of the same number for all.

usage: allot.py DATA_DIR QUESTIONS.jsonl MEAN OUT.jsonl
  QUESTIONS.jsonl  generated questions: docid, lang, text       MEAN  how many a passage keeps on average

How many answers of XOR-TyDi's train questions a passage holds (an answer in n passages counts 1/n; without the tenth
that tunes, and without dev) says what part of all questions it keeps, its languages in turn, as far as it has some.
"""

import collections
import json
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here.parent), str(here.parent / "shared-generator")]
from holders import Holders, demand
from prepare import tuning


def lines(path):
    return [json.loads(line) for line in open(path)]


def learned(data):
    """Train questions that neither tune nor judge."""
    apart = {json.loads(line)["id"] for line in tuning(data)}
    dev = {row["question"].strip() for row in lines(data / "xor-tydi/dev-half.jsonl")}
    for row in lines(data / "xor-tydi/xor_train_retrieve_eng_span.jsonl"):
        if row["id"] not in apart and row["question"].strip() not in dev:
            yield row


def main(data, questions, mean, out):
    data = Path(data)
    passages = lines(data / "wiki-leads/corpus.jsonl")
    holders = Holders([row["text"] for row in passages])
    shares = demand((holders.of(row["answers"])[0] for row in learned(data)), len(passages))
    wanted = {row["_id"]: round(float(mean) * len(shares) * s / sum(shares)) for row, s in zip(passages, shares)}
    own, place = collections.defaultdict(list), collections.Counter()
    for line in open(questions):
        row = json.loads(line)
        key = (row["docid"], row["lang"])
        own[row["docid"]].append((place[key], row["lang"], line))
        place[key] += 1
    kept = 0
    with open(out, "w") as file:
        for row in passages:
            chosen = sorted(own[row["_id"]])[: wanted[row["_id"]]]
            kept += len(chosen)
            file.writelines(line for _, _, line in chosen)
    print(f"{kept} questions for {sum(n > 0 for n in wanted.values())} of {len(passages)} passages")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
