"""The passages that hold an answer, for the experiments: as words and not too many of them, as `xqg train retriever` learns
from, and anywhere, as R@kt judges."""

import bisect

# An answer that more than this part of all passages hold says nothing about any.
COMMON = 0.02
NO_STRINGS = {"", "yes", "no", "unknown"}


class Holders:
    def __init__(self, texts):
        self.texts = texts
        self.joined = "\n".join(texts)
        self.starts, at = [], 0
        for text in texts:
            self.starts.append(at)
            at += len(text) + 1
        self.known = {}

    def find(self, answer):
        """Rows of the passages that hold one answer: as words, and anywhere."""
        if answer not in self.known:
            words, anywhere, at = set(), set(), self.joined.find(answer)
            while at >= 0:
                row, end = bisect.bisect_right(self.starts, at) - 1, at + len(answer)
                anywhere.add(row)
                if not (self.joined[max(at - 1, 0) : at].isalnum() or self.joined[end : end + 1].isalnum()):
                    words.add(row)
                at = self.joined.find(answer, at + 1)
            self.known[answer] = (words if len(words) <= COMMON * len(self.texts) else set(), anywhere)
        return self.known[answer]

    def of(self, answers):
        """The same of all answers of a question."""
        found = [self.find(answer) for answer in (a.strip() for a in answers) if answer not in NO_STRINGS]
        return [set().union(*(pair[side] for pair in found)) for side in (0, 1)]


def demand(questions, passages):
    """How many answers lie in each passage; an answer in n passages counts 1/n in each."""
    shares = [0.0] * passages
    for rows in questions:
        for row in rows:
            shares[row] += 1 / len(rows)
    return shares
