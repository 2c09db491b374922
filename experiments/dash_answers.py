#!/usr/bin/env python3
"""How many questions have an answer with a dash that NLTK cuts out of words from 3.9.3 on?

usage: dash_answers.py QUERIES.jsonl      (XOR-TyDi JSON lines)

Such an answer cannot occur in passages whose tokens are joined by spaces, as R@Nkt joins them.
"""
import json
import sys

DASHES = "‒–—―"


def main():
    """Prints the counts over the questions that the measure scores."""
    scored = some = only = 0
    for line in open(sys.argv[1], encoding="utf-8"):
        answers = [a for a in json.loads(line)["answers"] if a not in ("yes", "no")]
        with_dash = [a for a in answers if any(dash in a for dash in DASHES)]
        scored += bool(answers)
        some += bool(with_dash)
        only += bool(answers) and len(with_dash) == len(answers)
    print(f"{scored} questions scored, {some} have an answer with a dash, {only} have no other")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
