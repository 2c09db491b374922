"""Turns the project's data into the training rows of a shared-encoder generator, one file a task.

usage: prepare.py DATA_DIR PAIRS.tsv MINED.jsonl|- TOPICAL.trec|- OUT_DIR
       prepare.py --queries DATA_DIR OUT.jsonl     the questions that TOPICAL.trec is the answer to
       prepare.py --tune DATA_DIR OUT.jsonl        the train questions that are left out, to tune an index by

Never used: questions of dev-half (white space and punctuation aside), a tenth of the train questions and their
translations, and passages of the 500 that the quality is measured on, which are line 7, 29, 51 … of the corpus
(line number mod 22 == 7, the first 500).
"""

import collections
import itertools
import json
import sys
import unicodedata
from pathlib import Path

LANGS = "ar bn fi ja ko ru te".split()
# Below this similarity a train question and its nearest passage have little to do with each other.
TOPICAL_FLOOR = 0.86
# Of so many train questions one is left out.
TUNE = 10
# Native questions of a language that are learned; more cost time to encode and were not seen twice.
NATIVE = 2500


def plain(text):
    return "".join(c for c in text.casefold() if unicodedata.category(c)[0] in "LNM")


def held_out(data):
    docids = [json.loads(line) for line in open(data / "wiki-leads/corpus.jsonl")]
    docids = [row.get("_id") or row["docid"] for row in docids]
    return {d for i, d in enumerate(docids) if i % 22 == 7 and i // 22 < 500}


def train_questions(data):
    for line in open(data / "xor-tydi/xor_train_retrieve_eng_span.jsonl"):
        row = json.loads(line)
        yield row["id"], row["lang"].strip(), row["question"].strip()


def tuning(data):
    """The train questions, as they stand in the file, that a generator must not have seen."""
    for i, line in enumerate(open(data / "xor-tydi/xor_train_retrieve_eng_span.jsonl")):
        if i % TUNE == 3:
            yield line


def translations(data):
    for lang in LANGS:
        for line in open(data / f"xor-tydi/parallel-questions/{lang}-en.tsv"):
            question, english = line.rstrip("\n").split("\t")[:2]
            yield lang, question.strip(), english.strip()


class Writer:
    def __init__(self, out, kept_back):
        self.out, self.kept_back, self.left_out = out, kept_back, collections.Counter()

    def write(self, name, rows):
        count, seen = collections.Counter(), set()
        with open(self.out / f"{name}.jsonl", "w") as file:
            for key, source, lang, text in rows:
                if plain(text) in self.kept_back:
                    self.left_out[name] += 1
                elif source and text and (source, lang, text) not in seen:
                    seen.add((source, lang, text))
                    count[lang] += 1
                    print(json.dumps({key: source, "lang": lang, "text": text}, ensure_ascii=False), file=file)
        print(f"{name}: {sum(count.values())} rows {dict(sorted(count.items()))},"
              f" {self.left_out[name]} left out as questions of dev or for tuning")


def mined(path, apart):
    for line in open(path):
        row = json.loads(line)
        for passage in row["positive_passages"][:2]:
            if passage["docid"] not in apart:
                yield "docid", passage["docid"], row["lang"].strip(), row["query"].strip()


def topical(path, questions, apart):
    best = {}
    for line in open(path):
        qid, _, docid, rank, score, *_ = line.split()
        if docid not in apart and float(score) >= TOPICAL_FLOOR and qid not in best:
            best[qid] = docid
    for qid, lang, question in questions:
        if qid in best:
            yield "docid", best[qid], lang, question


def main(data, pairs, mined_rows, run, out):
    data, out = Path(data), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    kept_back = itertools.chain(open(data / "xor-tydi/dev-half.jsonl"), tuning(data))
    kept_back = {plain(json.loads(line)["question"]) for line in kept_back}
    apart = held_out(data)
    writer = Writer(out, kept_back)
    written = [line.rstrip("\n").split("\t") for line in open(pairs)]
    clash = sum(docid in apart for docid, *_ in written)
    assert not clash, f"{clash} pairs of held-out passages"
    writer.write("written", (("docid", docid, lang, text.strip()) for docid, lang, text in written))
    if mined_rows != "-":
        writer.write("mined", mined(mined_rows, apart))
    if run != "-":
        writer.write("topical", topical(run, list(train_questions(data)), apart))
    writer.write("translated", (("source", english, lang, text) for lang, text, english in translations(data)))
    native = [(lang, line.strip()) for lang in LANGS for line in open(data / f"native-questions/{lang}.txt")]
    native += [(lang, text) for _, lang, text in train_questions(data) if lang in LANGS]
    seen = set()
    native = [(lang, t) for lang, t in native if t and not (plain(t) in seen or seen.add(plain(t)))]
    native = [row for lang in LANGS for row in [r for r in native if r[0] == lang][:NATIVE]]
    writer.write("native", (("source", text, lang, text) for lang, text in native))


def queries(data, out):
    english = {(lang, plain(text)): en for lang, text, en in translations(Path(data))}
    with open(out, "w") as file:
        for qid, lang, text in train_questions(Path(data)):
            row = {"id": qid, "question": english.get((lang, plain(text)), text), "lang": lang, "answers": []}
            print(json.dumps(row, ensure_ascii=False), file=file)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--queries"]:
        queries(*sys.argv[2:])
    elif sys.argv[1:2] == ["--tune"]:
        Path(sys.argv[3]).write_text("".join(tuning(Path(sys.argv[2]))))
    else:
        main(*sys.argv[1:])
