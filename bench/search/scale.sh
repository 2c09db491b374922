#!/usr/bin/env bash
# What an index of N passages with a question in each of seven languages costs: building, disk,
# memory, a query; and what follows for 18 million passages with 768 numbers each. The texts are a few
# bytes and the encoder is made up, so what is measured is ours alone.
#
# usage: bench/search/scale.sh N WORK_DIR [f16|f32]
#   The index takes N x 8 x 384 numbers and their bytes (N = 1000000 in f16: 9.9 GB); it is removed in the end,
#   unless KEEP is set. RUN may name a command that goes before each measuring step.
set -euo pipefail
[ "$#" -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
n=$1 work=$2/scale-$1 dtype=${3:-f16}
here=$(cd "$(dirname "$0")" && pwd)
scale=$here/../../target/release/examples/scale
(cd "$here/../.." && cargo build -q --release -p xqg-index --example scale)
bytes=$([ "$dtype" = f16 ] && echo 2 || echo 4)
need=$((n * (8 * 384 * (bytes + 1) + 900) / 1000000)) free=$(df -m --output=avail "$(dirname "$work")" | tail -1)
[ "$free" -gt "$need" ] || { echo "expected $need MB of free disk, found $free" >&2; exit 1; }

[ -e "$work/corpus.jsonl" ] || $scale write "$work" "$n"
[ -e "$work/INDEX" ] || ${RUN:-} "$scale" build "$work" "$dtype"
sync
python3 - "$work/INDEX" "$n" "$bytes" <<'END'
import os, sys
folder, n, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kinds = {}
for where, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(where, name)
        kind = name.replace("q0001.", "questions: ").replace("questions: jsonl", "questions: texts")
        kinds[kind] = kinds.get(kind, 0) + os.path.getsize(path)
        with open(path, "rb") as file:  # out of the page cache, so that the first query is a cold one
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
for kind, size in sorted(kinds.items(), key=lambda pair: -pair[1]):
    print(f"disk: {kind}: {size / 1e9:.2f} GB, {size / n:.1f} bytes a passage")
print(f"disk: all: {sum(kinds.values()) / 1e9:.2f} GB, {sum(kinds.values()) / n:.1f} bytes a passage")
with_dim = sum(size for kind, size in kinds.items() if kind.endswith((".i8", "d.npy", "sums.npy", ": i8"))) / n
rest = sum(kinds.values()) / n - with_dim
each = 2 * with_dim + rest
print(f"bill: 18 M x 768, seven languages, {8 * width} bits: {each:.0f} bytes a passage ({2 * with_dim:.0f} of them vectors,"
      f" sums and their bytes), {18e6 * each / 1e9:.0f} GB")
END
${RUN:-} "$scale" search "$work" 5 256
[ -n "${KEEP:-}" ] || rm -r "$work"
