#!/usr/bin/env bash
# How many questions of speakers the gate takes for another language: native questions, filtered. The
# table's line `language` counts the rejected; those of other lines are not questions of one language.
#
# usage: ci/languages.sh BINARY DATA
#   DATA  the folder that holds native-questions/L.txt
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$2/native-questions" > "$work/questions.jsonl" <<'PY'
import json, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.txt")):
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for i, line in enumerate(lines[:: max(1, len(lines) // 1000)]):
        print(json.dumps({"docid": f"{path.stem}{i}", "lang": path.stem, "text": line}, ensure_ascii=False))
PY
"$1" filter --questions "$work/questions.jsonl" --out "$work/kept.jsonl"
