#!/usr/bin/env python3
"""Engines side by side over one collection: the same vectors, the same queries, taking turns.

usage: compare.py --data DATA.npy --queries NAME=QUERIES.npy … --index INDEX --work DIR --worker PROGRAM
                  [--threads 2] [--rounds 7] [--graphs PEER …] [--title TEXT]

PROGRAM is the example `search_worker` of xqg-index and INDEX holds DATA. Each engine is a process that
stays loaded; every round asks each of them once, so that a noisy moment meets all. Prints tables:
one query at a time, batches of 256, and with --graphs approximate search at equal recall.
"""
import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import Engine, spread  # noqa: E402  (after the path is set)

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
K, ONES, BATCH, LARGE = 100, 10, 256, 1024
REFERENCE = "FAISS IndexFlatIP"
RECALL = 0.98
GRAPH_PEERS = {"hnsw": "FAISS IndexHNSWFlat", "usearch-hnsw": "usearch HNSW"}
DISTURBED, TRIES = 0.15, 8  # threads that others may use meanwhile; how often a disturbed measurement is repeated
EFFORTS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


def machine_seconds():
    """Seconds of work on all cores so far, whoever did it."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


class Searcher(Engine):
    """A process that searches when asked."""

    def __init__(self, name, command):
        super().__init__(name, command)
        self.built = float(self.said.split()[1])

    def results(self, work, k=K):
        """Ids and scores of the last search, one row a query."""
        path = Path(work) / "last"
        self.ask(f"save {path}")
        ids, scores = (np.load(f"{path}.{kind}.npy").reshape(-1, k) for kind in ("ids", "scores"))
        return ids.astype(np.int64), scores

    def cpu_seconds(self):
        """Seconds of work on all threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def timed(self, line):
        """Seconds that the process says, threads that it used, and how often that was repeated
        because others worked on the machine meanwhile."""
        for tries in range(TRIES):
            own, all_of, begun = self.cpu_seconds(), machine_seconds(), time.perf_counter()
            wall = float(self.ask(line))
            passed, own = time.perf_counter() - begun, self.cpu_seconds() - own
            if machine_seconds() - all_of - own < DISTURBED * passed + 3 / TICKS:
                break
        return wall, own / max(passed, 1e-9), tries

    def memory(self):
        """Resident megabytes of its own, and of mapped files."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        kb = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
        return int(kb["RssAnon"]) // 1024, int(kb["RssFile"]) // 1024


class Queries:
    """Sets of queries in one file, a stretch for each round with as many of every set."""

    def __init__(self, named, work):
        sets = [np.load(path) for _, path in named]
        self.path = Path(work) / "queries.npy"
        least = min(map(len, sets))
        np.save(self.path, np.stack([s[:least] for s in sets], 1).reshape(-1, sets[0].shape[1]))
        self.count = least * len(sets)


def same(found, reference):
    """Compares rankings with the reference's: how many are equal, how many differ only where scores
    are equal to the last digits, and how many differ otherwise."""
    counts = [0, 0, 0]
    tolerance = 1e-6  # single precision: 384 products added up in another order
    for ids, scores, ids_r, scores_r in zip(*found, *reference):
        if np.array_equal(ids, ids_r):
            counts[0] += 1
            continue
        at = {row: score for row, score in zip(ids_r, scores_r)}
        close = np.allclose(scores, scores_r, rtol=0, atol=tolerance)
        missing = all(at.get(row, scores_r[-1]) - score < tolerance for row, score in zip(ids, scores))
        counts[1 if close and missing else 2] += 1
    return counts


def exact_engines(args, queries, threads):
    """The engines that compare every row."""
    python = [sys.executable, HERE / "worker.py"]
    tail = [args.data, queries.path, threads, args.work]
    rows = {REFERENCE: "flat", "FAISS IndexScalarQuantizer 8 bits": "sq8", "usearch exact": "usearch"}
    if threads > 1:
        rows["FAISS IndexFlatIP, a shard a thread"] = "flat-shards"
        rows["FAISS IndexFlatIP, batches filled up to 512"] = "flat-blas"
    engines = [Searcher(name, python + [kind] + tail) for name, kind in rows.items()]
    return engines + [Searcher("xqg exact", [args.worker, args.index, queries.path, threads])]


def rounds(engines, verb, count, queries, args):
    """Seconds a query and threads in use of each engine, round by round, and how its rankings
    compare with the reference's over all rounds."""
    seconds, cores = ({e.name: [] for e in engines} for _ in range(2))
    agree, repeated = {e.name: np.zeros(3, int) for e in engines}, 0
    for i in range(args.rounds + 1):
        line = f"{verb} {i * count % max(1, queries.count - count)} {count} {K}"
        found = {}
        for engine in engines:
            wall, threads, again = engine.timed(line)
            repeated += again
            if i > 0:  # the first round warms up
                seconds[engine.name].append(wall / count)
                cores[engine.name].append(threads)
            found[engine.name] = engine.results(args.work)
        for engine in engines:
            agree[engine.name] += same(found[engine.name], found[REFERENCE])
    if repeated:
        print(f"({repeated} measurements were repeated because others worked on the machine)\n")
    return seconds, cores, agree


