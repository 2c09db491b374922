#!/usr/bin/env bash
# Speed of writing questions against CTranslate2 and transformers: an mT5-small with random weights, the
# same prompts, samples and lengths; and our shared-encoder generator against our own mT5-small.
# Installs the peers into a virtual environment (some GB), builds our worker, prints the table.
#
# usage: bench/generate/run.sh MODEL_DIR DATA_DIR WORK_DIR [STEP …]
#   MODEL_DIR  multilingual-e5-small (xqg model get … --to DIR)
#   DATA_DIR   holds wiki-leads/
#   WORK_DIR   for the environment and the models (5 GB); XQG_BENCH_PYTHON names another Python
#   STEP       f32, int8; without any, both
#   ROUNDS (5) is read from the environment; RUN may name a command that goes before the measuring step.
set -euo pipefail
[ "$#" -ge 3 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 data=$2 work=$3; shift 3
steps=${*:-f32 int8}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
python=${XQG_BENCH_PYTHON:-$work/venv/bin/python}
if [ -z "${XQG_BENCH_PYTHON:-}" ] && [ ! -x "$python" ]; then
    python3 -m venv "$work/venv"
    "$python" -m pip install -q -r "$here/requirements.txt"
fi
(cd "$here/../.." && cargo build -q --release -p xqg -p xqg-model --bins --example bench_generate)
release=$here/../../target/release
head -n 2 "$data/wiki-leads/corpus.jsonl" > "$work/two.jsonl"
"$release/xqg" encode --model "$model" --corpus "$work/two.jsonl" --precision int8 --out "$work/two" --force
"$python" "$here/make_models.py" "$model" "$work/two/manifest.json" "$work"
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /machine: /' || true
"$python" -c 'import ctranslate2, torch, transformers
print("versions: torch", torch.__version__, "transformers", transformers.__version__, "ctranslate2", ctranslate2.__version__)'
for step in $steps; do
    ${RUN:-env} "$python" "$here/compare.py" --work "$work" --encoder "$model" --data "$data" --rounds "${ROUNDS:-5}" \
        --worker "$release/examples/bench_generate" --step "$step"
done
