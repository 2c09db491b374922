"""Makes trec.run, trec.qrels and trec.json: random rankings and what trec_eval says of them.

    pip install pytrec-eval-terrier==0.5.11
    python make_trec.py

The rankings hold what measures get wrong: tied scores, graded and negative judgments, passages
without judgment, rankings shorter and longer than the cuts, a query without relevant passages, a
judged query without a ranking (q90) and a ranking without judgments (q91). Scores are multiples of
1/4, which trec_eval's single precision holds exactly.
"""

import json
import pathlib
import random

import pytrec_eval

FOLDER = pathlib.Path(__file__).parent
# The name of each measure here and in trec_eval.
MEASURES = {
    "nDCG@5": "ndcg_cut_5",
    "nDCG@10": "ndcg_cut_10",
    "nDCG@100": "ndcg_cut_100",
    "R@5": "recall_5",
    "R@100": "recall_100",
    "P@5": "P_5",
    "P@10": "P_10",
    "MAP": "map",
    "RR": "recip_rank",
}
RR_CUTS = [2, 10]


def ranking(rng, depth, steps):
    docids = rng.sample(range(200), depth)
    return {f"d{d:03}": rng.randrange(steps) / 4 for d in docids}


def judgments(rng, run, grades):
    ranked = rng.sample(sorted(run), min(len(run), 12))
    missed = [f"m{i}" for i in range(rng.randrange(4))]
    return {docid: rng.choice(grades) for docid in ranked + missed}


def make(rng):
    run, qrels = {}, {}
    for i in range(14):
        # Few steps make many ties.
        run[f"q{i:02}"] = ranking(rng, rng.choice([3, 8, 40, 130]), rng.choice([6, 40, 4000]))
        grades = rng.choice([[0, 1], [-1, 0, 1, 2, 3], [0, 0, 0, 0, 1]])
        qrels[f"q{i:02}"] = judgments(rng, run[f"q{i:02}"], grades)
    qrels["q13"] = {docid: min(grade, 0) for docid, grade in qrels["q13"].items()}
    qrels["q90"] = {"d001": 1}
    run["q91"] = ranking(rng, 5, 6)
    return run, qrels


def first(ranked, cut):
    """The first passages in trec_eval's order: score descending, then docid descending."""
    order = sorted(ranked.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return dict(order[:cut])


def values(run, qrels):
    wanted = {"ndcg_cut.5,10,100", "recall.5,100", "P.5,10", "map", "recip_rank"}
    scored = pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate(run)
    out = {ours: {qid: scored[qid][theirs] for qid in scored} for ours, theirs in MEASURES.items()}
    for cut in RR_CUTS:
        short = {qid: first(ranked, cut) for qid, ranked in run.items()}
        scored = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(short)
        out[f"RR@{cut}"] = {qid: scored[qid]["recip_rank"] for qid in scored}
    return out


def main():
    rng = random.Random(20230723)
    run, qrels = make(rng)
    with open(FOLDER / "trec.run", "w") as f:
        for qid, ranked in run.items():
            # In the order of the docids, so that the reader has to sort.
            for docid, score in sorted(ranked.items()):
                f.write(f"{qid} Q0 {docid} 0 {score} t\n")
    with open(FOLDER / "trec.qrels", "w") as f:
        for qid, judged in qrels.items():
            for docid, grade in judged.items():
                f.write(f"{qid} 0 {docid} {grade}\n")
    with open(FOLDER / "trec.json", "w") as f:
        json.dump(values(run, qrels), f, indent=1, sort_keys=True)
        f.write("\n")


if __name__ == "__main__":
    main()
