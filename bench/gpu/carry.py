"""Makes a model small to carry to a GPU machine: each row of a matrix in 8 bits, which rounds its numbers. Both sides
of a measurement there read the same unpacked model.

usage: carry.py pack MODEL_DIR FILE      carry.py unpack FILE MODEL_DIR
    needs numpy and safetensors; FILE is a .tar.xz
"""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS = "model.safetensors"


def rounded(tensor):
    """Rows of whole numbers from -127 to 127, and each row's scale."""
    rows = tensor.reshape(len(tensor), -1).astype(np.float32)
    scales = np.maximum(np.abs(rows).max(axis=1), 1e-12) / 127
    return np.rint(rows / scales[:, None]).astype(np.int8), scales


def pack(folder, file):
    arrays = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        if tensor.ndim == 2:
            arrays[f"{name}/rows"], arrays[f"{name}/scales"] = rounded(tensor)
        else:
            arrays[name] = tensor
    numbers = io.BytesIO()
    np.savez(numbers, **arrays)
    with tarfile.open(file, "w:xz") as tar:
        entry = tarfile.TarInfo("numbers.npz")
        entry.size = numbers.tell()
        numbers.seek(0)
        tar.addfile(entry, numbers)
        for path in sorted(folder.rglob("*.json")):
            tar.add(path, path.relative_to(folder))


def unpack(file, folder):
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter="data")
    arrays, tensors = np.load(folder / "numbers.npz"), {}
    for name in arrays.files:
        if name.endswith("/rows"):
            name = name.removesuffix("/rows")
            tensors[name] = arrays[f"{name}/rows"] * arrays[f"{name}/scales"][:, None].astype(np.float32)
        elif not name.endswith("/scales"):
            tensors[name] = arrays[name]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / "numbers.npz").unlink()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pack", folder, file]:
            pack(Path(folder), Path(file))
        case ["unpack", file, folder]:
            unpack(Path(file), Path(folder))
        case _:
            sys.exit(__doc__)
