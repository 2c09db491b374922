#!/usr/bin/env bash
# What does int8 cost in quality? Indexes wiki-leads in both precisions, searches half of XOR-TyDi's
# dev questions, and compares.
#
# usage: bench/precision.sh MODEL DATA_DIR WORK_DIR      (XQG names the program)
set -euo pipefail
[ "$#" -eq 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 data=$2 work=$3 xqg=${XQG:-xqg}
corpus=$data/wiki-leads/corpus.jsonl dev=$data/xor-tydi/dev-half.jsonl
mkdir -p "$work"
for precision in f32 int8; do
    echo "== $precision"
    time "$xqg" index --model "$model" --corpus "$corpus" --out "$work/$precision" --precision $precision --force
    "$xqg" search --index "$work/$precision" --queries "$dev" -k 150 --out "$work/$precision.trec" --force
done
"$xqg" compare --baseline "$work/f32.trec" --run "$work/int8.trec" --queries "$dev" --corpus "$corpus" \
    --measures R@2kt,R@5kt
