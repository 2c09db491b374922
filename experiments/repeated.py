#!/usr/bin/env python3
"""How many of XOR-TyDi's questions occur twice where one would like them apart.

usage: repeated.py DATA_DIR    (holds xor-tydi/)

Dev questions that are train questions word for word, which a bank of all train questions holds; and of the train questions
that experiments/generated counts answers with, those that repeat one of the 1,525 that choose how questions are summed.
"""
import json
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here / "generated"), str(here / "shared-generator")]
from allot import learned  # noqa: E402  (after the path is set)
from asked import lines  # noqa: E402
from prepare import tuning  # noqa: E402


def main(data):
    text = lambda row: row["question"].strip()
    train = {text(row) for row in lines(data / "xor-tydi/xor_train_retrieve_eng_span.jsonl")}
    dev = {text(row) for row in lines(data / "xor-tydi/dev-half.jsonl")}
    print(f"dev questions among the train questions: {len(dev & train)} of {len(dev)}")
    tune = [json.loads(line) for line in tuning(data)]
    known = {text(row) for row in tune}
    counted = list(learned(data))
    again = sum(text(row) in known for row in counted)
    print(f"counted questions that repeat one of the {len(tune)} that tune: {again} of {len(counted)}; "
          f"that repeat a dev question: {sum(text(row) in dev for row in counted)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
