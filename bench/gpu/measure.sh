#!/usr/bin/env bash
# On the GPU machine: step time and peak memory against PyTorch with transformers, the same shapes and
# precision, in turn. Needs a Python with torch and transformers (requirements.txt).
#
# usage: ./measure.sh MODEL_DIR [STEPS]
#   MODEL_DIR  multilingual-e5-small; XQG_BENCH_PYTHON names the Python
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")"
python=${XQG_BENCH_PYTHON:-python3}
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
"$python" -c 'import torch, transformers
print("versions: torch", torch.__version__, "transformers", transformers.__version__)'
for pairs in 32 256; do
    for precision in f32 bf16; do
        echo "$pairs pairs of 32 and 128 tokens, $precision"
        "$python" compare.py --model "$1" --worker ./step_worker --python "$python" --steps "${2:-20}" \
            --device cuda --precision "$precision" --pairs "$pairs" --threads "$(nproc)"
    done
done
