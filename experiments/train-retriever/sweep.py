"""What do the settings of `[corpus]` do? A quick look that costs seconds instead of half an hour each: in place of the
queries' network a small residual network over its finished embeddings learns the same loss, on three quarters of the
train questions, and is judged by R@2kt on the last quarter (words for tokens). Dev questions are not touched.

usage: sweep.py DATA_DIR WORK_DIR [SETTING ...]      WORK_DIR is that of run.sh, after its "what to learn from"
  a setting is Python's keywords, such as "bonus=12,prior=4,weight=6"; without any, those of the list below
XQG names the program (default: xqg on the path). Needs numpy and torch.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from asked import asked, lines, part, single_spaced
from holders import Holders, demand

BUDGET = 2000
SETTINGS = [
    "bonus=0,prior=0", "bonus=2,prior=3", "bonus=4,prior=3,weight=3", "bonus=8,prior=3,weight=3",
    "bonus=12,prior=3,weight=3", "bonus=8,prior=3", "bonus=8,prior=3,weight=6", "bonus=8,prior=6,weight=3",
    "bonus=16,prior=4,weight=6", "bonus=12,prior=4,weight=6,temperature=0.02", "bonus=12,prior=4,weight=6,epochs=8",
    "bonus=4,prior=3,weight=3,passages=True",
]  # fmt: skip


class Questions:
    """Train questions without those of dev, each once, with their English translations."""

    def __init__(self, data):
        english = {}
        for path in sorted((data / "xor-tydi/parallel-questions").glob("*-en.tsv")):
            for line in open(path):
                text, translation = line.rstrip("\n").split("\t")[:2]
                english[single_spaced(text)] = translation
        told = lambda text: english.get(text) or text
        self.rows = [(key, lang, text, told(text), answers) for key, lang, text, answers in asked(data)]
        parts = [part(row[0], 4) for row in self.rows]
        self.train = [i for i, p in enumerate(parts) if p]
        self.test = [i for i, p in enumerate(parts) if not p]
        self.langs = np.array([row[1] for row in self.rows])

    def encode(self, column, work, xqg):
        out = work / f"sweep-{column}"
        if not out.is_dir():
            file = work / "sweep.jsonl"
            file.write_text("".join(json.dumps({"_id": r[0], "text": r[column]}) + "\n" for r in self.rows))
            subprocess.run([xqg, "encode", "--model", work / "model", "--queries", file, "--out", out], check=True)
        return torch.tensor(np.concatenate([np.load(shard) for shard in sorted(out.glob("*.npy"))]))


class Sweep:
    def __init__(self, data, work, xqg):
        self.questions = Questions(data)
        texts = [row["text"] for row in lines(data / "wiki-leads/corpus.jsonl")]
        self.words = torch.tensor([len(text.split()) for text in texts])
        holders = Holders(texts)
        both = [holders.of(row[4]) for row in self.questions.rows]
        self.holders, self.right = [sorted(b[0]) for b in both], [b[1] for b in both]
        self.passages = torch.tensor(np.load(work / "passages.npy"))
        self.asked = self.questions.encode(2, work, xqg)
        self.told = self.questions.encode(3, work, xqg)
        shares = demand((self.holders[i] for i in self.questions.train), len(texts))
        self.prior = torch.tensor(np.log1p(shares), dtype=torch.float32)
        self.stock = self.hits(self.asked[self.questions.test], self.passages)

    def hits(self, queries, passages):
        top = (queries @ passages.T).topk(100).indices
        lengths = self.words[top]
        within = (lengths.cumsum(1) - lengths) < BUDGET
        rows = zip(self.questions.test, top.tolist(), within.tolist())
        return np.array([any(p in self.right[i] for p, w in zip(*row) if w) for i, *row in rows], float)

    def macro(self, hits):
        langs = self.questions.langs[self.questions.test]
        return 100 * np.mean([hits[langs == lang].mean() for lang in sorted(set(langs))])

    def with_prior(self, weight):
        """Nothing learned but the prior, added to the stock model's scores."""
        asked = self.asked[self.questions.test]
        ones = torch.ones(len(asked), 1)
        return self.hits(torch.cat([asked, ones], 1), torch.cat([self.passages, weight * self.prior[:, None]], 1))

    def learn(self, bonus=0.0, prior=0.0, weight=1.0, temperature=0.01, epochs=4, passages=False, batch=192):
        torch.manual_seed(1)
        order, normal = np.random.default_rng(0), torch.nn.functional.normalize
        nets = [residual(), residual()][: 1 + passages]
        optimiser = torch.optim.AdamW([p for net in nets for p in net.parameters()], lr=1e-3, weight_decay=1e-2)
        steps, step = epochs * (len(self.questions.train) // batch), 0
        index = lambda: normal(self.passages + nets[1](self.passages)) if passages else self.passages
        for _ in range(epochs):
            shuffled = order.permutation(self.questions.train)
            for start in range(0, len(shuffled) - batch + 1, batch):
                rows, step = shuffled[start : start + batch], step + 1
                for group in optimiser.param_groups:
                    group["lr"] = 1e-3 * min(1, step / 30) * (1 - step / (steps + 1))
                target = self.told[rows] @ self.passages.T / 0.01 + prior * self.prior
                counts = torch.ones(batch)
                for at, row in enumerate(rows):
                    if self.holders[row]:
                        target[at, self.holders[row]] += bonus
                        counts[at] = weight
                scores = normal(self.asked[rows] + nets[0](self.asked[rows])) @ index().T / temperature
                loss = -(target.softmax(1) * scores.log_softmax(1)).sum(1) @ counts / counts.sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            [net.eval() for net in nets]
            asked = self.asked[self.questions.test]
            return self.hits(normal(asked + nets[0](asked)), index())

    def show(self, name, hits, took=0.0):
        change = hits - self.stock
        error = 100 * change.std() / len(change) ** 0.5
        gain = self.macro(hits) - self.macro(self.stock)
        print(f"{name:50} {self.macro(hits):6.2f} {gain:+6.2f} (standard error {error:.2f}) {took:4.0f} s", flush=True)


def residual():
    last = torch.nn.Linear(768, 384)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return torch.nn.Sequential(torch.nn.Linear(384, 768), torch.nn.GELU(), torch.nn.Dropout(0.1), last)


def main(data, work, *settings):
    sweep = Sweep(Path(data), Path(work), os.environ.get("XQG", "xqg"))
    sweep.show("stock", sweep.stock)
    sweep.show("stock, asked in human English", sweep.hits(sweep.told[sweep.questions.test], sweep.passages))
    for weight in (0.01, 0.02, 0.03, 0.04):
        sweep.show(f"stock, {weight} times the prior added", sweep.with_prior(weight))
    for setting in settings or SETTINGS:
        begun = time.time()
        hits = sweep.learn(**eval(f"dict({setting})"))
        sweep.show(setting, hits, time.time() - begun)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
