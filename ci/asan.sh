#!/usr/bin/env bash
# The kernels and the mapped weights under an address sanitizer: every unsafe block of the inner loops
# is entered by these tests, over odd shapes. The sanitizer belongs to the nightly compiler;
# RUSTC_BOOTSTRAP lets the stable one take the flag.
#
# usage: ci/asan.sh
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan PROPTEST_CASES=64
cargo test --target "$host" -p xqg-kernel --lib
cargo test --target "$host" -p xqg-model --lib -- attention linear buffer packed
