//! Token ids of a model folder's tokenizer, and how long they take.
//!
//! `tokens MODEL` reads JSON strings, one a line, and prints the ids of each, special tokens included; `ci/spiece_proof.py`
//! compares them with the `sentencepiece` package's. `tokens MODEL FILE…` times opening and encoding,
//! against the `tokenizers` crate; the files are plain lines or JSON lines with a `text`.

use std::error::Error;
use std::io::{BufWriter, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use xqg_model::tokenizer::Tokenizer;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let model = paths.next().ok_or("usage: tokens MODEL [FILE...]")?;
    let files: Vec<PathBuf> = paths.collect();
    if files.is_empty() { print_ids(&model) } else { time(&model, &files) }
}

fn print_ids(model: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tokenizer = Tokenizer::open(model)?;
    let mut out = BufWriter::new(stdout().lock());
    let (mut ids, mut session) = (Vec::new(), tokenizer.session());
    for line in stdin().lines() {
        ids.clear();
        let text: String = serde_json::from_str(&line?)?;
        session.encode_into("", &text, usize::MAX, &mut ids)?;
        serde_json::to_writer(&mut out, &ids)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn time(model: &Path, files: &[PathBuf]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut out = stdout().lock();
    let json = model.join("tokenizer.json");
    let _ = std::fs::remove_dir_all(model.join(".xqg"));
    writeln!(out, "open, built   {:8.2} ms", best_of(1, || Tokenizer::open(model).map(drop))?)?;
    writeln!(out, "open, kept    {:8.2} ms", best_of(9, || Tokenizer::open(model).map(drop))?)?;
    let by_crate = || Tokenizer::open_by_crate(&json).map(drop);
    writeln!(out, "open, crate   {:8.2} ms", best_of(3, by_crate)?)?;
    let tokenizers =
        [("own", Tokenizer::open(model)?), ("crate", Tokenizer::open_by_crate(&json)?)];
    for file in files {
        let texts = texts(file)?;
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            for (name, tokenizer) in &tokenizers {
                let encode = || pool.install(|| tokenizer.encode("query: ", &texts, 512));
                let tokens: usize = encode()?.iter().map(|tokens| tokens.ids.len()).sum();
                let ms = best_of(3, || encode().map(drop))?;
                let file = file.file_name().unwrap_or_default().to_string_lossy();
                let rate = tokens as f64 / ms;
                writeln!(
                    out,
                    "{file:24} {threads} threads {name:6} {tokens:8} tokens {rate:8.0} /ms"
                )?;
            }
        }
    }
    Ok(())
}

/// Milliseconds of the fastest of some runs.
fn best_of<E>(runs: usize, mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let began = Instant::now();
        run()?;
        best = best.min(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

fn texts(file: &Path) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let content = std::fs::read_to_string(file)?;
    if file.extension().is_none_or(|ending| ending != "jsonl") {
        return Ok(content.lines().map(str::to_owned).collect());
    }
    let text = |line: &str| -> Result<String, Box<dyn Error + Send + Sync>> {
        let row: Value = serde_json::from_str(line)?;
        Ok(row["text"].as_str().ok_or("a line without text")?.to_owned())
    };
    content.lines().map(text).collect()
}
