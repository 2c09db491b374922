#!/usr/bin/env python3
"""Proves that the word tokens of xqg-measure are those of NLTK, token for token.

Usage: python ci/nltk_proof.py --binary PATH_TO_EXAMPLE --data ../shared/data
The binary is the example `word_tokens` of xqg-measure. Needs ci/requirements-nltk.txt. Prints the
counts and the speed of both; stops with status 1 after ten differences.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import nltk
from nltk_english import word_tokenize
from nltk_nasty import texts as nasty_texts

PARAMETERS = Path(__file__).parent.parent / "crates/xqg-measure/data/make_punkt_english.py"
SHOWN = 10


def field(path, name):
    """One field of every line of a JSONL file."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line)[name] for line in lines]


def ours(binary, texts, *arguments):
    """What the Rust side prints for the texts: (standard output, standard error)."""
    lines = "".join(json.dumps(text) + "\n" for text in texts).encode()
    done = subprocess.run([binary, *arguments], input=lines, capture_output=True)
    if done.returncode:
        sys.exit(f"{binary} failed: {done.stderr.decode()}")
    return done.stdout.decode(), done.stderr.decode()


def show(name, text, theirs, mine):
    """Prints a difference: the text, and the tokens around the first that differs."""
    pairs = zip(theirs, mine)
    first = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(theirs), len(mine)))
    around = slice(max(first - 4, 0), first + 8)
    print(f"{name} differs:\n  text {text!r}\n  nltk {theirs[around]!r}\n  ours {mine[around]!r}")


def compare(name, binary, texts):
    """The number of texts whose tokens differ; shows the first of them. Returns NLTK's speed too."""
    got = [json.loads(line) for line in ours(binary, texts)[0].split("\n") if line]
    if len(got) != len(texts):
        sys.exit(f"{name}: expected {len(texts)} lines, found {len(got)}")
    began = time.perf_counter()
    wanted = [word_tokenize(text) for text in texts]
    seconds = time.perf_counter() - began
    differing = [case for case in zip(texts, wanted, got) if case[1] != case[2]]
    for case in differing[:SHOWN]:
        show(name, *case)
    tokens = sum(map(len, wanted))
    print(f"{name}: {len(texts)} texts, {tokens} tokens of NLTK, {len(differing)} texts differ")
    return len(differing), tokens / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--nasty", type=int, default=5000, help="random texts of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    subprocess.run([sys.executable, str(PARAMETERS), "--check"], check=True)
    print(f"nltk {nltk.__version__}, Python {sys.version.split()[0]}")
    wiki = field(options.data / "wiki-leads/corpus.jsonl", "text")
    random_texts, probes = nasty_texts(options.nasty, options.seed)
    sets = {
        "wiki-leads": wiki,
        "xquad": field(options.data / "xquad/corpus.jsonl", "text"),
        "xor-tydi questions": field(options.data / "xor-tydi/dev-half.jsonl", "question"),
        "random": random_texts,
        "characters": probes,
    }
    results = {name: compare(name, options.binary, texts) for name, texts in sets.items()}
    _, tokens, seconds = ours(options.binary, wiki, "--time")[1].split()
    rate = int(tokens) / float(seconds)
    print(f"wiki-leads: NLTK {results['wiki-leads'][1]:.0f} tokens/s, ours {rate:.0f} tokens/s")
    if any(count for count, _ in results.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
