#!/usr/bin/env python3
"""Libraries to link a CUDA build against on a machine that has none of NVIDIA's.

Each is a static library of our own with the functions that the bindings (cudarc) declare. A function
looks its real self up when it is first called, as a procedure linkage table does; so the program links
anywhere, starts anywhere, and opens NVIDIA's libraries only where a GPU is asked for. The run-time
library is NVIDIA's own static one, from its wheel.

usage: stubs.py CUDA_HOME    (x86-64; needs gcc, ar and cargo; writes CUDA_HOME/lib/stubs, where the
bindings' build looks)
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# name for the linker: (module of the bindings, names that the library has on a machine)
LIBRARIES = {
    "cuda": ("driver", ["libcuda.so.1"]),
    "cublas": ("cublas", ["libcublas.so.13"]),
    "cublasLt": ("cublaslt", ["libcublasLt.so.13"]),
    "curand": ("curand", ["libcurand.so.10"]),
    "nvrtc": ("nvrtc", ["libnvrtc.so.13"]),
}

# Saves the registers that carry arguments, asks for the function's address, goes on there.
COMMON = """
    .type lazy_common, @function
lazy_common:
    pushq %rbp
    movq %rsp, %rbp
    pushq %rdi; pushq %rsi; pushq %rdx; pushq %rcx; pushq %r8; pushq %r9; pushq %rax; pushq %r10
    subq $128, %rsp
{save}
    movl %r11d, %edi
    call lazy_resolve
    movq %rax, %r11
{load}
    addq $128, %rsp
    popq %r10; popq %rax; popq %r9; popq %r8; popq %rcx; popq %rdx; popq %rsi; popq %rdi
    popq %rbp
    jmp *%r11
""".format(save="\n".join(f"    movups %xmm{i}, {16 * i}(%rsp)" for i in range(8)),
           load="\n".join(f"    movups {16 * i}(%rsp), %xmm{i}" for i in range(8)))

RESOLVE = """
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((visibility("hidden"))) extern void *lazy_slots[];
static const char *const libraries[] = { %(libraries)s };
static const char *const names[] = { %(names)s };

static void *library(void) {
    for (unsigned i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        void *found = dlopen(libraries[i], RTLD_LAZY);
        if (found) return found;
    }
    return NULL;
}

__attribute__((visibility("hidden"))) void *lazy_resolve(unsigned index) {
    void *from = library();
    void *found = from ? dlsym(from, names[index]) : NULL;
    if (!found) {
        fprintf(stderr, "error: calling CUDA: expected %%s in %%s, found none: %%s\\n"
                "hint: bench/gpu/README.md lists what the machine needs\\n",
                names[index], libraries[0], dlerror());
        exit(1);
    }
    return lazy_slots[index] = found;
}
"""


def bindings():
    """The source folder of cudarc."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--features", "xqg/cuda",
               "--filter-platform", "x86_64-unknown-linux-gnu"]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    return next(Path(p["manifest_path"]).parent for p in packages if p["name"] == "cudarc")


def assembly(functions):
    """A jump through a slot for each function; at first the slot leads to the look-up."""
    code, data = ["    .text", COMMON], ["    .data", "    .hidden lazy_slots", "    .globl lazy_slots", "lazy_slots:"]
    for i, name in enumerate(functions):
        code.append(f"    .globl {name}\n    .type {name}, @function\n{name}:\n    jmp *lazy_slots+{8 * i}(%rip)\n"
                    f".Lfirst{i}:\n    movl ${i}, %r11d\n    jmp lazy_common")
        data.append(f"    .quad .Lfirst{i}")
    return "\n".join([*code, *data, '    .section .note.GNU-stack,"",@progbits', ""])


def build(name, functions, libraries, out):
    work = out / name
    work.mkdir(parents=True, exist_ok=True)
    quoted = lambda words: ", ".join(f'"{word}"' for word in words)
    # One library's look-up must not be another's.
    private = lambda text: re.sub(r"\blazy_(slots|resolve|common)\b", rf"lazy_\1_{name}", text)
    (work / "jumps.S").write_text(private(assembly(functions)))
    (work / "resolve.c").write_text(private(RESOLVE % {"libraries": quoted(libraries), "names": quoted(functions)}))
    archive = out / f"lib{name}.a"
    archive.unlink(missing_ok=True)
    for source in ["jumps.S", "resolve.c"]:
        subprocess.run(["gcc", "-O2", "-fPIC", "-c", source, "-o", Path(source).stem + ".o"], cwd=work, check=True)
    subprocess.run(["ar", "rcs", archive, work / "jumps.o", work / "resolve.o"], check=True)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    home = Path(sys.argv[1]).resolve()
    out = home / "lib" / "stubs"
    out.mkdir(parents=True, exist_ok=True)
    source = bindings() / "src"
    for name, (module, libraries) in LIBRARIES.items():
        text = (source / module / "sys" / "mod.rs").read_text()
        functions = sorted(set(re.findall(r'extern "C" \{\s*(?:pub )?fn (\w+)\(', text)))
        build(name, functions, libraries, out)
        print(f"lib{name}.a: {len(functions)} functions")
    runtime = out / "libcudart.a"
    runtime.unlink(missing_ok=True)
    runtime.symlink_to(home / "lib" / "libcudart_static.a")


if __name__ == "__main__":
    main()
