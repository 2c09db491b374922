"""A FAISS file that `xqg index export` wrote: `faiss.read_index` opens it, and it finds for every
query the ten passages that `xqg search` found, with the same scores.

    faiss_export.py FUSED.faiss QUERIES.npy RUN.trec
"""

import sys
from collections import defaultdict
from pathlib import Path

import faiss
import numpy as np


def main(index_path: str, queries_path: str, run_path: str) -> None:
    index = faiss.read_index(index_path)
    docids = Path(index_path).with_suffix(".ids").read_text().split("\n")[:-1]
    assert isinstance(index, faiss.IndexFlat) and index.metric_type == faiss.METRIC_INNER_PRODUCT
    assert index.ntotal == len(docids), (index.ntotal, len(docids))
    queries = np.load(queries_path).astype(np.float32)
    qids = Path(queries_path).with_suffix(".ids").read_text().split("\n")[:-1]
    run = defaultdict(list)
    for line in Path(run_path).read_text().splitlines():
        qid, _, docid, _, score, _ = line.split(" ")
        run[qid].append((docid, float(score)))
    scores, rows = index.search(queries, 10)
    for qid, best, found in zip(qids, scores, rows):
        for (docid, score), theirs, row in zip(run[qid][:10], best, found):
            # Two passages whose scores are equal to rounding may change places.
            assert abs(score - theirs) < 2e-6, (qid, docid, score, theirs)
            assert docid == docids[row] or abs(score - theirs) < 1e-6, (qid, docid, docids[row])
        same = len({d for d, _ in run[qid][:10]} & {docids[row] for row in found})
        assert same >= 9, (qid, same)
    print(f"{len(qids)} queries over {index.ntotal} passages: FAISS finds the same")


if __name__ == "__main__":
    main(*sys.argv[1:])
