//! The encoder against PyTorch and transformers: tiny random models of each family and each weight
//! format, whose folders and numbers `tests/golden/make_golden.py` made, and the real
//! multilingual-e5-small, whose numbers `make_e5_golden.py` made.

#![allow(clippy::unwrap_used)] // a test that cannot read its golden files should stop there

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xqg_data::embeddings::Side;
use xqg_kernel::isa::Isa;
use xqg_model::encoder::{Encoder, EncoderOptions};
use xqg_model::linear::Precision;
use xqg_model::recipe::Pooling;

/// Folders whose files do not name a pooling: there the caller says it.
const BARE: [&str; 10] = [
    "mbert",
    "xlmr",
    "gelu-new",
    "relu",
    "sharded",
    "bin-views",
    "bin-sharded",
    "bin-old-names",
    "f16",
    "bf16",
];
const WHOLE: [&str; 6] = ["e5like", "labse", "labse-bin", "minilm", "bgem3", "st6"];

#[derive(Deserialize)]
struct Golden {
    contract: GoldenContract,
    texts: Vec<GoldenText>,
}

#[derive(Deserialize)]
struct GoldenContract {
    pooling: String,
    normalize: bool,
    max_tokens: usize,
    dimension: usize,
}

#[derive(Deserialize)]
struct GoldenText {
    text: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    untruncated: usize,
    ids: Vec<u32>,
    #[serde(default)]
    embedding: Vec<f32>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden(name: &str) -> Golden {
    let bytes = std::fs::read(folder(name).join("golden.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn open(name: &str, golden: &Golden, prompt: &str) -> Encoder {
    let bare = BARE.contains(&name);
    let pooling = if golden.contract.pooling == "cls" { Pooling::Cls } else { Pooling::Mean };
    let options = EncoderOptions {
        pooling: bare.then_some(pooling),
        query_prefix: Some(prompt.to_owned()),
        query_max_tokens: Some(golden.contract.max_tokens),
        ..EncoderOptions::default()
    };
    Encoder::open(&folder(name), &options).unwrap()
}

/// The rows of a golden file with one prompt.
fn by_prompt(golden: &Golden) -> BTreeMap<&str, Vec<&GoldenText>> {
    let mut groups: BTreeMap<&str, Vec<&GoldenText>> = BTreeMap::new();
    for text in &golden.texts {
        groups.entry(&text.prompt).or_default().push(text);
    }
    groups
}

fn texts(rows: &[&GoldenText]) -> Vec<String> {
    rows.iter().map(|t| t.text.clone()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn tiny_models_of_every_family_equal_transformers() {
    for name in BARE.into_iter().chain(WHOLE) {
        let golden = golden(name);
        for (prompt, rows) in by_prompt(&golden) {
            let encoder = open(name, &golden, prompt);
            assert_eq!(encoder.contract().query_max_tokens, golden.contract.max_tokens, "{name}");
            assert_eq!(encoder.contract().normalize, golden.contract.normalize, "{name}");
            assert_eq!(encoder.dim(), golden.contract.dimension, "{name}");
            let tokens = encoder.tokens(Side::Query, &texts(&rows)).unwrap();
            let encoded = encoder.encode(Side::Query, &texts(&rows)).unwrap();
            let vectors = encoded.vectors.chunks_exact(encoder.dim());
            for ((row, tokens), vector) in rows.iter().zip(&tokens).zip(vectors) {
                assert_eq!(tokens.ids, row.ids, "{name}: ids of {:?}", row.text);
                assert_eq!(tokens.truncated, row.untruncated > row.ids.len(), "{name}");
                for (ours, theirs) in vector.iter().zip(&row.embedding) {
                    let gap = (ours - theirs).abs();
                    assert!(gap < 1e-5, "{name}: {ours} for {theirs} in {:?}", row.text);
                }
            }
            let cut = rows.iter().filter(|r| r.untruncated > r.ids.len()).count();
            assert_eq!(encoded.truncated, cut, "{name}: truncation is counted");
        }
    }
}

/// Same text, same vector: alone or in a batch, at any place in it, on any number of threads. With
/// the kernels to the bit, in every precision; on the portable path to 1e-6 of its length.
#[test]
fn same_text_same_vector_whatever_batch_order_and_threads() {
    for name in WHOLE {
        let mut texts: Vec<String> = golden(name).texts.iter().map(|t| t.text.clone()).collect();
        texts.push("x ".repeat(500));
        let there_and_back: Vec<String> = texts.iter().chain(texts.iter().rev()).cloned().collect();
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Int8, Precision::Int8Fast] {
                let options =
                    EncoderOptions { isa: Some(isa), precision, ..EncoderOptions::default() };
                let encoder = Encoder::open(&folder(name), &options).unwrap();
                let what = format!("{name}, {}, {}", isa.name(), precision.name());
                check_same(&encoder, &texts, &there_and_back, (isa, &what));
            }
        }
    }
}

/// Each text alone on one thread, against the batch on one, two and five.
fn check_same(encoder: &Encoder, texts: &[String], batch: &[String], (isa, what): (Isa, &str)) {
    // Of a vector's length, which is one but for the models that do not normalise.
    let near = |found: &[f32], expected: &[f32]| {
        let length = expected.iter().map(|x| x * x).sum::<f32>().sqrt();
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6 * length)
    };
    let same = |found: &[f32], expected: &[f32]| match isa {
        Isa::PORTABLE => near(found, expected),
        _ => found == expected,
    };
    let on = |threads: usize, texts: &[String]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| encoder.encode(Side::Passage, texts).unwrap().vectors)
    };
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| on(1, std::slice::from_ref(text))).collect();
    for threads in [1, 2, 5] {
        let all = on(threads, batch);
        let again = alone.iter().chain(alone.iter().rev());
        for ((vector, expected), text) in all.chunks_exact(encoder.dim()).zip(again).zip(batch) {
            assert!(same(vector, expected), "{what}, {threads} threads: {text:?}");
        }
    }
    for (text, expected) in texts.iter().zip(&alone) {
        let team = on(5, std::slice::from_ref(text));
        assert!(same(&team, expected), "{what}, alone on five threads: {text:?}");
    }
}

