"""Distinct questions of each language, and the first question for some passages drawn by lot, to read.

usage: samples.py CORPUS.jsonl QUESTIONS.jsonl HOW_MANY
"""

import collections
import json
import random
import sys

corpus, questions, many = sys.argv[1], sys.argv[2], int(sys.argv[3])
texts = {}
for line in open(corpus):
    row = json.loads(line)
    texts[row.get("docid") or row["_id"]] = row.get("title", "")
by_lang = collections.defaultdict(lambda: collections.defaultdict(list))
for line in open(questions):
    row = json.loads(line)
    by_lang[row["lang"]][row["docid"]].append(row["text"])
for lang, rows in sorted(by_lang.items()):
    every = [text for list_ in rows.values() for text in list_]
    print(f"== {lang}: {len(every)} questions, {len(set(every)) / len(every):.1%} distinct")
    for docid in sorted(random.Random(1).sample(sorted(rows), min(many, len(rows)))):
        print(f"{docid} {texts[docid]}\n    {rows[docid][0]}")
