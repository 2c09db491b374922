#!/usr/bin/env bash
# On the GPU machine, beside what bench/gpu/pack.sh packed: are the numbers right? The golden tests of
# PyTorch's states, losses, gradients and steps on the GPU (encoders, a generator's decoder, T5), then the
# same runs on the processor and on the GPU through the program, and one that is killed and goes on.
#
# usage: ./check.sh MODEL_DIR ROWS.jsonl
#   MODEL_DIR  multilingual-e5-small
#   ROWS       training rows (xqg mine)
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
for test in golden_composed golden_composed_decoder golden_t5; do
    XQG_TEST_DEVICE=cuda XQG_TEST_GOLDEN=$PWD/golden "./$test" --test-threads 1
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/retriever.toml" <<TOML
model = "$(realpath "$1")"
out = "unused"
data.train = ["$(realpath "$2")"]
batch.queries = 32
run.steps = 100
run.validate_every = 50
run.save_every = 25
TOML
# The generator learns to write each row's question from its first positive passage.
python3 - "$2" "$work/pairs.jsonl" <<'PYTHON'
import json, sys

with open(sys.argv[1]) as rows, open(sys.argv[2], "w") as out:
    for row in map(json.loads, rows):
        passage = row["positive_passages"][0]
        source = f"{passage.get('title', '')} {passage['text']}".strip()
        out.write(json.dumps({"source": source, "lang": row["lang"], "text": row["query"]}) + "\n")
PYTHON
cat > "$work/generator.toml" <<TOML
encoder = "$(realpath "$1")"
out = "unused"
langs = ["ar", "bn", "fi", "ja", "ko", "ru", "te"]
tasks = [{ name = "mined", files = ["$work/pairs.jsonl"], side = "passage" }]
run.steps = 60
run.validate_every = 30
TOML
run() { # name, retriever or generator, device, precision
    ./xqg train "$2" --config "$work/$2.toml" --out "$work/$1" --device "$3" --precision "$4"
}
for what in retriever generator; do
    run "$what-cpu" "$what" cpu f32
    run "$what-f32" "$what" cuda f32
    run "$what-bf16" "$what" cuda bf16
done

# Killed after its first saved state, and once more to its end.
run killed retriever cuda bf16 &
until [ "$(wc -l < "$work/killed/log.jsonl" || true)" -ge 40 ] || ! kill -0 $!; do sleep 0.05; done 2> "$work/waiting"
pkill -KILL -f "$work/killed" || true
wait || true
run killed retriever cuda bf16

python3 - "$work" <<'PYTHON'
import json, sys
from pathlib import Path

def losses(name):
    rows = map(json.loads, (Path(sys.argv[1]) / name / "log.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row and "rate" in row]

mean = lambda numbers: sum(numbers) / len(numbers)
for what in ["retriever", "generator"]:
    cpu = losses(f"{what}-cpu")
    print(f"{what}, processor: first loss {cpu[0]:.4f}, last 20 steps' mean {mean(cpu[-20:]):.4f}")
    for name in ["f32", "bf16"]:
        other = losses(f"{what}-{name}")
        apart = [abs(a - b) for a, b in zip(cpu, other)]
        print(f"{what}, GPU, {name}: losses apart at most {max(apart[:10]):.1e} in 10 steps, {max(apart):.1e} in "
              f"{len(other)}; last 20 steps' mean {mean(other[-20:]):.4f}")
PYTHON
cmp "$work/retriever-bf16/last/model.safetensors" "$work/killed/last/model.safetensors" \
    && echo "killed on the GPU and gone on: the same bits" || echo "killed on the GPU and gone on: NOT the same bits"
