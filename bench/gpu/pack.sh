#!/usr/bin/env bash
# Builds with CUDA here what a GPU machine runs, and packs it: the program, the tests of what candle's operations
# compute, the worker of the measurement, each stripped.
#
# usage: bench/gpu/pack.sh WORK_DIR
#   WORK_DIR   as bench/gpu/build.sh; the result is WORK_DIR/gpu.tar.gz
set -euo pipefail
[ "$#" -eq 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
work=$(cd "$1" && pwd) here=$(cd "$(dirname "$0")" && pwd)
"$here/build.sh" "$work" build --release --bin xqg --features cuda
"$here/build.sh" "$work" build --release -p xqg-train --features cuda --example step_worker
tests=(golden_composed golden_composed_decoder golden_t5)
"$here/build.sh" "$work" test --release -p xqg-train --features cuda "${tests[@]/#/--test=}" --no-run

pack=$work/gpu
rm -rf "$pack"
mkdir -p "$pack/golden" "$pack/train"
for test in "${tests[@]}"; do
    cp "$(ls -t "$work/target/release/deps/$test"-* | grep -v '\.d$' | head -1)" "$pack/$test"
done
cp "$work/target/release/xqg" "$work/target/release/examples/step_worker" "$pack"
strip "$pack/xqg" "$pack/step_worker" "${tests[@]/#/$pack/}"
cp -r "$here/../../crates/xqg-train/tests/golden/"{bert,bert-tanh,xlmr,decoder,t5,mt5} "$pack/golden"
cp "$here/../train/"{compare,reference,worker}.py "$here"/{check,measure}.sh "$here/../train/requirements.txt" "$pack"
tar -C "$work" -czf "$work/gpu.tar.gz" gpu
ls -l "$work/gpu.tar.gz"
