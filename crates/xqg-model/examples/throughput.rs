//! Tokens a second of an encoder: `throughput MODEL_DIR TEXTS ISA PRECISION REPEATS`. TEXTS is a file
//! of one text a line; ISA is portable, avx2, avx512 or best; PRECISION f32 or int8. Prints seconds of
//! each repeat, the tokens, and the cosines of the last vectors to those of the portable f32 path.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measuring program of ours, not the product

use std::path::Path;
use std::time::Instant;

use xqg_data::embeddings::Side;
use xqg_model::encoder::{Encoder, EncoderOptions};
use xqg_model::kernel::Isa;
use xqg_model::linear::Precision;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, texts, isa, precision, repeats] = &args[..] else {
        panic!("usage: throughput MODEL_DIR TEXTS ISA PRECISION REPEATS");
    };
    let isa = match isa.as_str() {
        "portable" => Isa::Portable,
        "avx2" => Isa::Avx2,
        "avx512" => Isa::Avx512Vnni,
        _ => Isa::detect(),
    };
    let precision = if precision == "int8" { Precision::Int8 } else { Precision::F32 };
    let texts: Vec<String> =
        std::fs::read_to_string(texts).unwrap().lines().map(str::to_owned).collect();
    let open = |isa, precision| {
        let options = EncoderOptions { isa: Some(isa), precision, ..EncoderOptions::default() };
        Encoder::open(Path::new(model), &options).unwrap()
    };
    let encoder = open(isa, precision);
    let mut vectors = Vec::new();
    for _ in 0..repeats.parse().unwrap() {
        let begun = Instant::now();
        let encoded = encoder.encode(Side::Passage, &texts).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let rate = encoded.tokens as f64 / seconds;
        println!(
            "{isa:?} {precision:?}: {} tokens, {seconds:.3} s, {rate:.0} tokens/s",
            encoded.tokens
        );
        vectors = encoded.vectors;
    }
    let few = texts.len().min(200);
    let reference =
        open(Isa::Portable, Precision::F32).encode(Side::Passage, &texts[..few]).unwrap();
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    let dim = encoder.dim();
    let pairs = vectors.chunks_exact(dim).zip(reference.vectors.chunks_exact(dim));
    let cosines: Vec<f64> =
        pairs.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).collect();
    let least = cosines.iter().fold(1f64, |m, &c| m.min(c));
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    println!(
        "cosine to portable f32 over {} texts: least {least:.6}, mean {mean:.6}",
        cosines.len()
    );
}
