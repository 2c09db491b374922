#!/usr/bin/env bash
# A training step against PyTorch with transformers: the same model, batch, lengths and threads, the
# two in turn. Installs PyTorch into a virtual environment (some GB), builds our worker, prints a table.
#
# usage: bench/train/run.sh MODEL_DIR WORK_DIR [STEPS]
#   MODEL_DIR  multilingual-e5-small (xqg model get … --to DIR)
#   WORK_DIR   for the environment; XQG_BENCH_PYTHON names another Python
set -euo pipefail
[ "$#" -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 work=$2 steps=${3:-7}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
python=${XQG_BENCH_PYTHON:-$work/venv/bin/python}
if [ -z "${XQG_BENCH_PYTHON:-}" ] && [ ! -x "$python" ]; then
    python3 -m venv "$work/venv"
    "$python" -m pip install -q -r "$here/requirements.txt"
fi
(cd "$here/../.." && cargo build -q --release -p xqg-train --example step_worker)
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /machine: /' || true
"$python" -c 'import torch, transformers
print("versions: torch", torch.__version__, "transformers", transformers.__version__)'
"$python" "$here/compare.py" --model "$model" --steps "$steps" \
    --worker "$here/../../target/release/examples/step_worker"
