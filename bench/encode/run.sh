#!/usr/bin/env bash
# Encoding speed against PyTorch, sentence-transformers and ONNX Runtime, and how near the vectors
# are. Installs the peers into a virtual environment (some GB), builds our worker, prints the tables.
#
# usage: bench/encode/run.sh MODEL_DIR DATA_DIR WORK_DIR [STEP …]
#   MODEL_DIR  multilingual-e5-small (xqg model get … --to DIR); its ONNX export is written into it
#   DATA_DIR   holds wiki-leads/ and xor-tydi/
#   WORK_DIR   for the environment and intermediate files; XQG_BENCH_PYTHON names another Python
#   STEP       short (a batch, a lone query), passages, questions (whole runs); without any, all of them
#   ROUNDS (5) is read from the environment; RUN may name a command that goes before each measuring step.
set -euo pipefail
[ "$#" -ge 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 data=$2 work=$3; shift 3
steps=${*:-short passages questions} rounds=${ROUNDS:-5}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
python=${XQG_BENCH_PYTHON:-$work/venv/bin/python}
if [ -z "${XQG_BENCH_PYTHON:-}" ] && [ ! -x "$python" ]; then
    python3 -m venv "$work/venv"
    "$python" -m pip install -q -r "$here/requirements.txt"
fi
(cd "$here/../.." && cargo build -q --release -p xqg -p xqg-model --bins --example bench_worker)
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /machine: /' || true
"$python" -c 'import onnxruntime, torch, transformers, sentence_transformers as s
print("versions: torch", torch.__version__, "transformers", transformers.__version__,
      "sentence-transformers", s.__version__, "onnxruntime", onnxruntime.__version__)'
release=$here/../../target/release
both=(--model "$model" --data "$data" --work "$work")
for step in $steps; do
    case $step in
        short) ${RUN:-} "$python" "$here/compare.py" "${both[@]}" --repeats "$rounds" --worker "$release/examples/bench_worker" ;;
        passages | questions)
            whole() { "$@" "$python" "$here/whole.py" "${both[@]}" --xqg "$release/xqg" --rounds "$rounds" "$step" "$what"; }
            for what in $(seq "$rounds"); do whole ${RUN:-env}; done
            what=table; whole env ;;
        *) echo "no such step: $step" >&2; exit 2 ;;
    esac
done
