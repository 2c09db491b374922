"""Proves that xqg's reading of SentencePiece models gives the ids of the `sentencepiece` package.

Trains small unigram models of every kind that is read (rules of normalising, byte fallback, own
symbols, white space kept, marker behind words) on real text, and compares the ids of 10,000
sentences and 10,000 nasty strings, as T5's and as XLM-R's. Needs sentencepiece.
"""

import argparse
import io
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import sentencepiece

MODELS = {
    "nmt_nfkc": {},
    "nmt_nfkc_cf, bytes": {"normalization_rule_name": "nmt_nfkc_cf", "byte_fallback": True},
    "identity, spaces kept": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "symbols": {"user_defined_symbols": ["<sep>", "<s>x", "hello", "日本", " the"]},
    "suffix": {"treat_whitespace_as_suffix": True},
    "no dummy": {"add_dummy_prefix": False, "allow_whitespace_only_pieces": True},
}
FRAGMENTS = [
    "", " ", "  ", "\t", "\n", "\r\n", "\0", "\x01", "\x7f", "\xa0", "\xad", "\u200b", "\u200d",
    "\u3000", "\ufeff", "\ufffd", "▁", "▁▁", "<s>", "</s>", "<unk>", "<sep>", "<s>x", "hello",
    "e\u0301", "é", "ﬁ", "Å", "™\x1eg", "①", "½", "ｶﾞ", "か\u3099", "한국어", "क्षि", "👩‍👩‍👧‍👦", "🇫🇮🇯🇵",
    "日本語", "Привет", "العربية", "x" * 300, "the", " the ", "<0x41>", "ẛ̣", "ﷺ",
]  # fmt: skip


def sentences(data: pathlib.Path) -> list[str]:
    """Every language's sentences, in an order that is always the same."""
    lines = []
    for path in sorted(data.glob("tatoeba/*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines():
            lines.append(line.split("\t")[0])
    for path in sorted(data.glob("xquad/queries/*.jsonl")):
        lines += [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
    random.Random(1).shuffle(lines)
    return lines


def nasty(count: int) -> list[str]:
    """Strings that no text looks like."""
    rng = random.Random(2)

    def fragment() -> str:
        if rng.random() < 0.7:
            return rng.choice(FRAGMENTS)
        low, high = rng.choice([(0, 0x250), (0x250, 0x3000), (0x3000, 0xD800), (0xE000, 0x110000)])
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 8)))

    return ["".join(fragment() for _ in range(rng.randrange(12))) for _ in range(count)]


def train(lines: list[str], options: dict) -> bytes:
    out = io.BytesIO()
    # Every symbol would be wanted in the vocabulary otherwise, and there are thousands.
    fixed = {"vocab_size": 6000, "character_coverage": 0.98, "num_threads": 2, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="unigram", **fixed, **options
    )
    return out.getvalue()


def ours(binary: str, name: str, model: bytes, texts: list[str]) -> list[list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / name).write_bytes(model)
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        run = [binary, folder]
        done = subprocess.run(run, input=lines.encode(), capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def as_t5(processor: sentencepiece.SentencePieceProcessor, ids: list[int]) -> list[int]:
    return [*ids, processor.eos_id()]


def as_xlm_r(processor: sentencepiece.SentencePieceProcessor, ids: list[int]) -> list[int]:
    return [0, *(3 if i == processor.unk_id() else i + 1 for i in ids), 2]


def compare(binary: str, title: str, model: bytes, texts: list[str]) -> int:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    plain = processor.encode(texts)
    wrong = 0
    for name, frame in (("spiece.model", as_t5), ("sentencepiece.bpe.model", as_xlm_r)):
        theirs = [frame(processor, ids) for ids in plain]
        found = ours(binary, name, model, texts)
        differ = [row for row in zip(texts, found, theirs, strict=True) if row[1] != row[2]]
        print(f"{title:24} {name:24} {len(texts)} texts, {len(differ)} differ")
        for text, own, their in differ[:3]:
            print(f"  {text!r}\n    own   {own}\n    their {their}")
        wrong += len(differ)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the example `tokens` of xqg-model")
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path, help="also this spiece.model")
    args = parser.parse_args()
    lines = sentences(args.data)
    texts = lines[:10000] + nasty(10000)
    models = {title: train(lines[10000:25000], options) for title, options in MODELS.items()}
    if args.model:
        models[args.model.name] = args.model.read_bytes()
    wrong = sum(compare(args.binary, title, model, texts) for title, model in models.items())
    print("equal" if wrong == 0 else f"{wrong} texts differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
