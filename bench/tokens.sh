#!/usr/bin/env bash
# How long do opening a tokenizer and tokenising take, own code against the tokenizers crate?
# Passages of wiki-leads and the native questions, with a prefix, cut at 512 tokens.
#
# usage: bench/tokens.sh MODEL DATA_DIR
set -euo pipefail
[ "$#" -eq 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 data=$2
questions=$(mktemp)
trap 'rm -f "$questions"' EXIT
cat "$data"/native-questions/*.txt > "$questions"
cargo run -q --release -p xqg-model --example tokens -- "$model" "$data/wiki-leads/corpus.jsonl" "$questions"
