#!/usr/bin/env python3
"""Encoders side by side: the same weights, the same texts, the same threads, taking turns.

usage: compare.py --model DIR --worker PROGRAM --work DIR --data DIR [--repeats 5]

PROGRAM is the example `bench_worker` of xqg-model. Each engine is a process that stays loaded; every
round asks each of them once, so that a noisy moment meets all. Prints for each workload the median
seconds, the ratio to ONNX Runtime f32 (median of the rounds' ratios, with the least and greatest) and
the cosine of the vectors to PyTorch's (least and mean).
"""
import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import Engine, spread  # noqa: E402  (after the path is set)

HERE = Path(__file__).parent
REFERENCES = ("ort", "ort-int8")


def of_tokens(model, texts, wanted):
    """The first text that is so many tokens long."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_file(f"{model}/tokenizer.json")
    inner.no_padding()
    return next(text for text in texts if len(inner.encode(text).ids) == wanted)


def workloads(model, data, work):
    """Name, texts file, threads, greatest length. `whole.py` has the long ones."""
    corpus = [json.loads(line) for line in open(data / "wiki-leads/corpus.jsonl", encoding="utf-8")]
    train = data / "xor-tydi/xor_train_retrieve_eng_span.jsonl"
    asked = [json.loads(line)["question"].strip() for line in open(train, encoding="utf-8")]
    passages = [f"passage: {p['title']} {p['text']}".replace("\n", " ") for p in corpus]
    long = sorted(passages, key=len)[-32:]
    sets = {
        "32 passages cut at 128 tokens, 2 threads": (long, 2, 128),
        "one query of 16 tokens, 1 thread": ([of_tokens(model, [f"query: {q}" for q in asked], 16)], 1, 64),
    }
    for i, (name, (texts, threads, tokens)) in enumerate(sets.items()):
        path = work / f"texts-{i}.txt"
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        yield name, path, threads, tokens


def engines(args, texts, threads, tokens):
    """All engines, loaded."""
    python = [sys.executable, str(HERE / "worker.py")]
    tail = [args.model, str(texts), str(threads), str(tokens)]
    all_of = {name: python + [name] + tail for name in ("torch", "st", "ort", "ort-int8")}
    for precision in ("f32", "int8", "int8-fast", "f32@avx2", "int8@avx2", "int8-fast@avx2"):
        all_of[f"xqg {precision}"] = [args.worker, precision] + tail
    return [Engine(name, command) for name, command in all_of.items()]


def cosines(engine, reference, work):
    """Least and mean cosine of an engine's last vectors to the reference's."""
    path = work / f"{engine.name.replace(' ', '-')}.npy"
    engine.ask(f"vectors {path}")
    ours = np.load(path)
    dots = (ours * reference).sum(1)
    dots /= np.linalg.norm(ours, axis=1) * np.linalg.norm(reference, axis=1)
    return dots.min(), dots.mean()


def run(name, args, texts, threads, tokens):
    """One workload: rounds of all engines, then the table."""
    work = Path(args.work)
    running = engines(args, texts, threads, tokens)
    repeats = args.repeats * (20 if "one query" in name else 1)
    seconds = {e.name: [] for e in running}
    for _ in range(repeats):
        for engine in running:
            seconds[engine.name].append(float(engine.ask("go")))
    first = next(e for e in running if e.name == "torch")
    first.ask(f"vectors {work / 'reference.npy'}")
    reference = np.load(work / "reference.npy")
    print(f"\n### {name}, {repeats} rounds\n")
    print("| engine | median ms | times ONNX Runtime f32 (least, greatest) | times its int8 (least, greatest) "
          "| cosine to PyTorch: least, mean |")
    print("|---|---|---|---|---|")
    for engine in running:
        ratios = [spread(seconds[peer], seconds[engine.name]) for peer in REFERENCES]
        low, mean = cosines(engine, reference, work)
        print(f"| {engine.name} | {1000 * statistics.median(seconds[engine.name]):.2f} | {' | '.join(ratios)} "
              f"| {low:.5f}, {mean:.5f} |")
        engine.close()
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    for name, path, threads, tokens in workloads(args.model, args.data, Path(args.work)):
        run(name, args, path, threads, tokens)


if __name__ == "__main__":
    main()
