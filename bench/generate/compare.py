#!/usr/bin/env python3
"""Generators side by side: the same weights, prompts, samples and lengths, the same threads, taking turns.

usage: compare.py --work DIR --encoder DIR --worker PROGRAM --data DIR --step f32|int8 [--rounds 5]

PROGRAM is the example `bench_generate` of xqg-model. Each engine is a process that stays loaded; every round asks each of
them once, so that a noisy moment meets all. Prints the median questions a second and the ratios to CTranslate2's int8 and
to our own mT5 in int8 (median of the rounds' ratios, with the least and greatest).
"""
import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import Engine, spread  # noqa: E402  (after the path is set)

HERE = Path(__file__).parent
LANGUAGES = {"ar": "Arabic", "bn": "Bengali", "fi": "Finnish", "ja": "Japanese", "ko": "Korean", "ru": "Russian",
             "te": "Telugu"}
SAMPLES, TOKENS, THREADS, MOST = 5, 32, 2, 192
# Engines that take turns, and the passages of a round.
PASSAGES = {"f32": 2, "int8": 8}
STEPS = {
    "f32": ("transformers", "ct2-f32", "ct2-int8", "xqg mt5 f32"),
    "int8": ("ct2-int8", "xqg mt5 int8", "xqg mt5 int8, shortlist", "xqg shared int8"),
}
REFERENCES = ("ct2-int8", "xqg mt5 int8")


def texts(args):
    """The corpus as our worker reads it, and the peers' prompts: the same tokens."""
    from tokenizers import Tokenizer

    rows = [json.loads(line) for line in open(args.data / "wiki-leads/corpus.jsonl", encoding="utf-8")]
    some = rows[:: len(rows) // args.passages][: args.passages]
    corpus, prompts = args.work / "corpus.jsonl", args.work / "prompts.json"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in some))
    inner = Tokenizer.from_file(str(args.work / "mt5/tokenizer.json"))
    text = lambda row: f"{row['title']} {row['text']}" if row.get("title") else row["text"]
    asked = [f"Generate a {name} question for this passage: {text(row)}" for row in some for name in LANGUAGES.values()]
    ids = [[*inner.encode(prompt, add_special_tokens=False).ids[: MOST - 1], 1] for prompt in asked]
    prompts.write_text(json.dumps(ids))
    print(f"\n### {args.step}: {len(some)} passages, {len(LANGUAGES)} languages, {SAMPLES} questions of {TOKENS} tokens; prompts "
          f"of {sum(map(len, ids)) / len(ids):.0f} tokens; {THREADS} threads, {args.rounds} rounds\n")
    return corpus, prompts


def engines(args, corpus, prompts):
    """All engines, loaded."""
    peer = [sys.executable, str(HERE / "worker.py")]
    tail = [str(args.work), str(prompts), str(THREADS), str(SAMPLES), str(TOKENS)]
    commands = {name: [*peer, name, *tail] for name in ("transformers", "ct2-f32", "ct2-int8")}
    for name, precision, shortlist, model in (
        ("xqg mt5 f32", "f32", "off", "mt5"), ("xqg mt5 int8", "int8", "off", "mt5"),
        ("xqg mt5 int8, shortlist", "int8", "auto", "mt5"), ("xqg shared int8", "int8", "auto", "shared"),
    ):
        commands[name] = [args.worker, precision, shortlist, str(args.work / model), args.encoder, str(corpus), ",".join(LANGUAGES),
                          str(THREADS), str(SAMPLES), str(TOKENS)]
    return [Engine(name, commands[name]) for name in STEPS[args.step]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", choices=STEPS, required=True)
    args = parser.parse_args()
    args.passages = PASSAGES[args.step]
    corpus, prompts = texts(args)
    running = engines(args, corpus, prompts)
    seconds = {engine.name: [] for engine in running}
    for _ in range(args.rounds):
        for engine in running:
            seconds[engine.name].append(float(engine.ask("go")))
    print("| engine | questions/s | tokens/s | times CTranslate2 int8 (least, greatest) | times xqg mt5 int8 (least, greatest) |")
    print("|---|---|---|---|---|")
    for name, own in seconds.items():
        rate = args.passages * len(LANGUAGES) * SAMPLES / statistics.median(own)
        ratios = [spread(seconds[peer], own) if peer in seconds else "" for peer in REFERENCES]
        print(f"| {name} | {rate:.1f} | {rate * TOKENS:.0f} | {' | '.join(ratios)} |")
    for engine in running:
        engine.close()


if __name__ == "__main__":
    main()
