#!/usr/bin/env bash
# Does training help? multilingual-e5-small is fine-tuned on XOR-TyDi's train questions, with positives and
# hard negatives mined over wiki-leads, and compared with the stock model on half of the dev questions.
# Dev questions are used for nothing but the comparison.
#
# usage: experiments/train-retriever/run.sh DATA_DIR WORK_DIR
#   DATA_DIR  holds wiki-leads/ and xor-tydi/        WORK_DIR  is made and may be deleted afterwards
# XQG names the program (default: xqg on the path), XQG_MODEL the model, XQG_TRAIN another train.toml.
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
here=$(cd "$(dirname "$0")" && pwd)
corpus=$data/wiki-leads/corpus.jsonl dev=$data/xor-tydi/dev-half.jsonl
train=$data/xor-tydi/xor_train_retrieve_eng_span.jsonl
mkdir -p "$work"

echo "== a vocabulary of the languages that are asked in"
[ -d "$work/model" ] || "$xqg" model prune-vocab "$model" --keep-corpus "$corpus" --keep-queries "$train" \
    --keep-languages ar,bn,en,fi,ja,ko,ru,te --to "$work/model"
[ -d "$work/base" ] || "$xqg" index --model "$work/model" --corpus "$corpus" --out "$work/base"

echo "== positives and hard negatives"
[ -f "$work/mined.jsonl" ] || "$xqg" mine --queries "$train" --index "$work/base" \
    --translations "$data"/xor-tydi/parallel-questions/*-en.tsv --out "$work/mined.jsonl"

echo "== training"
sed "s#WORK#$work#" "${XQG_TRAIN:-$here/train.toml}" > "$work/train.toml"
time "$xqg" train retriever --config "$work/train.toml"

echo "== stock and trained on dev"
"$xqg" index --model "$work/run/last" --corpus "$corpus" --out "$work/trained" --force
for index in base trained; do
    "$xqg" search --index "$work/$index" --queries "$dev" -k 150 --out "$work/$index.trec" --force
done
judge=(--queries "$dev" --corpus "$corpus" --measures R@2kt,R@5kt)
"$xqg" evaluate --run "$work/base.trec" "$work/trained.trec" "${judge[@]}"
"$xqg" compare --baseline "$work/base.trec" --run "$work/trained.trec" "${judge[@]}"
