#!/usr/bin/env bash
# Checks the NEON kernels on a machine of another architecture: lints them for 64-bit ARM always,
# and runs the crate's tests in an emulator where one and a cross linker are installed (Debian:
# gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static). Says at the end which it did.
#
# usage: ci/neon.sh
set -euo pipefail

cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

cargo clippy --target "$target" -p xqg-kernel --all-targets -- -D warnings

emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
linker=$(command -v aarch64-linux-gnu-gcc || true)
if [ -z "$emulator" ] || [ -z "$linker" ]; then
    echo "neon: CHECKED ONLY: no test ran; expected qemu-aarch64 and aarch64-linux-gnu-gcc," \
        "found '${emulator:-none}' and '${linker:-none}'"
    exit 0
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$linker
# The first processor has no dot product and the second has it: each as the program finds it.
for cpu in cortex-a72 max; do
    echo "neon: tests on an emulated $cpu"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$emulator -cpu $cpu -L /usr/aarch64-linux-gnu"
    cargo test --target "$target" -p xqg-kernel
done
echo "neon: CHECKED AND TESTED under $emulator, with and without the dot product"
