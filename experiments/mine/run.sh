#!/usr/bin/env bash
# Training examples from XOR-TyDi's train questions over wiki-leads: how many questions get a
# positive, by language, by question and by translation, from the embeddings and from BM25; and rows
# drawn by lot, to read and to judge. Dev questions are used for one thing: to leave out the train
# questions that are the same.
#
# usage: experiments/mine/run.sh DATA_DIR WORK_DIR
#   DATA_DIR  holds wiki-leads/ and xor-tydi/        WORK_DIR  is made and may be deleted afterwards
# XQG names the program (default: xqg on the path), XQG_MODEL the model. Without an index in WORK_DIR
# this encodes 11,060 passages first: a minute or two.
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
here=$(cd "$(dirname "$0")" && pwd)
corpus=$data/wiki-leads/corpus.jsonl
mkdir -p "$work"
[ -d "$work/index" ] || "$xqg" index --model "$model" --precision int8 --corpus "$corpus" --out "$work/index"

mine() { # NAME ARGUMENTS…
    local name=$1
    shift
    echo "== $name: $*"
    "$xqg" mine --queries "$data/xor-tydi/xor_train_retrieve_eng_span.jsonl" \
        --translations "$data"/xor-tydi/parallel-questions/*-en.tsv \
        --leave-out "$data/xor-tydi/dev-half.jsonl" --force --out "$work/$name.jsonl" "$@"
}

mine nearest --index "$work/index"
mine first --index "$work/index" --positives-to 1
mine far --index "$work/index" --positives-to 50 --luck 1 --found-by best
mine bm25 --bm25 --corpus "$corpus"
for name in nearest far; do
    python3 "$here/draw.py" "$work/$name.jsonl" "$data/xor-tydi/parallel-questions" 20 > "$work/$name-drawn.txt"
    echo "rows to judge: $work/$name-drawn.txt"
done
