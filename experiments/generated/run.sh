#!/usr/bin/env bash
# What do questions of a trained generator do? Every passage of wiki-leads gets some in each of seven languages;
# share and reduction are tuned on the tenth of XOR-TyDi's train questions that no generator of
# experiments/shared-generator has seen, and the index is compared with itself without questions, and with the
# question bank, on half of the dev questions, which choose nothing. Then XQuAD in Arabic and Russian: its 240
# paragraphs among all passages, as many questions in each of the seven languages, at four shares, and the same questions in
# English over the passages alone, which is as far as one could hope to come.
#
# usage: experiments/generated/run.sh DATA_DIR WORK_DIR [STEP …]
#   DATA_DIR  holds wiki-leads/, xor-tydi/ and xquad/     WORK_DIR  is made; a killed run goes on there
#   STEP      xor, xquad; without any, both
# XQG names the program (default: xqg on the path), XQG_MODEL the retriever, GENERATOR the generator (default: the
# project's own), N the questions (5) and TEMPERATURE their temperature (1): a WORK_DIR is for one of these. FILTER=1
# also measures wiki-leads with only those that pass the gate and find their passage among the first ten, WRITTEN=1
# with the questions that the generator learned from in their place: what it would reach by rote alone, ALLOT=1
# with 14 of ten a language for every passage and more of them where train questions look for answers (allot.py), and
# as many of the bank's.
# BANK names a run of the bank (experiments/question-bank's WORK_DIR/bank.trec).
set -euo pipefail
[ "$#" -ge 2 ] || { sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
data=$1 work=$2 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
generator=${GENERATOR:-$here/../../models/e5-questions}
shift 2
steps=${*:-xor xquad}
corpus=$data/wiki-leads/corpus.jsonl dev=$data/xor-tydi/dev-half.jsonl langs=ar,bn,fi,ja,ko,ru,te
how=(-n "${N:-5}" --top-k 10 --temperature "${TEMPERATURE:-1}" --seed 1)
mkdir -p "$work"

generate() { # corpus, out
    [ -f "$2" ] || "$xqg" generate --model "$generator" --encoder "$model" --corpus "$1" --langs $langs "${how[@]}" \
        --out "$2"
}
index() { # corpus, questions, out
    [ -d "$3" ] || "$xqg" index --model "$model" --corpus "$1" --queries "$2" --out "$3"
}
on_dev() { # index, run
    "$xqg" index tune --index "$1" --queries "$work/tune.jsonl" --corpus "$corpus"
    "$xqg" search --index "$1" --queries "$dev" -k 150 --out "$2" --force
}
on_tune() { # index, run: a line for each alpha and renormalisation, and its R@2kt on the train questions kept back
    local how
    for how in "0.0006 no" "0.0012 no" "0.005 yes" "0.01 yes" "0.015 yes" "0.02 yes" "0.03 yes" "0.04 yes"; do
        "$xqg" search --index "$1" --queries "$work/tune.jsonl" -k 150 --reduce sum --alpha ${how% *} \
            --renormalize ${how#* } --out "$2" --force
        printf '%s\t%s\n' "$how" "$("$xqg" evaluate --run "$2" --queries "$work/tune.jsonl" --corpus "$corpus" \
            --measures R@2kt --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["measures"]["R@2kt"]["macro"])')"
    done
}
allotted() { # questions, index: allotted, indexed, sum's alpha chosen on tune, dev searched
    [ -f "$2.jsonl" ] || python3 "$here/allot.py" "$data" "$1" 14 10 "$2.jsonl"
    index "$corpus" "$2.jsonl" "$2"
    local chosen
    chosen=$(on_tune "$2" "$2.tune" | tee /dev/stderr | sort -t $'\t' -k2,2gr -k1,1 | head -1 | cut -f1)
    echo "chosen on the train questions kept back: --reduce sum --alpha ${chosen% *} --renormalize ${chosen#* }"
    "$xqg" search --index "$2" --queries "$dev" -k 150 --reduce sum --alpha ${chosen% *} --renormalize ${chosen#* } \
        --out "$2.trec" --force
}

xor() {
    echo "== XOR-TyDi: questions in each of 7 languages"
    [ -d "$work/wiki" ] || "$xqg" index --model "$model" --corpus "$corpus" --generate --generator "$generator" \
        --langs $langs "${how[@]}" --out "$work/wiki"
    python3 "$here/../shared-generator/prepare.py" --tune "$data" "$work/tune.jsonl"
    on_dev "$work/wiki" "$work/generated.trec"
    "$xqg" search --index "$work/wiki" --queries "$dev" -k 150 --share 0 --out "$work/passages.trec" --force
    runs=("$work/generated.trec")
    if [ -n "${FILTER:-}" ]; then
        generate "$corpus" "$work/wiki.jsonl"
        [ -d "$work/bare" ] || "$xqg" index --model "$model" --corpus "$corpus" --out "$work/bare"
        [ -f "$work/kept.jsonl" ] || "$xqg" filter --questions "$work/wiki.jsonl" --corpus "$corpus" \
            --round-trip "$work/bare" --within 10 --out "$work/kept.jsonl"
        index "$corpus" "$work/kept.jsonl" "$work/filtered"
        on_dev "$work/filtered" "$work/filtered.trec"
        runs+=("$work/filtered.trec")
    fi
    if [ -n "${WRITTEN:-}" ]; then
        [ -f "$work/written.jsonl" ] || python3 -c 'import json, sys
for line in sys.stdin:
    print(json.dumps(dict(zip(("docid", "lang", "text"), line.rstrip("\n").split("\t")))))' \
            < "$here/../shared-generator/pairs.tsv" > "$work/written.jsonl"
        index "$corpus" "$work/written.jsonl" "$work/written"
        on_dev "$work/written" "$work/written.trec"
        runs+=("$work/written.trec")
    fi
    if [ -n "${ALLOT:-}" ]; then
        [ -f "$work/wiki-10.jsonl" ] || "$xqg" generate --model "$generator" --encoder "$model" --corpus "$corpus" \
            --langs $langs -n 10 --top-k 10 --seed 1 --out "$work/wiki-10.jsonl"
        allotted "$work/wiki-10.jsonl" "$work/allotted"
        PYTHONPATH=$here python3 -c 'import json, pathlib, sys; from allot import learned
for row in learned(pathlib.Path(sys.argv[1])): print(json.dumps(row))' "$data" > "$work/bank-questions.jsonl"
        [ -f "$work/bank-10.jsonl" ] || "$xqg" generate --model bank:"$work/bank-questions.jsonl" --encoder "$model" \
            --corpus "$corpus" --langs $langs -n 10 --out "$work/bank-10.jsonl"
        allotted "$work/bank-10.jsonl" "$work/bank-allotted"
        runs+=("$work/allotted.trec" "$work/bank-allotted.trec")
    fi
    judge=(--queries "$dev" --corpus "$corpus" --measures R@2kt)
    "$xqg" compare --baseline "$work/passages.trec" --run "${runs[@]}" ${BANK:+"$BANK"} "${judge[@]}"
    if [ -n "${BANK:-}" ]; then
        echo "== against the bank"
        "$xqg" compare --baseline "$BANK" --run "$work/generated.trec" "${judge[@]}"
    fi
    if [ -n "${ALLOT:-}" ]; then
        echo "== against the bank's questions, allotted in the same way"
        "$xqg" compare --baseline "$work/bank-allotted.trec" --run "$work/allotted.trec" "${judge[@]}"
    fi
}

xquad() {
    cat "$data/xquad/corpus.jsonl" "$corpus" > "$work/xquad-corpus.jsonl"
    generate "$work/xquad-corpus.jsonl" "$work/xquad.jsonl"
    index "$work/xquad-corpus.jsonl" "$work/xquad.jsonl" "$work/xquad"
    for lang in ar ru; do
        echo "== XQuAD $lang: questions in seven languages"
        queries=$data/xquad/queries/$lang.jsonl runs=()
        for share in 0 0.4 0.5 0.6 0.7; do
            "$xqg" search --index "$work/xquad" --queries "$queries" -k 10 --share $share \
                --out "$work/xquad-$lang.$share.trec" --force
            [ "$share" = 0 ] || runs+=("$work/xquad-$lang.$share.trec")
        done
        "$xqg" compare --baseline "$work/xquad-$lang.0.trec" --run "${runs[@]}" \
            --queries "$queries" --qrels "$data/xquad/qrels/test.tsv" --measures RR@10
    done
    echo "== XQuAD asked in English"
    english=$data/xquad/queries/en.jsonl
    "$xqg" search --index "$work/xquad" --queries "$english" -k 10 --share 0 --out "$work/xquad-en.trec" --force
    "$xqg" evaluate --run "$work/xquad-en.trec" --queries "$english" --qrels "$data/xquad/qrels/test.tsv" --measures RR@10
}

for step in $steps; do
    case $step in
        xor | xquad) "$step" ;;
        *) echo "step: expected xor or xquad, found $step" >&2; exit 2 ;;
    esac
done
