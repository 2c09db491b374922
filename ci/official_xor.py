#!/usr/bin/env python3
"""R@2kt and R@5kt of XOR-TyDi, restated from its description to check the Rust evaluator.

Usage: python ci/official_xor.py --run RUN --queries QUERIES --corpus CORPUS
RUN is in TREC's six columns, QUERIES has `id`, `answers` and `lang` a line, CORPUS `_id` and
`text`. Needs ci/requirements-nltk.txt. Prints, as shares between 0 and 1:
{"R@2kt": {"macro": .., "by_lang": {..}}, "R@5kt": {..}}

The rules (Asai et al. 2021 and the behaviour of the official script): the texts of the passages,
without titles, are tokenized one by one and joined in the order of the run until the limit is
reached, cut there and joined with single spaces. A hit is an answer that is a substring of that,
case kept apart. The answers "yes" and "no" do not count; a question with no other is skipped, and
one that the run lacks is left out. The macro average is over the languages that have a question.
"""

import argparse
import json
import sys
from collections import defaultdict

from nltk_english import word_tokenize

LIMITS = {"R@2kt": 2000, "R@5kt": 5000}


def read_jsonl(path):
    """The objects of a JSONL file."""
    with open(path, encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def read_run(path):
    """The ranked passages of each question: score descending, then docid descending."""
    scored = defaultdict(list)
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            qid, _, docid, _, score, _ = line.split()
            scored[qid].append((float(score), docid))
    return {qid: [docid for _, docid in sorted(docs, reverse=True)] for qid, docs in scored.items()}


class Passages:
    """The texts that a run names; each is tokenized at most once."""

    def __init__(self, path, wanted):
        rows = read_jsonl(path)
        self.texts = {row["_id"]: row["text"] for row in rows if row["_id"] in wanted}
        self.tokens = {}
        lacking = sorted(wanted - self.texts.keys())
        if lacking:
            sys.exit(f"{path}: expected every passage of the run, lacks {lacking[:5]}")

    def words(self, docid):
        """The tokens of a passage."""
        if docid not in self.tokens:
            self.tokens[docid] = word_tokenize(self.texts[docid])
        return self.tokens[docid]

    def joined(self, ranking, limit):
        """The first `limit` tokens of a ranking as one string."""
        words = []
        for docid in ranking:
            words.extend(self.words(docid))
            if len(words) >= limit:
                break
        return " ".join(words[:limit])


def looked_for(query):
    """The answers that count."""
    return [answer for answer in query["answers"] if answer not in ("yes", "no")]


def recall(queries, run, passages, limit):
    """The share of hits for each language, and the mean of these."""
    hits = defaultdict(list)
    for query in queries:
        answers, ranking = looked_for(query), run.get(str(query["id"]))
        if not answers or ranking is None:
            continue
        text = passages.joined(ranking, limit)
        hits[query["lang"].strip()].append(any(answer in text for answer in answers))
    by_lang = {lang: sum(found) / len(found) for lang, found in sorted(hits.items())}
    macro = sum(by_lang.values()) / len(by_lang) if by_lang else None
    return {"macro": macro, "by_lang": by_lang}


def evaluate(run_path, queries_path, corpus_path):
    """What the script prints, as an object."""
    run, queries = read_run(run_path), list(read_jsonl(queries_path))
    asked = {str(query["id"]) for query in queries if looked_for(query)}
    wanted = {docid for qid, docs in run.items() if qid in asked for docid in docs}
    passages = Passages(corpus_path, wanted)
    return {name: recall(queries, run, passages, limit) for name, limit in LIMITS.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--run", "--queries", "--corpus"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    print(json.dumps(evaluate(options.run, options.queries, options.corpus)))


if __name__ == "__main__":
    main()