#[test]
fn every_set_and_precision_encodes_alike() {
    for name in WHOLE {
        let texts: Vec<String> = golden(name).texts.iter().map(|t| t.text.clone()).collect();
        let encode = |isa, precision| {
            let options = EncoderOptions { isa: Some(isa), precision, ..EncoderOptions::default() };
            let encoder = Encoder::open(&folder(name), &options).unwrap();
            (encoder.encode(Side::Passage, &texts).unwrap().vectors, encoder.dim())
        };
        let (plain, dim) = encode(Isa::PORTABLE, Precision::F32);
        for isa in Isa::available() {
            for (precision, least) in [(Precision::F32, 0.999999), (Precision::Int8, 0.99)] {
                let (ours, _) = encode(isa, precision);
                for (a, b) in ours.chunks_exact(dim).zip(plain.chunks_exact(dim)) {
                    assert!(cosine(a, b) > least, "{name} {isa:?} {precision:?}: {}", cosine(a, b));
                }
            }
        }
    }
}

#[test]
fn greatest_lengths_are_the_fields_or_the_models() {
    for (name, query, passage) in [("e5like", 40, 40), ("bgem3", 64, 128), ("minilm", 24, 24)] {
        let encoder = Encoder::open(&folder(name), &EncoderOptions::default()).unwrap();
        let found = (encoder.contract().query_max_tokens, encoder.contract().passage_max_tokens);
        assert_eq!(found, (query, passage), "{name}");
    }
    let options = EncoderOptions { query_max_tokens: Some(4096), ..EncoderOptions::default() };
    let error = Encoder::open(&folder("e5like"), &options).unwrap_err().to_string();
    assert!(error.contains("expected at most"), "{error}");
}

