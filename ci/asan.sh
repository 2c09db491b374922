#!/usr/bin/env bash
# All that is `unsafe` under an address sanitizer, entered by these tests over odd shapes: the kernels
# and row functions, and with `all` also what is mapped (vectors, sketches, weights, tokenizer tables,
# checkpoints) and the distance that the graph's library calls with bare addresses; these take some
# minutes of building more. The sanitizer belongs to the nightly compiler; RUSTC_BOOTSTRAP lets the
# stable one take the flag.
#
# usage: ci/asan.sh [all]
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan PROPTEST_CASES=32
cargo test -q --target "$host" -p xqg-kernel --lib
[ "${1:-}" = all ] || exit 0
cargo test -q --target "$host" -p xqg-data -p xqg-index --lib -- npy:: fvecs:: map:: sketch:: graph::
cargo test -q --target "$host" -p xqg-model --lib -- attention:: linear:: buffer:: packed:: cached:: checkpoint::