def table(engines, measured, args):
    """Prints one row an engine."""
    seconds, cores, agree = measured
    print("| engine | ms a query | queries/s | times FAISS IndexFlatIP (least, greatest) | threads in use |"
          " same top 100 / same but for last digits / other |")
    print("|---|---|---|---|---|---|")
    for e in engines:
        median = statistics.median(seconds[e.name])
        print(f"| {e.name} | {median * 1000:.2f} | {1 / median:.1f} | {spread(seconds[REFERENCE], seconds[e.name])} |"
              f" {statistics.median(cores[e.name]):.1f} |"
              f" {' / '.join(map(str, agree[e.name]))} |")


def exact(args, queries, threads):
    """Exact search: one query at a time and batches."""
    every = exact_engines(args, queries, threads)
    batches = [("batch", n, f"batches of {n}") for n in (BATCH, LARGE) if threads > 1 and n < queries.count]
    for verb, count, title in [("one", ONES, "one query at a time")] + batches:
        # Comparing rows one by one, these take a minute for each large batch and win nothing by it.
        slow = ("usearch", "Scalar", "shard") if count == LARGE else ("filled",) if verb == "one" else ()
        engines = [e for e in every if not any(word in e.name for word in slow)]
        print(f"\n### {args.title}: {title}, {threads} thread{'s' * (threads > 1)}, {args.rounds} rounds\n")
        table(engines, rounds(engines, verb, count, queries, args), args)
        sys.stdout.flush()
    if threads > 1:
        print("\n| engine | seconds to build or open | memory MB: its own, mapped files |\n|---|---|---|")
        for e in every:
            print(f"| {e.name} | {e.built:.1f} | {e.memory()[0]}, {e.memory()[1]} |")
    for engine in every:
        engine.close()


def recall(engine, queries, truth, work):
    """Recall@10 over all queries, in batches."""
    hits = 0
    for start in range(0, queries.count, BATCH):
        count = min(BATCH, queries.count - start)
        engine.ask(f"batch {start} {count} 10")
        ids = engine.results(work, 10)[0]
        hits += sum(len(set(a) & set(b)) for a, b in zip(ids, truth[start : start + count, :10]))
    return hits / (10 * queries.count)


def all_exact(args, queries):
    """The exact top 100 of every query, by the reference."""
    python = [sys.executable, HERE / "worker.py", "flat", args.data, queries.path, args.threads, args.work]
    engine, parts = Searcher(REFERENCE, python), []
    for start in range(0, queries.count, BATCH):
        engine.ask(f"batch {start} {min(BATCH, queries.count - start)} {K}")
        parts.append(engine.results(args.work)[0])
    engine.close()
    return np.concatenate(parts)


def tune(engine, queries, truth, work):
    """The least effort with the wanted recall; returns it and the recall."""
    for effort in EFFORTS:
        engine.ask(f"effort {effort}")
        reached = recall(engine, queries, truth, work)
        if reached >= RECALL:
            break
    return effort, reached


def graph_engines(args, queries):
    """The engines that search a graph; ours where the worker can."""
    python = [sys.executable, HERE / "worker.py"]
    tail = [args.data, queries.path, args.threads, args.work]
    rows = {GRAPH_PEERS[kind]: python + [kind] + tail for kind in args.graphs}
    rows["xqg approximate"] = [args.worker, args.index, queries.path, args.threads, "graph"]
    engines = [Searcher(name, command) for name, command in rows.items()]
    engines[-1].built = float((Path(args.work) / "xqg-graph.seconds").read_text())
    return engines


def graphs(args, queries):
    """Approximate search, each engine at the least effort with the wanted recall@10."""
    truth = all_exact(args, queries)
    engines = graph_engines(args, queries)
    tuned = {e.name: tune(e, queries, truth, args.work) for e in engines}
    seconds = {("one", e.name): [] for e in engines} | {("batch", e.name): [] for e in engines}
    for i in range(args.rounds + 1):
        for verb, count in (("one", 100), ("batch", BATCH)):
            for e in engines:
                wall, _, _ = e.timed(f"{verb} {i * count % (queries.count - count)} {count} 10")
                seconds[verb, e.name] += [wall / count] if i else []
    first = engines[0].name
    print(f"\n### {args.title}: approximate, recall@10 at least {RECALL}, top 10, {args.threads} threads, "
          f"{args.rounds} rounds\n")
    print("| engine | effort | recall@10 | one by one: queries/s | times FAISS HNSW (least, greatest) |"
          " batches: queries/s | times FAISS HNSW | seconds to build | memory MB: its own, mapped |")
    print("|---|---|---|---|---|---|---|---|---|")
    for e in engines:
        cells = []
        for verb in ("one", "batch"):
            own = seconds[verb, e.name]
            cells += [f"{1 / statistics.median(own):.0f}", spread(seconds[verb, first], own)]
        effort, reached = tuned[e.name]
        print(f"| {e.name} | {effort} | {reached:.3f} | {' | '.join(cells)} | {e.built:.0f} |"
              f" {e.memory()[0]}, {e.memory()[1]} |")
        e.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--queries", required=True, nargs="+", metavar="NAME=FILE")
    parser.add_argument("--index", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--title", default="exact")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--graphs", nargs="+", choices=GRAPH_PEERS, default=[])
    args = parser.parse_args()
    queries = Queries([pair.split("=", 1) for pair in args.queries], args.work)
    if args.graphs:
        graphs(args, queries)
    else:
        exact(args, queries, args.threads)


if __name__ == "__main__":
    main()
