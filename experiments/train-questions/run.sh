#!/usr/bin/env bash
# What do a few thousand real questions do? XOR-TyDi's train questions are attached to the passages
# of wiki-leads that answer them (found by the questions' English translations), the share of the
# questions is swept, and each share is compared with plain search on half of the dev questions.
# Dev questions are used for nothing but the comparison; the share that wins here was chosen on
# them, so read its p as that of a sweep.
#
# usage: experiments/train-questions/run.sh DATA_DIR WORK_DIR
#   DATA_DIR  holds wiki-leads/ and xor-tydi/        WORK_DIR  is made and may be deleted afterwards
# XQG names the program (default: xqg on the path), XQG_MODEL the model. Without a base index in
# WORK_DIR this encodes 11,060 passages first: some minutes.
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
here=$(cd "$(dirname "$0")" && pwd)
corpus=$data/wiki-leads/corpus.jsonl dev=$data/xor-tydi/dev-half.jsonl
train=$data/xor-tydi/xor_train_retrieve_eng_span.jsonl
mkdir -p "$work"
[ -d "$work/base" ] || "$xqg" index --model "$model" --precision f32 --corpus "$corpus" --out "$work/base"

echo "== questions to passages, by their English translations"
python3 "$here/attach.py" english "$train" "$data/xor-tydi/parallel-questions" "$work/english.jsonl"
"$xqg" search --index "$work/base" --queries "$work/english.jsonl" -k 100 --out "$work/english.trec" --force
python3 "$here/attach.py" attach "$train" "$corpus" "$work/english.trec" "$work/generated.jsonl"

echo "== the index grows by a layer of questions"
rm -rf "$work/fused" && cp -r "$work/base" "$work/fused"
"$xqg" index add --index "$work/fused" --queries "$work/generated.jsonl"

echo "== shares from 0 to 0.6, against plain search"
for reduce in mean sum; do
    "$xqg" search --index "$work/fused" --queries "$dev" -k 150 --reduce $reduce \
        --out "$work/$reduce.trec" --sweep 0:0.6:0.05 --force 2>/dev/null
done
judge=(--queries "$dev" --corpus "$corpus" --measures R@2kt,R@5kt)
shares() { for s in 0.05 0.1 0.15 0.2 0.25 0.3 0.4 0.5 0.6; do echo "$work/$1.share-$s.trec"; done; }
"$xqg" evaluate --run "$work/mean.share-0.trec" $(shares mean) "${judge[@]}"
"$xqg" compare --baseline "$work/mean.share-0.trec" --run $(shares mean) "${judge[@]}" | grep -vE '^$' > "$work/compare-mean.txt"
"$xqg" compare --baseline "$work/sum.share-0.trec" --run $(shares sum) "${judge[@]}" | grep -vE '^$' > "$work/compare-sum.txt"
echo "== mean: each share against plain search (macro average, paired permutation test, Holm)"
grep -E "against|^macro|^p [0-9<]" "$work/compare-mean.txt"
echo "== sum"
grep -E "against|^macro|^p [0-9<]" "$work/compare-sum.txt"
echo "whole tables: $work/compare-mean.txt and $work/compare-sum.txt"
