#!/usr/bin/env bash
# Does it matter what the attached questions ask about? The demo's passages with two sets of attached
# questions, one a passage in each of seven languages: here `attached.jsonl`, where all seven ask about
# the same fact, never the one that the query asks about, and the demo's own, where the languages take
# turns over a passage's sentences, so that one of them often asks, in its own words and language, about
# the query's fact too. The queries are the same. What differs is thus coverage, not chance.
#
# usage: experiments/one-fact/run.sh WORK_DIR      (XQG names the program, XQG_MODEL the model)
set -euo pipefail
[ "$#" -eq 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
work=$1 xqg=${XQG:-xqg} model=${XQG_MODEL:-multilingual-e5-small}
here=$(cd "$(dirname "$0")" && pwd)
demo=$here/../../demo
mkdir -p "$work"
"$xqg" index --model "$model" --precision f32 --corpus "$demo/corpus.jsonl" --queries "$here/attached.jsonl" --out "$work/one" --force
"$xqg" index --model "$model" --precision f32 --corpus "$demo/corpus.jsonl" --queries "$demo/attached.jsonl" --out "$work/many" --force
"$xqg" search --index "$work/one" --queries "$demo/queries.jsonl" -k 10 --share 0 --out "$work/passages.trec" --force
for facts in one many; do
    "$xqg" search --index "$work/$facts" --queries "$demo/queries.jsonl" -k 10 --share 0.4 \
        --out "$work/$facts-fact.trec" --force
done
"$xqg" compare --baseline "$work/passages.trec" --run "$work/one-fact.trec" "$work/many-fact.trec" \
    --queries "$demo/queries.jsonl" --qrels "$demo/qrels.tsv" --measures RR@10
