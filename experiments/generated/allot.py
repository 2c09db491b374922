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


def wanted(data, passages, floor, more):
    """How many questions each passage gets, by docid."""
    texts = [row["text"] for row in passages]
    holders, words = Holders(texts), [max(1, len(text.split())) for text in texts]
    answers = demand((holders.of(row["answers"])[0] for row in learned(data)), len(passages))
    ordinary = sum(words) / len(words)
    return {p["_id"]: round(floor + more * a * ordinary / w) for p, a, w in zip(passages, answers, words)}


def main(data, questions, floor, more, out):
    data = Path(data)
    passages = lines(data / "wiki-leads/corpus.jsonl")
    counts = wanted(data, passages, float(floor), float(more))
    own, place = collections.defaultdict(list), collections.Counter()
    for line in open(questions):
        row = json.loads(line)
        key = (row["docid"], row["lang"])
        own[row["docid"]].append((place[key], row["lang"], line))
        place[key] += 1
    kept = 0
    with open(out, "w") as file:
        for row in passages:
            chosen = sorted(own[row["_id"]])[: counts[row["_id"]]]
            kept += len(chosen)
            file.writelines(line for _, _, line in chosen)
    print(f"{kept} questions for {len(passages)} passages, {sum(n > float(floor) for n in counts.values())} in demand")


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
