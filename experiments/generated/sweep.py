"""How many of its questions should a passage get? Chosen on XOR-TyDi's train questions, in four parts: what three of them look
for allots questions to passages, and the fourth judges by R@2kt (words for tokens). Dev questions are not touched.

usage: sweep.py DATA_DIR WORK_DIR [FLOOR,MORE,ALPHA ...]      WORK_DIR is that of run.sh, after ALLOT=1
  a setting: FLOOR and MORE of allot.py, ALPHA of the sum, renormalised; without any, those of the list below
XQG names the program (default: xqg on the path), XQG_MODEL the retriever. Needs numpy; encodes 774,200 questions once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent), str(here.parent / "shared-generator")]
from allot import by_turns, counts
from asked import asked, lines, part
from holders import Holders, demand

BUDGET, TOKENS_A_WORD, PARTS = 2000, 1.25, 4
SETTINGS = ["0,10,0.01", "0,10,0.02", "7,7,0.03", "7,7,0.05", "14,10,0.01", "14,10,0.02", "14,10,0.03", "14,20,0.02"]


def encode(kind, file, out):
    """Embeddings of a file's texts, kept in a folder."""
    if not out.is_dir():
        model = os.environ.get("XQG_MODEL", "multilingual-e5-small")
        subprocess.run([os.environ.get("XQG", "xqg"), "encode", "--model", model, kind, file, "--out", out], check=True)
    return np.concatenate([np.load(shard) for shard in sorted(out.glob("*.npy"))])


def encode_queries(texts, out):
    file = out.with_suffix(".jsonl")
    file.write_text("".join(json.dumps({"_id": str(n), "text": text}) + "\n" for n, text in enumerate(texts)))
    return encode("--queries", file, out)


class Sweep:
    def __init__(self, data, work):
        corpus = data / "wiki-leads/corpus.jsonl"
        self.corpus, self.rows = lines(corpus), list(asked(data))
        holders = Holders([row["text"] for row in self.corpus])
        both = [holders.of(row[3]) for row in self.rows]
        self.holders = [b[0] for b in both]
        self.right = np.zeros((len(self.rows), len(self.corpus)), bool)
        for row, (_, right) in enumerate(both):
            self.right[row, list(right)] = True
        self.parts = np.array([part(row[0], PARTS) for row in self.rows])
        self.langs = np.array([row[1] for row in self.rows])
        self.lengths = TOKENS_A_WORD * np.array([len(row["text"].split()) for row in self.corpus])
        self.passages = encode("--corpus", corpus, work / "sweep-passages")
        self.queries = encode_queries([row[2] for row in self.rows], work / "sweep-asked")
        own = by_turns(work / "wiki-10.jsonl")
        turns = [[json.loads(line)["text"] for line in own.get(row["_id"], [])] for row in self.corpus]
        self.starts = np.cumsum([0] + [len(rows) for rows in turns])
        self.questions = encode_queries([text for rows in turns for text in rows], work / "sweep-questions")
        self.stock = self.all_parts(lambda answers: self.passages)

    def sums(self, wanted):
        """The sum of each passage's first questions."""
        own = (self.questions[start : min(start + n, end)] for start, end, n in zip(self.starts, self.starts[1:], wanted))
        return np.stack([rows.sum(0) for rows in own])

    def fused(self, answers, floor, more, alpha):
        sums = self.passages + alpha * self.sums(counts(self.corpus, answers, floor, more))
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def demanded(self, answers, weight):
        """No passage's own questions: the mean of all, as often as a passage is in demand."""
        often = counts(self.corpus, answers, 0, 1000)
        return self.passages + weight * np.outer(often, self.questions.mean(0)) / 1000

    def hits(self, rows, passages):
        found = np.zeros(len(rows), bool)
        for at in range(0, len(rows), 2048):
            part = rows[at : at + 2048]
            scores = self.queries[part] @ passages.T
            top = np.argsort(-scores, axis=1)[:, :100]
            lengths = self.lengths[top]
            within = lengths.cumsum(1) - lengths < BUDGET
            found[at : at + 2048] = (self.right[part[:, None], top] & within).any(1)
        return found

    def all_parts(self, index):
        """Every question against the index that the other parts' questions make."""
        found = np.zeros(len(self.rows), bool)
        for part in range(PARTS):
            answers = demand((self.holders[i] for i in np.flatnonzero(self.parts != part)), len(self.corpus))
            rows = np.flatnonzero(self.parts == part)
            found[rows] = self.hits(rows, index(answers))
        return found

    def show(self, name, hits):
        macro = lambda values: 100 * np.mean([values[self.langs == lang].mean() for lang in sorted(set(self.langs))])
        change = hits.astype(float) - self.stock
        error = 100 * change.std() / len(change) ** 0.5
        print(f"{name:22} {macro(hits):6.2f} {macro(change):+6.2f} (standard error {error:.2f})", flush=True)


def main(data, work, *settings):
    sweep = Sweep(Path(data), Path(work))
    sweep.show("stock", sweep.stock)
    for weight in (0.005, 0.01, 0.02):
        sweep.show(f"demand alone, {weight}", sweep.all_parts(lambda answers: sweep.demanded(answers, weight)))
    for setting in settings or SETTINGS:
        floor, more, alpha = map(float, setting.split(","))
        sweep.show(setting, sweep.all_parts(lambda answers: sweep.fused(answers, floor, more, alpha)))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
