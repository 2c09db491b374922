#!/usr/bin/env bash
# What do questions of a trained generator do? Every passage of wiki-leads gets 5 of them in each of seven
# languages; share and reduction are tuned on the tenth of XOR-TyDi's train questions that no generator
# of experiments/shared-generator has seen, and the index is compared with itself without questions, and with
# the question bank, on half of the dev questions, which choose nothing. Then XQuAD in Arabic and Russian: its
# 240 paragraphs among all passages, 5 questions a passage in the language that is asked in.
#
# usage: experiments/generated/run.sh DATA_DIR WORK_DIR
#   DATA_DIR  holds wiki-leads/, xor-tydi/ and xquad/     WORK_DIR  is made; a killed run goes on there
# XQG names the program (default: xqg on the path), XQG_MODEL the retriever, GENERATOR the generator (default:
# the project's own), FILTER=1 keeps only questions that pass the gate and find their passage among the first
# FILTER_WITHIN (100) of all. BANK names a run of the bank (experiments/question-bank's WORK_DIR/bank.trec).
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
data=$1 work=$2 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
generator=${GENERATOR:-$here/../../models/e5-questions}
corpus=$data/wiki-leads/corpus.jsonl dev=$data/xor-tydi/dev-half.jsonl
mkdir -p "$work"

generate() { # corpus, languages, out
    [ -f "$3" ] || "$xqg" generate --model "$generator" --encoder "$model" --corpus "$1" --langs "$2" -n 5 \
        --top-k 10 --seed 1 --out "$3"
}
index() { # corpus, questions, out
    [ -d "$3" ] || "$xqg" index --model "$model" --corpus "$1" --queries "$2" --out "$3"
}

echo "== XOR-TyDi: 5 questions in each of 7 languages"
[ -d "$work/wiki" ] || "$xqg" index --model "$model" --corpus "$corpus" --generate --generator "$generator" \
    --langs ar,bn,fi,ja,ko,ru,te -n 5 --top-k 10 --seed 1 --out "$work/wiki"
python3 "$here/../shared-generator/prepare.py" --tune "$data" "$work/tune.jsonl"
"$xqg" index tune --index "$work/wiki" --queries "$work/tune.jsonl" --corpus "$corpus"
"$xqg" search --index "$work/wiki" --queries "$dev" -k 150 --share 0 --out "$work/passages.trec" --force
"$xqg" search --index "$work/wiki" --queries "$dev" -k 150 --out "$work/generated.trec" --force
judge=(--queries "$dev" --corpus "$corpus" --measures R@2kt)
"$xqg" compare --baseline "$work/passages.trec" --run "$work/generated.trec" ${BANK:+"$BANK"} "${judge[@]}"
if [ -n "${BANK:-}" ]; then
    echo "== against the bank"
    "$xqg" compare --baseline "$BANK" --run "$work/generated.trec" "${judge[@]}"
fi

cat "$data/xquad/corpus.jsonl" "$corpus" > "$work/xquad-corpus.jsonl"
for lang in ar ru; do
    echo "== XQuAD $lang: 5 questions in the language"
    generate "$work/xquad-corpus.jsonl" $lang "$work/xquad-$lang.jsonl"
    index "$work/xquad-corpus.jsonl" "$work/xquad-$lang.jsonl" "$work/xquad-$lang"
    queries=$data/xquad/queries/$lang.jsonl runs=()
    for share in 0 0.2 0.4 0.6; do
        "$xqg" search --index "$work/xquad-$lang" --queries "$queries" -k 10 --share $share \
            --out "$work/xquad-$lang.$share.trec" --force
        [ "$share" = 0 ] || runs+=("$work/xquad-$lang.$share.trec")
    done
    "$xqg" compare --baseline "$work/xquad-$lang.0.trec" --run "${runs[@]}" \
        --queries "$queries" --qrels "$data/xquad/qrels/test.tsv" --measures RR@10
done
