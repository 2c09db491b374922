#!/usr/bin/env python3
"""Attach real questions to the passages that answer them.

Two steps, with a search between them:
  attach.py english TRAIN PARALLEL_DIR OUT     the train questions that have a human English
                                               translation, as BEIR queries with their answers
  attach.py attach TRAIN CORPUS RUN OUT        for each of them the best-ranked passage that holds
                                               an answer, as generated queries for `xqg index`

TRAIN is XOR-TyDi JSON lines, PARALLEL_DIR holds LANG-en.tsv (question TAB English), RUN is the
TREC run of the English questions. Answers "yes", "no" and "unknown" name no passage and are left
out, as are answers of fewer than three characters, which any passage holds.
"""
import json
import sys
from pathlib import Path

NAMES_NOTHING = {"yes", "no", "unknown"}


def rows(path):
    """The JSON objects of a file, one a line."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def answers(row):
    """The answers of a question that a passage can hold."""
    return [a for a in row["answers"] if a.lower() not in NAMES_NOTHING and len(a) > 2]


def write(path, objects):
    """Writes JSON lines and says how many."""
    with open(path, "w", encoding="utf-8") as out:
        for value in objects:
            out.write(json.dumps(value, ensure_ascii=False) + "\n")
    print(f"{path}: {len(objects)} lines")


def english(train, parallel, out):
    """Writes the English translations of the questions that have one and an answer."""
    translation = {}
    for path in sorted(Path(parallel).glob("*-en.tsv")):
        lang = path.name.split("-")[0]
        for line in path.read_text(encoding="utf-8").splitlines():
            question, text = line.split("\t")[:2]
            translation[lang, question.strip()] = text.strip()
    queries = []
    for row in rows(train):
        text = translation.get((row["lang"].strip(), row["question"].strip()))
        if text and answers(row):
            queries.append({"_id": row["id"], "text": text, "answers": answers(row)})
    write(out, queries)


def best_passage(docids, wanted, texts):
    """The first passage of a ranking that holds one of the answers."""
    return next((d for d in docids if any(a in texts[d] for a in wanted)), None)


def attach(train, corpus, run, out):
    """Writes each question with the best-ranked passage that holds an answer."""
    texts = {row["_id"]: row["text"] for row in rows(corpus)}
    rankings = {}
    with open(run, encoding="utf-8") as lines:
        for line in lines:
            qid, _, docid, *_ = line.split()
            rankings.setdefault(qid, []).append(docid)
    generated = []
    for row in rows(train):
        docid = best_passage(rankings.get(row["id"], []), answers(row), texts)
        if docid:
            text = row["question"].strip()
            generated.append({"docid": docid, "lang": row["lang"].strip(), "text": text})
    write(out, generated)
    print(f"passages with questions: {len({g['docid'] for g in generated})} of {len(texts)}")


if __name__ == "__main__":
    steps = {"english": (english, 3), "attach": (attach, 4)}
    step, count = steps.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if step is None or len(sys.argv) != count + 2:
        sys.exit(__doc__)
    step(*sys.argv[2:])
