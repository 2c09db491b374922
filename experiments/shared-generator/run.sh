#!/usr/bin/env bash
# The generator over multilingual-e5-small: rows, training, and what its questions are worth on the 500 passages that
# no row was made of: share in the asked language, round trip (the question, as a query, finds its passage among the
# first ten of 11,060), distinct questions, and 20 samples a language to read.
#
# usage: experiments/shared-generator/run.sh DATA_DIR WORK_DIR
#   DATA_DIR  holds wiki-leads/, xor-tydi/ and native-questions/      WORK_DIR  is made; a killed run goes on there
# XQG names the program (default: xqg on the path), XQG_MODEL the retriever, STEPS the steps (6800: about 40 minutes on
# two cores), GENERATOR a trained generator, which is then measured and not trained.
# pairs.tsv: 70,453 questions written for this, one in each of seven languages for 10,065 passages of wiki-leads. Only the
# 500 passages say what the generator does with passages that it has not seen.
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$(cd "$1" && pwd) xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2" && cd "$2"
ln -sf "$data/wiki-leads/corpus.jsonl" corpus.jsonl
[ -d index ] || "$xqg" index --model "$model" --corpus corpus.jsonl --out index

if [ -z "${GENERATOR:-}" ]; then
    python3 "$here/prepare.py" --queries "$data" queries.jsonl
    [ -f topical.trec ] || "$xqg" search --index index --queries queries.jsonl -k 2 --out topical.trec
    [ -f mined.jsonl ] || "$xqg" mine --queries "$data/xor-tydi/xor_train_retrieve_eng_span.jsonl" --index index \
        --translations "$data"/xor-tydi/parallel-questions/*-en.tsv --leave-out "$data/xor-tydi/dev-half.jsonl" \
        --out mined.jsonl
    python3 "$here/prepare.py" "$data" "$here/pairs.tsv" mined.jsonl topical.trec rows
    sed "s/STEPS/${STEPS:-6800}/" "$here/generator.toml" > generator.toml
    "$xqg" train generator --config generator.toml --encoder "$model"
    GENERATOR=generator/best-int8
fi

awk 'NR % 22 == 8 && ++n <= 500' corpus.jsonl > heldout.jsonl
"$xqg" generate --model "$GENERATOR" --encoder "$model" --corpus heldout.jsonl --langs ar,bn,fi,ja,ko,ru,te -n 5 \
    --top-k 10 --seed 1 --force --out questions.jsonl
"$xqg" filter --questions questions.jsonl --corpus heldout.jsonl --round-trip index --within 10 --force --out good.jsonl
python3 "$here/samples.py" corpus.jsonl questions.jsonl 20 > samples.txt
echo "samples to read: $(pwd)/samples.txt"
