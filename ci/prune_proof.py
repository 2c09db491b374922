#!/usr/bin/env python3
"""Proves on real questions what `xqg model prune-vocab --keep-languages` promises: with the tokens of a
language's scripts alone, its texts have the same embeddings, bit for bit.

usage: prune_proof.py --binary XQG --model DIR --data DIR
    DIR of --data holds native-questions/L.txt, questions of speakers, one a line
"""

import argparse
import json
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

# A language with the words that the Unicode names of its scripts' letters begin with.
SCRIPTS = {"te": ["TELUGU"], "ar": ["ARABIC"], "fi": ["LATIN"], "ja": ["CJK", "HIRAGANA", "KATAKANA"]}

QUESTIONS = 200


def is_in(text, scripts):
    """Whether all letters and marks of a text are of these scripts, or of no script at all."""
    def fits(char):
        if unicodedata.category(char)[0] not in "LM":
            return True
        name = unicodedata.name(char, "")
        return any(name.startswith(script) for script in [*scripts, "COMBINING"])
    return all(map(fits, unicodedata.normalize("NFKC", text)))


def questions(path, scripts):
    """Every so-manieth question of a file, and how many were left out for another script."""
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    own = [line for line in lines if is_in(line, scripts)]
    return own[:: max(1, len(own) // QUESTIONS)][:QUESTIONS], len(lines) - len(own)


def main():
    parser = argparse.ArgumentParser()
    for name in ["--binary", "--model", "--data"]:
        parser.add_argument(name, required=True, type=Path)
    args = parser.parse_args()

    def xqg(*words):
        done = subprocess.run([args.binary, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"prune_proof: {' '.join(map(str, words))}: {done.stderr}")
        return done.stderr

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for lang, scripts in SCRIPTS.items():
            texts, others = questions(args.data / "native-questions" / f"{lang}.txt", scripts)
            rows = (json.dumps({"_id": str(i), "text": text}) for i, text in enumerate(texts))
            (work / "queries.jsonl").write_text("\n".join(rows) + "\n")
            said = xqg("model", "prune-vocab", args.model, "--keep-languages", lang, "--to", work / "small", "--force")
            for name, model in [("whole", args.model), ("pruned", work / "small")]:
                # The folder's name tells what kind of model it is; the copy has another.
                xqg("encode", "--model", model, "--query-prefix", "query: ", "--queries", work / "queries.jsonl",
                    "--out", work / name, "--force")
            whole, pruned = ((work / name / "shard-00000.npy").read_bytes() for name in ("whole", "pruned"))
            if whole != pruned:
                sys.exit(f"prune_proof: {lang}: expected the same embeddings, found others")
            print(f"{lang}: {len(texts)} questions the same, bit for bit ({others} of the file are not of its "
                  f"scripts alone); {said.splitlines()[-1]}")


if __name__ == "__main__":
    main()
