#!/usr/bin/env python3
"""Writes words.json: texts and their tokens by NLTK's word_tokenize, for the tests of `words`.

Needs ci/requirements-nltk.txt; made with nltk 3.9.4.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3] / "ci"))

from nltk_english import word_tokenize  # noqa: E402

TEXTS = [
    "",
    " \u00a0\n\u2028",
    "Good muffins cost $3.88\nin New York.  Please buy me\ntwo of them.\n\nThanks.",
    "Dr. J. B. Smith of Smith Inc. met the U.S. Senate on Jan. 5. He left at 4 p.m. The vote failed.",
    "He said, \"I can't go.\" (They'd left.) \"Why?\" she asked.",
    "The so-called 'lemme see' rule: d'ye know it? 'Tis more'n I wanna say; I cannot.",
    "Born 3 May 1920 – died c. 1985, in St. Petersburg [now Leningrad]... or so.",
    "«Oui», “yes” and ‘no’; it’s 5–0. ``Quoted'' ''text''",
    "e.g. 1,000:5 a,b ,,c :) x@y.z #1 50% A&B * --- -- '90s rock'n'roll 'x' O'Neil's dogs'",
    "Section 4. Review of it. 5. administrators met. No. 10. Systematic work. i. magnin",
    "Wait!!! What?! No . . . yes. . . . So? 'a.' (b.) [c.] {d.} \"e.\" --f.",
    "नमस्ते. क्या? 東京。大阪！ العربية؟ Ж. Ёлка. É. Zola. 한국어. 😀! 👩‍👩‍👧.",
    "A\x1cB\x1fC\x85D\u00a0E\u200bF\ufeffG\u3000H.\u2003I? J!\x0bK",
    "\"\" \"a\"\"b\" (\"c\") '''d''' `e` \"f.\" '' \"",
    "x.y.z a.. b... c. .d ..e '' . '' g.' h.) i.'' j",
    "THEY'LL DON'T donN'T he'S I'm we'VE 'll n't 's a's' b's', c's'",
    "gımme 'tıſ 'ſ x 'İs' Kelvin K. Straße. ß. ΣΑΣ. İst.",
    "a" * 200 + "." + "b" * 200 + ". " + "C" * 200,
]


def main():
    golden = [{"text": text, "tokens": word_tokenize(text)} for text in TEXTS]
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in golden)
    (HERE / "words.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
