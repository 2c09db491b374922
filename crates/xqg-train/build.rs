//! With the feature `cuda`: has nvcc make PTX of our one kernel. Without it: nothing.

use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "src/composed/dropout.cu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        compile();
    }
}

/// PTX is compiled by the driver for the GPU that is there, from compute capability 8.0 on.
fn compile() {
    let out =
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names it")).join("dropout.ptx");
    let done = Command::new("nvcc")
        .args(["--ptx", "-arch=compute_80", "-O3", SOURCE, "-o"])
        .arg(&out)
        .status();
    match done {
        Ok(status) if status.success() => {}
        other => panic!("nvcc: expected PTX of {SOURCE}, found {other:?} (bench/gpu/README.md)"),
    }
}
