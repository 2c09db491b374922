#!/usr/bin/env bash
# Searching speed against FAISS and usearch over a million vectors, and whether the results are the
# same. Installs the peers into a virtual environment, builds our worker, makes the collections and
# prints the tables. Takes about 10 GB of disk and 10 GB of memory.
#
# usage: bench/search/run.sh MODEL_DIR DATA_DIR WORK_DIR [STEP …]
#   MODEL_DIR  multilingual-e5-small (xqg model get … --to DIR)
#   DATA_DIR   holds wiki-leads/ and xor-tydi/
#   WORK_DIR   for the environment, collections and indexes; XQG_BENCH_PYTHON names another Python
#   STEP       data, real (2 threads), single (1 thread), white, links (builds the graphs), graphs
#              (searches them); without any, all of them
#   ROWS (1000000) and ROUNDS (7) are read from the environment, and for the graphs of all engines
#   LINKS (32, HNSW's M) and BUILD_EFFORT (200, its efConstruction), and their peers, GRAPH_PEERS
#   (hnsw usearch-hnsw); RUN may name a command that goes before each measuring step.
set -euo pipefail
[ "$#" -ge 3 ] || { sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 data=$2 work=$3; shift 3
steps=${*:-data real single white links graphs} rows=${ROWS:-1000000} rounds=${ROUNDS:-7}
peers=${GRAPH_PEERS:-hnsw usearch-hnsw}
export LINKS=${LINKS:-32} BUILD_EFFORT=${BUILD_EFFORT:-200}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
python=${XQG_BENCH_PYTHON:-$work/venv/bin/python}
if [ -z "${XQG_BENCH_PYTHON:-}" ] && [ ! -x "$python" ]; then
    python3 -m venv "$work/venv"
    "$python" -m pip install -q -r "$here/requirements.txt"
fi
(cd "$here/../.." && cargo build -q --release -p xqg -p xqg-index --bins --examples)
release=$here/../../target/release
xqg=$release/xqg

# The collection of that kind: `real-like` or `white`.
make_data() {
    local kind=$1 xor=$data/xor-tydi/xor_train_retrieve_eng_span.jsonl
    [ -e "$work/passages" ] || "$xqg" encode --model "$model" --corpus "$data/wiki-leads/corpus.jsonl" --out "$work/passages"
    [ -e "$work/questions" ] || "$xqg" encode --model "$model" --queries "$xor" --out "$work/questions"
    make() { "$python" "$here/data.py" "$kind" "$@" --base "$work/passages"; }
    [ -e "$work/$kind.npy" ] || make "$rows" "$work/$kind.npy"
    [ -e "$work/$kind-queries.npy" ] || make 1000 "$work/$kind-queries.npy" --first 100000000 >/dev/null
    [ -e "$work/$kind.index" ] || "$xqg" index --embeddings "$work/$kind.npy" --out "$work/$kind.index" --unit-rows 8192
    "$python" -c "
import sys, numpy as np
sys.path.insert(0, '$here')
from data import read_folder
np.save('$work/questions.npy', read_folder('$work/questions')[::15][:1000])"
}

compare() {
    local kind=$1; shift
    ${RUN:-} "$python" "$here/compare.py" --data "$work/$kind.npy" --index "$work/$kind.index" --work "$work" \
        --worker "$release/examples/search_worker" --rounds "$rounds" "$@"
}

# Each engine's graph, built alone; what is there already is left.
build_graphs() {
    local engine tail=("$work/real-like.npy" "$work/real-like-queries.npy" 2 "$work")
    for engine in $peers; do
        ${RUN:-} "$python" "$here/worker.py" "$engine" "${tail[@]}" < /dev/null
    done
    local graph=$work/real-like.index/graph begun=$EPOCHREALTIME
    [ -e "$graph" ] && return
    ${RUN:-} "$xqg" index graph --index "$work/real-like.index" --neighbours "$LINKS" --build-effort "$BUILD_EFFORT"
    awk "BEGIN { print $EPOCHREALTIME - $begun }" > "$work/xqg-graph.seconds"
}

grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /machine: /' || true
"$python" -c 'import faiss, numpy, usearch
print("versions: faiss-cpu", faiss.__version__, "(" + faiss.get_compile_options().strip() + ")", "usearch", usearch.__version__, "numpy", numpy.__version__)'
real=(held-out="$work/real-like-queries.npy" e5="$work/questions.npy")
for step in $steps; do
    case $step in
        data) make_data real-like ;;
        real) compare real-like --queries "${real[@]}" --title "like real embeddings" ;;
        single) compare real-like --queries "${real[@]}" --title "like real embeddings" --threads 1 ;;
        white) make_data white; compare white --queries white="$work/white-queries.npy" --title "white noise" ;;
        links) build_graphs ;;
        graphs) compare real-like --queries "${real[@]}" --title "like real embeddings" --graphs $peers ;;
        *) echo "no such step: $step" >&2; exit 2 ;;
    esac
done
