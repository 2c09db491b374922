"""Does RR@10 of XQuAD over its own 240 paragraphs lie where multilingual-e5-small's does? Each value comes from
bench/precision.sh in f32; other precisions and pip's or the hub's weights stay within the tolerance.

usage: check_xquad.py FOLDER    (holds xquad-LANG.json of `xqg evaluate --json`)
"""

import json
import sys
from pathlib import Path

EXPECTED = {"ar": 0.721, "ru": 0.846, "hi": 0.850}
TOLERANCE = 0.02


def main():
    wrong = 0
    for lang, expected in EXPECTED.items():
        found = json.loads((Path(sys.argv[1]) / f"xquad-{lang}.json").read_text())["measures"]["RR@10"]["macro"]
        print(f"XQuAD {lang}: RR@10 {found:.4f}, expected {expected} within {TOLERANCE}")
        wrong += abs(found - expected) > TOLERANCE
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
