#!/usr/bin/env python3
"""The most memory that a step of the reference recipe takes: mBERT's shape with random weights, 128
queries of 32 tokens, 8 passages of 128 tokens each, through the program as it is.

usage: reference.py --binary XQG --work DIR [--queries N] [--passages N] [--chunk-tokens N] [--checkpoint-layers]
                    [--device cuda] [--precision f32] [--steps N] [--memory-mb N]
    DIR        for the model (0.7 GB) and the run (3 GB); both are removed at the end
    MEMORY-MB  what the run may take; 1 has the program say, and refuse, what it would
"""

import argparse
import json
import random
import resource
import shutil
import struct
import subprocess
import time
from array import array
from pathlib import Path

from compare import GpuMemory

VOCABULARY, HIDDEN, INNER, LAYERS, HEADS, POSITIONS = 119547, 768, 3072, 12, 12, 512

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tensors():
    """Names and shapes of the checkpoint."""
    yield "embeddings.word_embeddings.weight", [VOCABULARY, HIDDEN]
    yield "embeddings.position_embeddings.weight", [POSITIONS, HIDDEN]
    yield "embeddings.token_type_embeddings.weight", [2, HIDDEN]

    def norm(at):
        yield f"{at}.weight", [HIDDEN]
        yield f"{at}.bias", [HIDDEN]

    def linear(at, out, inside):
        yield f"{at}.weight", [out, inside]
        yield f"{at}.bias", [out]

    yield from norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        for part in ["query", "key", "value"]:
            yield from linear(f"{at}.attention.self.{part}", HIDDEN, HIDDEN)
        yield from linear(f"{at}.attention.output.dense", HIDDEN, HIDDEN)
        yield from norm(f"{at}.attention.output.LayerNorm")
        yield from linear(f"{at}.intermediate.dense", INNER, HIDDEN)
        yield from linear(f"{at}.output.dense", HIDDEN, INNER)
        yield from norm(f"{at}.output.LayerNorm")


def write_model(folder):
    folder.mkdir(parents=True)
    header, end, sizes = {}, 0, []
    for name, shape in tensors():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * count]}
        end += 4 * count
        sizes.append((name, count))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Numbers of BERT's spread, from one drawn block that is repeated with a shift.
    draw = random.Random(1)
    block = array("f", (draw.gauss(0, 0.02) for _ in range(1 << 20)))
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, count in sizes:
            if name.endswith("LayerNorm.weight"):
                out.write(array("f", [1.0] * count).tobytes())
                continue
            while count > 0:
                start = draw.randrange(1 << 10)
                part = block[start:start + count]
                out.write(part.tobytes())
                count -= len(part)
    config = {"model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER,
              "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "max_position_embeddings": POSITIONS,
              "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))


def tokenizer():
    """Every made-up word is a token."""
    words = SPECIAL + [f"w{i}" for i in range(VOCABULARY - len(SPECIAL))]
    added = [{"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, word in enumerate(SPECIAL)]
    token = lambda word: {"SpecialToken": {"id": word, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
            "post_processor": {"type": "TemplateProcessing", "single": [token("[CLS]"), text, token("[SEP]")],
                               "pair": [token("[CLS]"), text, token("[SEP]")],
                               "special_tokens": {word: {"id": word, "ids": [SPECIAL.index(word)], "tokens": [word]}
                                                  for word in ["[CLS]", "[SEP]"]}},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(words)}}}


def write_rows(path, queries, passages):
    draw = random.Random(2)
    # Frequent words more often than rare ones, as in text.
    words = lambda count: " ".join(f"w{int((VOCABULARY - 5) * draw.random() ** 3)}" for _ in range(count))
    passage = lambda name: {"docid": name, "title": "", "text": words(126)}
    with open(path, "w") as out:
        for i in range(queries):
            rows = [passage(f"p{i}-{j}") for j in range(passages)]
            row = {"query_id": f"q{i}", "query": words(30), "positive_passages": rows[:1], "negative_passages": rows[1:]}
            out.write(json.dumps(row) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--passages", type=int, default=8)
    parser.add_argument("--chunk-tokens", type=int, default=8192)
    parser.add_argument("--checkpoint-layers", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--memory-mb", type=int)
    args = parser.parse_args()
    model, run = args.work / "mbert-shape", args.work / "reference-run"
    shutil.rmtree(model, ignore_errors=True)
    write_model(model)
    write_rows(args.work / "reference-rows.jsonl", args.queries * args.steps, args.passages)
    config = args.work / "reference.toml"
    config.write_text(f"""model = "{model}"
out = "{run}"
[data]
train = ["{args.work / 'reference-rows.jsonl'}"]
held_out = 0.0
[encoder]
pooling = "cls"
dropout = 0.1
[batch]
queries = {args.queries}
passages = {args.passages}
query_tokens = 32
passage_tokens = 128
chunk_tokens = {args.chunk_tokens}
checkpoint_layers = {str(args.checkpoint_layers).lower()}
{f"memory_mb = {args.memory_mb}" if args.memory_mb else ""}
[run]
steps = {args.steps}
""")
    command = [args.binary, "train", "retriever", "--config", config, "--force", "--device", args.device]
    if args.precision:
        command += ["--precision", args.precision]
    start = time.monotonic()
    if args.device.startswith("cpu"):
        subprocess.run(command, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    else:
        with GpuMemory() as memory:
            before = memory.peak
            subprocess.run(command, check=True)
        peak = (memory.peak - before) / 1024
    seconds = time.monotonic() - start
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [step for step in steps if "examples_per_second" in step][-1]
    print(f"{args.queries} queries x {args.passages} passages, 32 and 128 tokens, chunks of {args.chunk_tokens}, "
          f"{args.device}: peak {peak:.1f} GB; a step {args.queries / last['examples_per_second']:.1f} s, "
          f"{args.steps} and all else {seconds:.0f} s; loss {last['loss']:.3f}")
    for folder in [model, run]:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
