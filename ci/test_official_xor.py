"""Tests of official_xor.py on a corpus small enough to count by hand.

Run with: python -m unittest discover -s ci. Needs ci/requirements-nltk.txt.
"""

import json
import tempfile
import unittest
from pathlib import Path

from official_xor import evaluate

# Passages of 1000 tokens; each ends with a word of its own, and the next begins with one.
CORPUS = [
    {"_id": f"p{i}", "title": f"Title{i}", "text": f"Start{i} " + "w " * 998 + f"End{i}"}
    for i in range(6)
]
QUERIES = [
    {"id": "end of 2kt", "answers": ["End1"], "lang": " ar"},
    {"id": "after 2kt", "answers": ["Start2", "no"], "lang": "ar"},
    {"id": "across", "answers": ["End0 Start1"], "lang": "ar"},
    {"id": "end of 5kt", "answers": ["nothing", "End4"], "lang": "bn "},
    {"id": "after 5kt", "answers": ["Start5"], "lang": "bn"},
    {"id": "title", "answers": ["Title0"], "lang": "fi"},
    {"id": "case", "answers": ["end0"], "lang": "fi"},
    {"id": "yes", "answers": ["yes", "no"], "lang": "ja"},
    {"id": "missing", "answers": ["End0"], "lang": "ko"},
]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def scores(corpus, queries, run):
    """What evaluate makes of rows and of lines of a run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "corpus", corpus)
        write_jsonl(folder / "queries", queries)
        (folder / "run").write_text("".join(f"{line}\n" for line in run), encoding="utf-8")
        return evaluate(folder / "run", folder / "queries", folder / "corpus")


class OfficialXor(unittest.TestCase):
    def test_limits_titles_and_missing_questions(self):
        queries = [{**query, "id": query["id"].replace(" ", "-")} for query in QUERIES]
        asked = [query["id"] for query in queries if query["id"] != "missing"]
        # The lines are in reverse: the score decides.
        run = [f"{q} Q0 p{i} {i + 1} {9 - i} t" for q in asked for i in reversed(range(6))]
        found = scores(CORPUS, queries, run)
        self.assertEqual(found["R@2kt"]["by_lang"], {"ar": 2 / 3, "bn": 0, "fi": 0})
        self.assertAlmostEqual(found["R@2kt"]["macro"], 2 / 9)
        self.assertEqual(found["R@5kt"]["by_lang"], {"ar": 1, "bn": 0.5, "fi": 0})
        self.assertAlmostEqual(found["R@5kt"]["macro"], 0.5)

    def test_answers_are_not_tokenized_but_texts_are(self):
        corpus = [{"_id": "p", "title": "", "text": "It's 5, he said. \"No.\""}]
        answers = {"1": "It 's 5 , he", "2": "It's", "3": "said . `` No", "4": '"No'}
        queries = [{"id": q, "answers": [a], "lang": q} for q, a in answers.items()]
        run = [f"{q} Q0 p 1 1.0 t" for q in answers]
        found = scores(corpus, queries, run)["R@2kt"]["by_lang"]
        self.assertEqual(found, {"1": 1, "2": 0, "3": 1, "4": 0})


if __name__ == "__main__":
    unittest.main()
