//! Our side of `bench/search/scale.sh`: an index of made-up passages with a question in each of
//! seven languages, built by the library with an encoder that takes no time worth naming, and
//! searched. What is printed is what the index and the search cost, not how well they find.
//!
//! `scale write FOLDER PASSAGES`, `scale build FOLDER f32|f16`, `scale search FOLDER QUERIES BATCH`
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measuring program of ours, not the product

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_data::lines::BadLines;
use xqg_data::npy::Dtype;
use xqg_index::build::{BuildOptions, Encode, Vectors, build};
use xqg_index::fuse::{LangWeights, Reduce, Weight};
use xqg_index::index::Index;
use xqg_index::manifest::Shard;
use xqg_index::search::{QueryVectors, SearchOptions, search_rows};

const DIM: usize = 384;
const LANGS: [&str; 7] = ["ar", "bn", "fi", "ja", "ko", "ru", "te"];

/// A vector of length one that a text decides: the numbers of SplitMix64 from a hash of the text.
fn vector(text: &str, out: &mut Vec<f32>) {
    let mut state = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    let start = out.len();
    for _ in 0..DIM / 2 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend([(z >> 32) as i32 as f32, z as i32 as f32]);
    }
    let length = out[start..].iter().map(|x| x * x).sum::<f32>().sqrt();
    out[start..].iter_mut().for_each(|x| *x /= length);
}

fn contract() -> EncoderContract {
    EncoderContract { model: "made-up".into(), ..EncoderContract::external(DIM, true) }
}

/// Writes the passages and their questions, with texts as short as can be.
fn write(folder: &Path, passages: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let open =
        |name: &str| BufWriter::with_capacity(1 << 20, File::create(folder.join(name)).unwrap());
    let (mut corpus, mut questions) = (open("corpus.jsonl"), open("generated.jsonl"));
    for i in 0..passages {
        writeln!(corpus, "{{\"_id\":\"{i}\",\"text\":\"passage {i}\"}}").unwrap();
        for lang in LANGS {
            writeln!(
                questions,
                "{{\"docid\":\"{i}\",\"lang\":\"{lang}\",\"text\":\"{lang} {i}?\"}}"
            )
            .unwrap();
        }
    }
    corpus.flush().unwrap();
    questions.flush().unwrap();
}

/// A number of kilobytes, or of bytes, from a file of /proc/self.
fn proc(file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("x 0");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn build_index(folder: &Path, dtype: &str) {
    let options = BuildOptions {
        corpus: folder.join("corpus.jsonl"),
        queries: Some(folder.join("generated.jsonl")),
        side: Side::Query,
        dtype: if dtype == "f16" { Dtype::F16 } else { Dtype::F32 },
        unit_rows: 2048,
        shard: Shard::WHOLE,
        bad_lines: BadLines::Stop,
        force: true,
    };
    let run = |_: Side, texts: &[String]| {
        let mut values = Vec::with_capacity(texts.len() * DIM);
        texts.iter().for_each(|text| vector(text, &mut values));
        Ok(Vectors { values, truncated: 0 })
    };
    let contract = contract();
    let encode = Encode { contract: &contract, model_path: folder, run: &run };
    let (mut anonymous, begun) = (0, Instant::now());
    let mut stages: Vec<(String, f64)> = Vec::new();
    let observer = &mut |p: xqg_index::progress::Progress| {
        anonymous = anonymous.max(proc("status", "RssAnon:"));
        let name = format!("{:?}", p.stage);
        if stages.last().is_none_or(|(last, _)| *last != name) {
            stages.push((name, begun.elapsed().as_secs_f64()));
        }
    };
    let summary = build(&folder.join("INDEX"), &options, encode, observer).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let n = summary.passages as f64;
    println!("build: {n} passages, {} questions in {seconds:.0} s", summary.questions);
    println!("build: {:.0} passages/s with their questions", n / seconds);
    let stages: Vec<String> = stages.iter().map(|(name, at)| format!("{name} {at:.0}")).collect();
    println!("build: stages began at s: {}", stages.join(", "));
    println!(
        "build: own memory at most {} MB, {:.0} bytes a passage; peak resident with mapped files {} MB",
        anonymous >> 10,
        anonymous as f64 * 1024.0 / n,
        proc("status", "VmHWM:") >> 10
    );
}

fn search(folder: &Path, queries: usize, batch: usize) {
    let begun = Instant::now();
    let index = Index::open(&folder.join("INDEX")).unwrap();
    println!(
        "search: opened in {:.1} s, own memory {} MB, {:.0} bytes a passage",
        begun.elapsed().as_secs_f64(),
        proc("status", "RssAnon:") >> 10,
        proc("status", "RssAnon:") as f64 * 1024.0 / index.len() as f64
    );
    let options = |share| SearchOptions {
        k: 100,
        weights: vec![Weight::Share(share)],
        reduce: Reduce::Mean,
        renormalize: true,
        langs: LangWeights::default(),
    };
    for (share, count, name) in [
        (0.4, 1, "one query, cold"),
        (0.4, 1, "one query, again"),
        (0.4, queries, "one query, again and again"),
        (0.4, batch, "a batch"),
        (0.0, 1, "one query, passages alone"),
        (0.0, batch, "a batch, passages alone"),
    ] {
        let (before, begun) = (proc("io", "read_bytes:"), Instant::now());
        let step = if name == "one query, again and again" { 1 } else { count };
        for first in (0..count).step_by(step) {
            let mut vectors = Vec::new();
            (first..first + step).for_each(|i| vector(&format!("query {i}"), &mut vectors));
            let (qids, langs) = (vec![String::new(); step], vec![None; step]);
            let asked = QueryVectors { qids: &qids, langs: &langs, vectors: &vectors };
            search_rows(&index, asked, &options(share), &mut |_| {}).unwrap();
        }
        let read = proc("io", "read_bytes:") - before;
        println!(
            "search: {name}: {count} queries, {:.3} s a query, {:.2} GB read from disk, own memory {} MB, mapped {} MB",
            begun.elapsed().as_secs_f64() / count as f64,
            read as f64 / 1e9,
            proc("status", "RssAnon:") >> 10,
            proc("status", "RssFile:") >> 10
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["write", folder, n] => write(Path::new(folder), n.parse().unwrap()),
        ["build", folder, dtype] => build_index(Path::new(folder), dtype),
        ["search", folder, one, batch] => {
            search(Path::new(folder), one.parse().unwrap(), batch.parse().unwrap());
        }
        _ => panic!("usage: scale write FOLDER N | build FOLDER f32|f16 | search FOLDER ONE BATCH"),
    }
}
