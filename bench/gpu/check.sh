#!/usr/bin/env bash
# On the GPU machine, beside what bench/gpu/pack.sh packed: are the numbers right? The golden tests of
# PyTorch's states, losses, gradients and steps on the GPU, then the same run on the processor and on
# the GPU through the program.
#
# usage: ./check.sh MODEL_DIR ROWS.jsonl
#   MODEL_DIR  multilingual-e5-small
#   ROWS       training rows (xqg mine)
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
XQG_TEST_DEVICE=cuda XQG_TEST_GOLDEN=$PWD/golden ./golden_composed --test-threads 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/train.toml" <<TOML
model = "$1"
out = "unused"
data.train = ["$(realpath "$2")"]
batch.queries = 32
run.steps = 100
run.validate_every = 50
run.save_every = 50
TOML
run() { # name, device, precision
    ./xqg train retriever --config "$work/train.toml" --out "$work/$1" --device "$2" --precision "$3"
}
run cpu cpu f32
run f32 cuda f32
run bf16 cuda bf16
run again cuda bf16
python3 - "$work" <<'PYTHON'
import json, sys
from pathlib import Path

def losses(name):
    rows = map(json.loads, (Path(sys.argv[1]) / name / "log.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]

cpu = losses("cpu")
for name in ["f32", "bf16"]:
    other = losses(name)
    apart = [abs(a - b) for a, b in zip(cpu, other)]
    mean = lambda numbers: sum(numbers) / len(numbers)
    print(f"{name}: losses apart at most {max(apart[:10]):.1e} in 10 steps, {max(apart):.1e} in {len(cpu)}; "
          f"last 20 steps' mean {mean(other[-20:]):.4f}, processor {mean(cpu[-20:]):.4f}")
PYTHON
cmp "$work/bf16/last/model.safetensors" "$work/again/last/model.safetensors" \
    && echo "two runs on the GPU: the same bits" || echo "two runs on the GPU: NOT the same bits"
