#!/usr/bin/env bash
# On the GPU machine: step time and peak memory against PyTorch with transformers, the same shapes and
# precision, in turn. Needs a Python with torch and transformers (requirements.txt). Then what the reference
# recipe takes (mBERT's shape, 128 queries, 8 passages each).
#
# usage: ./measure.sh MODEL_DIR [STEPS]
#   MODEL_DIR  multilingual-e5-small; XQG_BENCH_PYTHON names the Python
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")"
python=${XQG_BENCH_PYTHON:-python3}
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
"$python" -c 'import torch, transformers
print("versions: torch", torch.__version__, "transformers", transformers.__version__)'
measure() { # pairs, precision, settings…
    local pairs=$1 precision=$2 only=()
    shift 2
    for setting in "$@"; do only+=(--only "$setting"); done
    echo "$pairs pairs of 32 and 128 tokens, $precision"
    "$python" compare.py --model "$model" --worker ./step_worker --python "$python" --steps "$steps" \
        --device cuda --precision "$precision" --pairs "$pairs" --threads "$(nproc)" "${only[@]}"
}
model=$1 steps=${2:-20}
measure 32 f32 "full, no dropout"
measure 32 bf16 "full, dropout 0.1"
measure 256 f32 "full, dropout 0.1"
measure 256 bf16 "full, dropout 0.1" "pruned, dropout 0.1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" reference.py --binary ./xqg --work "$work" --device cuda --steps 3
