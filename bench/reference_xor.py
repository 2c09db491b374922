#!/usr/bin/env python3
"""Plain dense retrieval with PyTorch and transformers: the reference that our own runs are held against.

What: encodes passages (`title + " " + text`, prefix `passage: `, at most 160 tokens) and queries (prefix `query: `, at
most 64) with an E5-like folder (mean over tokens, L2 normalised), ranks by exact inner product, and writes a TREC run.
Why: the same files through `xqg encode`, `index`, `search` must give the same ranking, and not take longer.
Length-sorted batches; f32; ties by docid, descending. Token ids are those of the folder's `tokenizer.json`.

usage: reference_xor.py --model MODEL_DIR --corpus corpus.jsonl --queries dev.jsonl --out RUN [--threads 1] [--limit N]

Ran with Python 3.11, torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, numpy 2.4.6 (all from the package index).
"""

import argparse
import json
import os
import sys
import time

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

PASSAGE_TOKENS, QUERY_TOKENS = 160, 64
TAG = "pytorch-reference"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="Hugging Face folder, as multilingual-e5-small")
    parser.add_argument("--corpus", required=True, help="JSONL with _id, title, text")
    parser.add_argument("--queries", required=True, help="JSONL with id and question (XOR), or _id and text (BEIR)")
    parser.add_argument("--out", required=True, help="TREC run to write")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only the first N passages and queries")
    parser.add_argument("--depth", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    return parser.parse_args()


def json_lines(path, limit):
    """The objects of a JSONL file, up to `limit`."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return rows[:limit]


def passages(path, limit):
    """Ids and prefixed texts of a BEIR corpus."""
    rows = json_lines(path, limit)
    joined = (f"{row['title']} {row['text']}" if row.get("title") else row["text"] for row in rows)
    return [row["_id"] for row in rows], ["passage: " + text for text in joined]


def queries(path, limit):
    """Ids and prefixed texts of XOR-TyDi or BEIR queries."""
    rows = json_lines(path, limit)
    texts = ["query: " + (row["question"] if "question" in row else row["text"]) for row in rows]
    return [str(row["id"] if "id" in row else row["_id"]) for row in rows], texts


class Encoder:
    """A model folder with mean pooling and L2 normalisation."""

    def __init__(self, folder, batch):
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
        self.batch = batch

    @torch.inference_mode()
    def batch_embeddings(self, rows):
        """Embeddings of one batch of token id lists, padded to its longest."""
        width = max(map(len, rows))
        ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])  # 1 is <pad>; masked, so any id would do
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).float()
        mean = (states * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).numpy()

    def encode(self, texts, max_tokens, what):
        """Embeddings in the order of the texts; batches hold texts of about the same length."""
        start, start_cpu = time.perf_counter(), time.process_time()
        self.tokenizer.enable_truncation(max_tokens)
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))  # longest first: memory fails early, if at all
        out = np.empty((len(ids), self.model.config.hidden_size), dtype=np.float32)
        for at in range(0, len(order), self.batch):
            chosen = order[at:at + self.batch]
            out[chosen] = self.batch_embeddings([ids[i] for i in chosen])
            if at // self.batch % 50 == 49:
                print(f"{what}: {at + len(chosen)} of {len(ids)}", file=sys.stderr)
        seconds, cpu, tokens = time.perf_counter() - start, time.process_time() - start_cpu, sum(map(len, ids))
        print(f"{what}: {len(ids)} texts, {tokens} tokens, {seconds:.1f} s ({cpu:.1f} s of CPU), "
              f"{tokens / seconds:.0f} tokens/s", file=sys.stderr)
        return out


def ranking(scores, docids, depth):
    """The best `depth` passages of one query: score descending, then docid descending, as trec_eval orders."""
    depth = min(depth, len(docids))
    worst = np.partition(scores, -depth)[-depth]
    candidates = np.flatnonzero(scores >= worst)  # with all that tie for the last place
    by_docid = sorted(candidates, key=lambda i: docids[i], reverse=True)
    return sorted(by_docid, key=lambda i: -scores[i])[:depth]


def write_run(path, qids, docids, scores, depth):
    """`qid Q0 docid rank score tag` lines; nine digits keep an f32 score exact."""
    with open(path + ".partial", "w", encoding="utf-8") as file:
        for qid, row in zip(qids, scores):
            for rank, i in enumerate(ranking(row, docids, depth), 1):
                file.write(f"{qid} Q0 {docids[i]} {rank} {row[i]:.9g} {TAG}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".partial", path)


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)  # the tokenizer's threads
    encoder = Encoder(options.model, options.batch)
    docids, passage_texts = passages(options.corpus, options.limit)
    qids, query_texts = queries(options.queries, options.limit)
    query_embeddings = encoder.encode(query_texts, QUERY_TOKENS, "queries")
    passage_embeddings = encoder.encode(passage_texts, PASSAGE_TOKENS, "passages")
    start = time.perf_counter()
    scores = torch.from_numpy(query_embeddings) @ torch.from_numpy(passage_embeddings).T
    write_run(options.out, qids, docids, scores.numpy(), options.depth)
    print(f"search: {len(qids)} queries, {time.perf_counter() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
