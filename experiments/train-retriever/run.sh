#!/usr/bin/env bash
# Does training help? The queries' network of multilingual-e5-small learns on XOR-TyDi's train questions
# and their human English translations over wiki-leads (questions.toml), and is compared with the stock
# model on half of the dev questions. The passages and their index stay as they are. Dev questions are
# used for nothing but the comparison. Then both search passages that nothing was learned from, XQuAD's.
# XQG_TRAIN=…/train.toml trains both sides on mined rows instead.
#
# usage: experiments/train-retriever/run.sh DATA_DIR WORK_DIR
#   DATA_DIR  holds wiki-leads/, xor-tydi/ and xquad/        WORK_DIR  is made and may be deleted afterwards
# XQG names the program (default: xqg on the path), XQG_MODEL the model, XQG_TRAIN another train.toml.
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
here=$(cd "$(dirname "$0")" && pwd)
corpus=$data/wiki-leads/corpus.jsonl dev=$data/xor-tydi/dev-half.jsonl
train=$data/xor-tydi/xor_train_retrieve_eng_span.jsonl
mkdir -p "$work"

echo "== a vocabulary of the languages that are asked in"
[ -d "$work/model" ] || "$xqg" model prune-vocab "$model" --keep-corpus "$corpus" --keep-queries "$train" \
    --keep-languages ar,bn,en,fi,ja,ko,ru,te --to "$work/model"
[ -d "$work/base" ] || "$xqg" index --model "$work/model" --corpus "$corpus" --out "$work/base"

settings=${XQG_TRAIN:-$here/questions.toml}
rows=$(grep -c '^train = ' "$settings" || true)

echo "== what to learn from"
[ -f "$work/passages.npy" ] || "$xqg" index export --index "$work/base" --format npy --out "$work/passages.npy"
[ "$rows" -eq 0 ] || [ -f "$work/mined.jsonl" ] || "$xqg" mine --queries "$train" --index "$work/base" \
    --translations "$data"/xor-tydi/parallel-questions/*-en.tsv --leave-out "$dev" --out "$work/mined.jsonl"

echo "== training"
sed "s#WORK#$work#; s#DATA#$data#g" "$settings" > "$work/train.toml"
time "$xqg" train retriever --config "$work/train.toml"

echo "== stock and trained on dev"
"$xqg" search --index "$work/base" --queries "$dev" -k 150 --out "$work/base.trec" --force
if [ "$rows" -eq 0 ]; then
    "$xqg" search --index "$work/base" --model "$work/run/best" --queries "$dev" -k 150 --out "$work/trained.trec" --force
else
    "$xqg" index --model "$work/run/best" --corpus "$corpus" --out "$work/trained" --force
    "$xqg" search --index "$work/trained" --queries "$dev" -k 150 --out "$work/trained.trec" --force
fi
judge=(--queries "$dev" --corpus "$corpus" --measures R@2kt,R@5kt)
"$xqg" evaluate --run "$work/base.trec" "$work/trained.trec" "${judge[@]}"
"$xqg" compare --baseline "$work/base.trec" --run "$work/trained.trec" "${judge[@]}"

[ "$rows" -eq 0 ] || exit 0
echo "== and over passages that it did not learn from"
xquad=$data/xquad
[ -d "$work/xquad" ] || "$xqg" index --model "$work/model" --corpus "$xquad/corpus.jsonl" --out "$work/xquad"
for lang in ar ru; do
    queries=$xquad/queries/$lang.jsonl
    "$xqg" search --index "$work/xquad" --queries "$queries" -k 10 --out "$work/xquad-$lang.base.trec" --force
    "$xqg" search --index "$work/xquad" --model "$work/run/best" --queries "$queries" -k 10 \
        --out "$work/xquad-$lang.trained.trec" --force
    "$xqg" compare --baseline "$work/xquad-$lang.base.trec" --run "$work/xquad-$lang.trained.trec" \
        --queries "$queries" --qrels "$xquad/qrels/test.tsv" --measures RR@10
done
