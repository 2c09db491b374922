#!/usr/bin/env bash
# What does each precision cost in quality? Encodes wiki-leads, XQuAD's paragraphs, half of XOR-TyDi's
# dev questions and XQuAD's in f32 and in every 8-bit arithmetic that this machine has (XQG_ISA=avx2 is what a machine
# without VNNI computes), and prints the cosine to f32, R@2kt on XOR-TyDi over wiki-leads and
# RR@10 on XQuAD over its 240 paragraphs, with the p of each difference (paired permutation test).
#
# usage: bench/precision.sh MODEL DATA_DIR WORK_DIR      (XQG names the program, PYTHON one with numpy)
set -euo pipefail
[ "$#" -eq 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 data=$2 work=$3 xqg=${XQG:-xqg} python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
dev=$data/xor-tydi/dev-half.jsonl
mkdir -p "$work"

run() { # NAME PRECISION SET
    local name=$1
    export XQG_ISA=$3
    "$xqg" encode --model "$model" --queries "$dev" --out "$work/$name.queries" --precision "$2" --force
    "$xqg" index --model "$model" --corpus "$data/wiki-leads/corpus.jsonl" --out "$work/$name.xor" \
        --precision "$2" --force
    "$xqg" index --model "$model" --corpus "$data/xquad/corpus.jsonl" --out "$work/$name.xquad" \
        --precision "$2" --force
    "$xqg" search --index "$work/$name.xor" --queries "$dev" -k 150 --out "$work/$name.xor.trec" --force
    for lang in ar ru hi; do
        "$xqg" search --index "$work/$name.xquad" --queries "$data/xquad/queries/$lang.jsonl" -k 10 \
            --out "$work/$name.$lang.trec" --force
    done
    unset XQG_ISA
}

compare() { # NAME
    "$xqg" compare --baseline "$work/f32.xor.trec" --run "$work/$1.xor.trec" --queries "$dev" \
        --corpus "$data/wiki-leads/corpus.jsonl" --measures R@2kt --json > "$work/$1.xor.json"
    for lang in ar ru hi; do
        "$xqg" compare --baseline "$work/f32.$lang.trec" --run "$work/$1.$lang.trec" \
            --queries "$data/xquad/queries/$lang.jsonl" --qrels "$data/xquad/qrels/test.tsv" \
            --measures RR@10 --json > "$work/$1.$lang.json"
    done
}

set=avx2
if grep -qw avx512_vnni /proc/cpuinfo; then set=avx512; fi
{
    run f32 f32 $set
    names=()
    if [ $set = avx512 ]; then
        for name in int8 int8-fast; do run $name $name avx512; compare $name; names+=($name); done
    fi
    run int8@avx2 int8 avx2
    run int8-fast@avx2 int8-fast avx2
    for name in int8@avx2 int8-fast@avx2; do compare $name; names+=($name); done
} >&2
"$python" "$here/precision.py" "$work" "${names[@]}"
