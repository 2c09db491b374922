//! Our side of `bench/encode`: an encoder that stays loaded and encodes the same texts each time it
//! is asked. `bench_worker PRECISION MODEL_DIR TEXTS THREADS MAX_TOKENS`, where PRECISION is f32, int8
//! or int8-fast and may end in `@avx2` or `@portable` to use less than the machine has; see `bench/encode/worker.py`
//! for what it reads and prints. Texts are taken as they are: their prefix is part of them.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measuring program of ours, not the product

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use xqg_data::embeddings::Side;
use xqg_data::npy::{Dtype, MatrixWriter};
use xqg_kernel::isa::Isa;
use xqg_model::encoder::{Encoder, EncoderOptions};
use xqg_model::linear::Precision;

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().unwrap();
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, precision, model, texts, threads, tokens] = &args[..] else {
        panic!("usage: bench_worker PRECISION MODEL_DIR TEXTS THREADS MAX_TOKENS");
    };
    let threads = threads.parse().unwrap();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let (precision, set) = precision.split_once('@').unwrap_or((precision, ""));
    let isa = match set {
        "" => None,
        name => Some(Isa::named(name).expect("a set that this machine has")),
    };
    let options = EncoderOptions {
        precision: Precision::named(precision).expect("f32, int8 or int8-fast"),
        isa,
        query_prefix: Some(String::new()),
        query_max_tokens: Some(tokens.parse().unwrap()),
        ..EncoderOptions::default()
    };
    let encoder = Encoder::open(Path::new(model), &options).unwrap();
    let texts: Vec<String> =
        std::fs::read_to_string(texts).unwrap().lines().map(str::to_owned).collect();
    let few = &texts[..texts.len().min(32)];
    let mut vectors = encoder.encode(Side::Query, few).unwrap().vectors;
    say("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        if let Some(path) = line.strip_prefix("vectors ") {
            let (rows, dim) = (texts.len(), encoder.dim());
            let mut out = MatrixWriter::create(Path::new(path), Dtype::F32, rows, dim).unwrap();
            out.push(&vectors).unwrap();
            out.commit().unwrap();
            say("saved");
            continue;
        }
        let begun = Instant::now();
        vectors = encoder.encode(Side::Query, &texts).unwrap().vectors;
        say(&format!("{:.6}", begun.elapsed().as_secs_f64()));
    }
}
