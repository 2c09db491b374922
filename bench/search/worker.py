#!/usr/bin/env python3
"""One peer, loaded once, that searches when asked.

usage: worker.py ENGINE DATA.npy QUERIES.npy THREADS WORK_DIR
ENGINE: flat, flat-blas (batches filled up to 512), flat-shards (one part a thread), sq8, hnsw (FAISS); usearch, usearch-hnsw

Prints `ready SECONDS_TO_BUILD`, then answers lines on standard input:
    one START COUNT K      searches the queries one by one, prints the seconds
    batch START COUNT K    searches them in one call, prints the seconds
    save PATH              writes the last ids and scores (PATH.ids.npy, PATH.scores.npy), prints saved
    effort N               sets how widely a graph is searched (efSearch, expansion), prints set
The example search_worker of xqg-index speaks the same.
"""
import json
import os
import sys
import time
from pathlib import Path

THREADS = int(sys.argv[4])
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[4]

import numpy as np  # noqa: E402  (after the threads are set)

M, EF_CONSTRUCTION = int(os.environ.get("LINKS", 32)), int(os.environ.get("BUILD_EFFORT", 200))
BLAS_BATCH = 512


def built_once(path, build, write):
    """Builds what is not on disk yet; returns the seconds that the building took."""
    times = path.with_suffix(".json")
    if not times.exists():
        begun = time.perf_counter()
        index = build()
        seconds = time.perf_counter() - begun
        write(index)
        times.write_text(json.dumps(seconds))
    return json.loads(times.read_text())


class Faiss:
    """An index of FAISS over all rows."""

    def __init__(self, kind, data, work):
        import faiss

        self.faiss, self.dim = faiss, data.shape[1]
        faiss.omp_set_num_threads(THREADS)
        begun = time.perf_counter()
        self.index = getattr(self, kind.replace("-", "_"))(data, work)
        self.seconds = getattr(self, "seconds", time.perf_counter() - begun)

    def add(self, index, data):
        for start in range(0, len(data), 50_000):
            index.add(np.ascontiguousarray(data[start : start + 50_000]))
        return index

    def flat(self, data, work):
        return self.add(self.faiss.IndexFlatIP(self.dim), data)

    def flat_blas(self, data, work):
        """FAISS 1.15 multiplies matrices by BLAS from some hundreds of queries on only, and is then
        eight times as fast; a smaller batch gains by being filled up."""
        self.least = BLAS_BATCH
        return self.flat(data, work)

    def flat_shards(self, data, work):
        """FAISS gives one query to one thread; shards are its means to give it to several."""
        index = self.faiss.IndexShards(self.dim, True, True)
        self.parts = []
        for rows in np.array_split(data, THREADS):
            self.parts.append(self.add(self.faiss.IndexFlatIP(self.dim), rows))
            index.add_shard(self.parts[-1])
        return index

    def sq8(self, data, work):
        faiss = self.faiss
        index = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(data[:: max(1, len(data) // 100_000)]))
        return self.add(index, data)

    def hnsw(self, data, work):
        faiss, path = self.faiss, work / f"faiss-hnsw-{M}-{EF_CONSTRUCTION}.index"

        def build():
            index = faiss.IndexHNSWFlat(self.dim, M, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            return self.add(index, data)

        self.seconds = built_once(path, build, lambda index: faiss.write_index(index, str(path)))
        return faiss.read_index(str(path))

    def effort(self, n):
        self.index.hnsw.efSearch = n

    def search(self, queries, k):
        n, least = len(queries), getattr(self, "least", 0)
        if 1 < n < least:
            queries = np.concatenate([queries, np.zeros((least - n, self.dim), np.float32)])
        scores, ids = self.index.search(queries, k)
        return ids[:n], scores[:n]


class Usearch:
    """usearch: every row compared, or its graph."""

    def __init__(self, kind, data, work):
        import usearch.index as usearch

        self.usearch, self.data, self.seconds, self.index = usearch, None, 0.0, None
        if kind == "usearch":
            self.data = np.array(data)
        else:
            self.index, self.seconds = self.graph(data, work)

    def graph(self, data, work):
        path = work / f"usearch-{M}-{EF_CONSTRUCTION}.index"
        make = lambda: self.usearch.Index(  # noqa: E731
            ndim=data.shape[1], metric="ip", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION)

        def build():
            index = make()
            for start in range(0, len(data), 50_000):
                rows = np.ascontiguousarray(data[start : start + 50_000])
                index.add(np.arange(start, start + len(rows)), rows, threads=THREADS)
            return index

        seconds = built_once(path, build, lambda index: index.save(str(path)))
        index = make()
        index.load(str(path))
        return index, seconds

    def effort(self, n):
        self.index.expansion_search = n

    def search(self, queries, k):
        if self.index is not None:
            found = self.index.search(queries, k, threads=THREADS)
        else:
            found = self.usearch.search(self.data, queries, k, "ip", exact=True, threads=THREADS)
        return found.keys, 1 - found.distances


def answer(engine, queries, line, last):
    """Does what a line asks; returns the words to print and the last results."""
    verb, *rest = line.split()
    if verb == "effort":
        engine.effort(int(rest[0]))
        return "set", last
    if verb == "save":
        np.save(rest[0] + ".ids.npy", last[0].ravel())
        np.save(rest[0] + ".scores.npy", last[1].ravel())
        return "saved", last
    start, count, k = map(int, rest)
    asked = np.ascontiguousarray(queries[start : start + count])
    begun = time.perf_counter()
    if verb == "batch":
        ids, scores = engine.search(asked, k)
    else:
        ids, scores = zip(*[[part.reshape(k) for part in engine.search(asked[i : i + 1], k)] for i in range(count)])
    seconds = time.perf_counter() - begun
    return f"{seconds:.6f}", (np.array(ids).astype(np.int64), np.array(scores, dtype=np.float32))


def main():
    kind, data, queries, _, work = sys.argv[1:6]
    data, queries = np.load(data, mmap_mode="r"), np.load(queries)
    engine = (Usearch if kind.startswith("usearch") else Faiss)(kind, data, Path(work))
    print(f"ready {engine.seconds:.3f}", flush=True)
    last = None
    for line in sys.stdin:
        words, last = answer(engine, queries, line, last)
        print(words, flush=True)


if __name__ == "__main__":
    main()