#[test]
fn prompts_come_from_the_folder_and_a_missing_pooling_is_asked_for() {
    let encoder = Encoder::open(&folder("e5like"), &EncoderOptions::default()).unwrap();
    let contract = encoder.contract();
    assert_eq!(
        (contract.query_prefix.as_str(), contract.passage_prefix.as_str()),
        ("query: ", "passage: ")
    );
    assert_eq!(contract.pooling, "mean+normalize");
    let error = Encoder::open(&folder("mbert"), &EncoderOptions::default()).unwrap_err();
    assert!(error.to_string().contains("--pooling"), "{error}");
}

#[test]
fn another_activation_or_weight_is_another_contract() {
    let hashes: Vec<String> = ["gelu-new", "relu", "sharded", "f16", "labse", "labse-bin"]
        .into_iter()
        .map(|name| open(name, &golden(name), "").contract().weights.clone())
        .collect();
    for (i, hash) in hashes.iter().enumerate() {
        assert!(hash.len() == 64 && !hashes[..i].contains(hash));
    }
}

#[test]
#[ignore = "needs the real model: XQG_TEST_E5 names its folder"]
fn slow_e5_small_equals_pytorch_on_50_sentences() {
    let model = std::env::var_os("XQG_TEST_E5").expect("XQG_TEST_E5 names a folder");
    #[derive(Deserialize)]
    struct Sentences {
        texts: Vec<GoldenText>,
    }
    let bytes = std::fs::read(folder("e5-small-50.json")).unwrap();
    let sentences: Sentences = serde_json::from_slice(&bytes).unwrap();
    let reference = xqg_data::npy::Matrix::open(&folder("e5-small-50.npy")).unwrap();
    assert_eq!((sentences.texts.len(), reference.rows()), (50, 50));
    let options = EncoderOptions { query_prefix: Some(String::new()), ..EncoderOptions::default() };
    let encoder = Encoder::open(Path::new(&model), &options).unwrap();
    let texts: Vec<String> = sentences.texts.iter().map(|t| t.text.clone()).collect();
    let tokens = encoder.tokens(Side::Query, &texts).unwrap();
    let vectors = encoder.encode(Side::Query, &texts).unwrap().vectors;
    let mut least = 1.0f64;
    for (i, vector) in vectors.chunks_exact(384).enumerate() {
        assert_eq!(tokens[i].ids, sentences.texts[i].ids);
        let mut expected = vec![0.0; 384];
        reference.read_rows(i, &mut expected);
        least = least.min(cosine(vector, &expected));
        let alone = encoder.encode(Side::Query, &texts[i..=i]).unwrap().vectors;
        assert!(cosine(vector, &alone) > 0.999999);
    }
    assert!(least > 0.99999, "least cosine to PyTorch: {least:.9}");
}

#[test]
fn embeddings_are_the_mean_of_the_token_states() {
    let options = EncoderOptions { normalize: Some(false), ..EncoderOptions::default() };
    let encoder = Encoder::open(&folder("e5like"), &options).unwrap();
    let texts: Vec<String> = ["a river", "", "two castles on a hill"].map(str::to_owned).into();
    let states = encoder.states(Side::Passage, &texts).unwrap();
    let (h, mut rest) = (encoder.hidden_size(), &states.states[..]);
    let expected = encoder.encode(Side::Passage, &texts).unwrap().vectors;
    for (expected, &n) in expected.chunks(h).zip(&states.lengths) {
        let (text, tail) = rest.split_at(n * h);
        rest = tail;
        for (column, expected) in expected.iter().enumerate() {
            let mean = (0..n).map(|row| text[row * h + column]).sum::<f32>() / n as f32;
            assert!((mean - expected).abs() < 1e-5, "{mean} {expected}");
        }
    }
    assert!(rest.is_empty());
}
