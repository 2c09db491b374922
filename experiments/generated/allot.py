"""Gives passages as many of their generated questions as people look for answers there, in place of the same number for all.

usage: allot.py DATA_DIR QUESTIONS.jsonl FLOOR MORE OUT.jsonl
  QUESTIONS.jsonl  generated questions: docid, lang, text
  FLOOR            how many every passage gets       MORE  how many more for each answer that is looked for in it

How many answers of XOR-TyDi's train questions a passage of ordinary length would hold (an answer in n passages counts 1/n;
without the tenth that tunes, and without dev) is its demand: R@kt counts tokens, so of two passages with one answer the
shorter is worth more. Its languages take turns, as far as it has questions.
"""

import collections
import json
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here.parent), str(here.parent / "shared-generator")]
from asked import lines
from holders import Holders, demand
from prepare import tuning


def learned(data):
    """Train questions that neither tune nor judge."""
    apart = {json.loads(line)["id"] for line in tuning(data)}
    dev = {row["question"].strip() for row in lines(data / "xor-tydi/dev-half.jsonl")}
    for row in lines(data / "xor-tydi/xor_train_retrieve_eng_span.jsonl"):
        if row["id"] not in apart and row["question"].strip() not in dev:
            yield row


def counts(passages, answers, floor, more):
    """How many questions each passage gets, of how many answers are looked for in it."""
    words = [max(1, len(row["text"].split())) for row in passages]
    ordinary = sum(words) / len(words)
    return [round(floor + more * a * ordinary / w) for a, w in zip(answers, words)]


def by_turns(questions):
    """The lines of each docid, its languages in turn."""
    own, place = collections.defaultdict(list), collections.Counter()
    for line in open(questions):
        row = json.loads(line)
        key = (row["docid"], row["lang"])
        own[row["docid"]].append((place[key], row["lang"], line))
        place[key] += 1
    return {docid: [line for _, _, line in sorted(rows)] for docid, rows in own.items()}


def main(data, questions, floor, more, out):
    data, floor, more = Path(data), float(floor), float(more)
    passages = lines(data / "wiki-leads/corpus.jsonl")
    holders = Holders([row["text"] for row in passages])
    answers = demand((holders.of(row["answers"])[0] for row in learned(data)), len(passages))
    own, kept = by_turns(questions), 0
    with open(out, "w") as file:
        for row, count in zip(passages, counts(passages, answers, floor, more)):
            chosen = own.get(row["_id"], [])[:count]
            kept += len(chosen)
            file.writelines(chosen)
    print(f"{kept} questions for {len(passages)} passages")


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
