#!/usr/bin/env bash
# The CUDA build, on a machine without CUDA: fetches NVIDIA's compiler and headers as Python wheels
# (160 MB), makes the libraries to link against, builds. The result starts anywhere.
#
# usage: bench/gpu/build.sh WORK_DIR [CARGO ARGUMENTS…]
#   WORK_DIR   for toolkit, libraries and the target folder (some GB)
#   default    build --release --bin xqg --features cuda
#   XQG_CUDA_CAPABILITY  compute capability of the GPU, 90 (H100) by default
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
work=$(cd "$1" && pwd) here=$(cd "$(dirname "$0")" && pwd)
shift
[ "$#" -gt 0 ] || set -- build --release --bin xqg --features cuda

home=$work/home/nvidia/cu13
if [ ! -x "$home/bin/nvcc" ]; then
    # 13.0 and not the newest: a driver refuses PTX of a newer toolkit.
    python3 -m pip download --quiet --no-deps --dest "$work/wheels" \
        nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand==10.4.0.35
    for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$work/home"; done
    chmod +x "$home"/bin/* "$home"/nvvm/bin/*
fi
cd "$here/../.."
python3 "$here/stubs.py" "$home"
export CUDA_HOME=$home PATH=$home/bin:$PATH CUDA_COMPUTE_CAP=${XQG_CUDA_CAPABILITY:-90}
export CARGO_TARGET_DIR=$work/target
exec cargo "$@"
