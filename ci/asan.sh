#!/usr/bin/env bash
# All that is `unsafe` under an address sanitizer, entered by these tests over odd shapes: kernels, row
# functions, mapped weights, tokenizer tables, vectors and checkpoints, and the distance that the
# graph's library calls with bare addresses. The sanitizer belongs to the nightly compiler;
# RUSTC_BOOTSTRAP lets the stable one take the flag.
#
# usage: ci/asan.sh
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan PROPTEST_CASES=32
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
cargo test -q --target "$host" -p xqg-kernel --lib
cargo test -q --target "$host" -p xqg-data -p xqg-index -p xqg-model --lib -- \
    npy:: fvecs:: map:: sketch:: graph:: attention:: linear:: buffer:: packed:: cached:: checkpoint::
