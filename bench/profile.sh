#!/usr/bin/env bash
# Where the time of the hottest loops goes: encoding in 8 bits, searching one query at a time and in
# batches, by samples of the processor's clock. Prints the functions above one per cent.
#
# usage: bench/profile.sh MODEL_DIR DATA_DIR WORK_DIR      (needs perf; XQG names the program,
#        PYTHON one with numpy)
set -euo pipefail
[ "$#" -eq 3 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 data=$2 work=$3
here=$(cd "$(dirname "$0")" && pwd)
xqg=${XQG:-$here/../target/release/xqg} worker=${WORKER:-$here/../target/release/examples/search_worker}
mkdir -p "$work"

profile() { # TITLE COMMAND…
    echo "### $1"
    perf record -q -e cpu-clock -F 997 -o "$work/perf.data" "${@:2}" > /dev/null 2> "$work/perf.log"
    perf report -i "$work/perf.data" --no-children --stdio -g none --percent-limit 1 2> /dev/null |
        sed -n 's/^ *\([0-9.]*%\).*\] \(.*\)/\1  \2/p'
}

head -2000 "$data/wiki-leads/corpus.jsonl" > "$work/passages.jsonl"
encode() { "$xqg" encode --model "$model" --force "$@" 2> /dev/null; }
encode --corpus "$data/wiki-leads/corpus.jsonl" --out "$work/passages"
encode --queries "$data/xor-tydi/xor_train_retrieve_eng_span.jsonl" --out "$work/questions"
"$xqg" index --embeddings "$work/passages" --out "$work/index" --force 2> /dev/null
"${PYTHON:-python3}" - "$work" <<'END' # the worker reads one file of query embeddings
import glob, sys
import numpy as np
shards = sorted(glob.glob(f"{sys.argv[1]}/questions/shard-*.npy"))
np.save(f"{sys.argv[1]}/queries.npy", np.concatenate([np.load(s).astype(np.float32) for s in shards])[:2048])
END
profile "encoding 2,000 passages, int8" "$xqg" encode --model "$model" --corpus "$work/passages.jsonl" \
    --out "$work/profiled" --precision int8 --force
for verb in one batch; do
    yes "$verb 0 2048 100" | head -8 > "$work/$verb.txt" || true
    profile "searching 11,060 passages: $verb" \
        sh -c "'$worker' '$work/index' '$work/queries.npy' 2 < '$work/$verb.txt'"
done
