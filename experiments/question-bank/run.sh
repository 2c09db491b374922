#!/usr/bin/env bash
# What does a log of real questions do, without any generator? Each passage of wiki-leads is given the 3
# nearest of XOR-TyDi's train questions (15,250, of which 15,139 differ) in each of seven languages; an
# index with them is compared with one without, on half of the dev questions at the default share of 0.4
# (nothing is chosen on them). The same bank on XQuAD: its 240 paragraphs among all passages, 2 questions
# a passage in the language that is asked in, at the shares 0.25 and 0.4.
#
# usage: experiments/question-bank/run.sh DATA_DIR WORK_DIR
#   DATA_DIR  holds wiki-leads/, xor-tydi/ and xquad/    WORK_DIR  is made and may be deleted afterwards
# XQG names the program (default: xqg on the path), XQG_MODEL the model, XQG_PRECISION its arithmetic
# (default: f32, so that the figures are the same on every machine). Half an hour with int8 on two busy
# cores.
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small} precision=${XQG_PRECISION:-f32}
bank=bank:$data/xor-tydi/xor_train_retrieve_eng_span.jsonl
corpus=$data/wiki-leads/corpus.jsonl dev=$data/xor-tydi/dev-half.jsonl
mkdir -p "$work"

generate() { # corpus, languages, n, out
    [ -f "$4" ] || "$xqg" generate --model "$bank" --encoder "$model" --precision "$precision" \
        --corpus "$1" --langs "$2" -n "$3" --out "$4"
}
index() { # corpus, questions, out
    [ -d "$3" ] || "$xqg" index --model "$model" --precision "$precision" --corpus "$1" --queries "$2" --out "$3"
}

echo "== XOR-TyDi: 3 questions of the bank in each of 7 languages"
generate "$corpus" ar,bn,fi,ja,ko,ru,te 3 "$work/bank.jsonl"
index "$corpus" "$work/bank.jsonl" "$work/wiki"
"$xqg" search --index "$work/wiki" --queries "$dev" -k 150 --share 0 --out "$work/passages.trec" --force
"$xqg" search --index "$work/wiki" --queries "$dev" -k 150 --out "$work/bank.trec" --force
"$xqg" compare --baseline "$work/passages.trec" --run "$work/bank.trec" --queries "$dev" \
    --corpus "$corpus" --measures R@2kt

cat "$data/xquad/corpus.jsonl" "$corpus" > "$work/xquad-corpus.jsonl"
for lang in ar ru; do
    echo "== XQuAD $lang: 2 questions of the bank, in the language"
    generate "$work/xquad-corpus.jsonl" $lang 2 "$work/xquad-$lang.jsonl"
    index "$work/xquad-corpus.jsonl" "$work/xquad-$lang.jsonl" "$work/xquad-$lang"
    queries=$data/xquad/queries/$lang.jsonl
    for share in 0 0.25 0.4; do
        "$xqg" search --index "$work/xquad-$lang" --queries "$queries" -k 10 --share $share \
            --out "$work/xquad-$lang.$share.trec" --force
    done
    "$xqg" compare --baseline "$work/xquad-$lang.0.trec" \
        --run "$work/xquad-$lang.0.25.trec" "$work/xquad-$lang.0.4.trec" \
        --queries "$queries" --qrels "$data/xquad/qrels/test.tsv" --measures RR@10
done
