//! Our side of `bench/generate`: a generator that stays loaded and writes questions about the same
//! passages each time it is asked. `bench_generate PRECISION SHORTLIST MODEL_DIR ENCODER_DIR CORPUS LANGS
//! THREADS SAMPLES TOKENS`, where PRECISION is f32, int8 or int8-fast and may end in `@avx2`, and
//! SHORTLIST is auto or off; see `bench/generate/worker.py` for what it reads and prints.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measuring program of ours, not the product

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use xqg_data::contract::EncoderContract;
use xqg_data::lang::Lang;
use xqg_data::lines::BadLines;
use xqg_data::passage::{Passage, read_passages};
use xqg_kernel::isa::Isa;
use xqg_model::encoder::{Encoder, EncoderOptions};
use xqg_model::generator::{Decoding, Generator, GeneratorOptions};
use xqg_model::linear::Precision;

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().unwrap();
}

/// The encoder that a shared-encoder generator was made for, with its own lengths.
fn encoder(folder: &str, model: &Path, options: &GeneratorOptions) -> Option<Arc<Encoder>> {
    let config = std::fs::read(model.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let contract: EncoderContract = serde_json::from_value(config["encoder"].take()).ok()?;
    let options = EncoderOptions {
        precision: options.precision,
        isa: options.isa,
        query_prefix: Some(contract.query_prefix),
        passage_prefix: Some(contract.passage_prefix),
        query_max_tokens: Some(contract.query_max_tokens),
        passage_max_tokens: Some(contract.passage_max_tokens),
        ..EncoderOptions::default()
    };
    Some(Arc::new(Encoder::open(Path::new(folder), &options).unwrap()))
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, precision, list, model, encoder_folder, corpus, langs, threads, samples, tokens] =
        &args[..]
    else {
        panic!(
            "usage: bench_generate PRECISION SHORTLIST MODEL ENCODER CORPUS LANGS THREADS N TOKENS"
        );
    };
    let threads = threads.parse().unwrap();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let (precision, set) = precision.split_once('@').unwrap_or((precision, ""));
    let isa = match set {
        "" => None,
        name => Some(Isa::named(name).expect("a set that this machine has")),
    };
    let precision = Precision::named(precision).expect("f32, int8 or int8-fast");
    let mut options =
        GeneratorOptions { precision, isa, keep_packed: true, ..GeneratorOptions::default() };
    let model = Path::new(model);
    options.encoder = encoder(encoder_folder, model, &options);
    let generator = Generator::open(model, &options).unwrap();
    let passages = read_passages(Path::new(corpus), BadLines::Stop).unwrap();
    let passages: Vec<Passage> = passages.map(Result::unwrap).collect();
    let (n, max_tokens): (usize, usize) = (samples.parse().unwrap(), tokens.parse().unwrap());
    let how = Decoding { n, max_tokens, shortlist: list == "auto", ..Decoding::default() };
    let langs: Vec<Lang> = langs.split(',').map(|lang| lang.parse().unwrap()).collect();
    // The first time, a language's output layer is made.
    generator.write(&passages[..1], &langs, &Decoding { max_tokens: 1, ..how }).unwrap();
    say("ready");
    for line in std::io::stdin().lock().lines() {
        line.unwrap();
        let begun = Instant::now();
        let written = generator.write(&passages, &langs, &how).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let questions = written.iter().flat_map(|w| &w.questions);
        assert!(
            questions.clone().count() == passages.len() * langs.len() * n
                && questions.clone().all(|q| q.cut)
        );
        say(&format!("{seconds:.6}"));
    }
}
