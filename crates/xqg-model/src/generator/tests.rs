//! The shared-encoder generator against PyTorch and transformers (`tests/golden/make_generator.py`),
//! and what must hold for any generator: that a question depends on nothing beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xqg_kernel::isa::Isa;

use super::attend::Memory;
use super::core::{Core, Reader, Spoken};
use super::decoder::{Cursor, Scratch};
use super::shared::Shared;
use super::{Decoding, Generator, GeneratorOptions, Method, Question, Written};
use crate::encoder::{Encoder, EncoderOptions};
use crate::error::ModelError;
use crate::linear::{Precision, Rows};

#[derive(Deserialize)]
struct Golden {
    max_tokens: usize,
    rows: Vec<Row>,
    forced: Vec<Forced>,
}

#[derive(Deserialize)]
struct Row {
    docid: String,
    title: String,
    text: String,
    full: Found,
    shortlist: Found,
}

#[derive(Deserialize)]
struct Found {
    greedy: Vec<Text>,
    beam: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    logprob: f32,
}

#[derive(Deserialize)]
struct Forced {
    passage: usize,
    lang: Lang,
    target: Vec<u32>,
    scores: Vec<Vec<f32>>,
}

pub(super) fn golden_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden() -> Golden {
    let bytes = std::fs::read(golden_folder("generator").join("golden.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn encoder(isa: Isa) -> Arc<Encoder> {
    let options = EncoderOptions { isa: Some(isa), ..EncoderOptions::default() };
    Arc::new(Encoder::open(&golden_folder("e5like"), &options).unwrap())
}

/// The golden folder with a contract in its configuration.
fn folder(contract: &Value) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(golden_folder("generator").join(name), to.path().join(name)).unwrap();
    }
    let bytes = std::fs::read(golden_folder("generator").join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&bytes).unwrap();
    config["encoder"] = contract.clone();
    std::fs::write(to.path().join("config.json"), config.to_string()).unwrap();
    to
}

fn options(isa: Isa, precision: Precision) -> (GeneratorOptions, tempfile::TempDir) {
    let encoder = encoder(isa);
    let folder = folder(&serde_json::to_value(encoder.contract()).unwrap());
    let options = GeneratorOptions {
        encoder: Some(encoder),
        isa: Some(isa),
        precision,
        ..GeneratorOptions::default()
    };
    (options, folder)
}

fn open(isa: Isa) -> Generator {
    let (options, folder) = options(isa, Precision::F32);
    Generator::open(folder.path(), &options).unwrap()
}

pub(super) fn lang(code: &str) -> Lang {
    code.parse().unwrap()
}

fn langs() -> Vec<Lang> {
    ["ar", "fi", "te"].map(lang).to_vec()
}

fn passages(golden: &Golden) -> Vec<Passage> {
    let passage = |row: &Row| Passage {
        docid: row.docid.clone(),
        title: row.title.clone(),
        text: row.text.clone(),
    };
    golden.rows.iter().step_by(3).map(passage).collect()
}

/// The scores of all tokens after the tag and each token of a target but the last.
pub(super) fn forced(core: &Core, memory: &Memory, start: u32, target: &[u32]) -> Vec<Vec<f32>> {
    let mut scratch = Scratch::default();
    let mut cursor = Cursor { token: start, at: 0, slot: core.slot(target.len()) };
    let mut rows = Vec::new();
    for (at, &token) in target.iter().enumerate() {
        cursor.at = at;
        let states = core.decoder.step(&mut [&mut cursor], &[(1, memory)], &mut scratch);
        let scaled: Vec<f32> = states.iter().map(|x| x * core.score_scale).collect();
        let linear = &core.output(None).linear;
        let mut out = vec![0.0; linear.stride()];
        let x = Rows { data: &scaled, stride: scaled.len() };
        linear.apply(1, x, None, &mut out, &mut scratch.worker);
        out.truncate(linear.output());
        rows.push(out);
        cursor.token = token;
    }
    rows
}

#[test]
fn the_scores_of_given_questions_are_pytorchs() {
    let golden = golden();
    for isa in Isa::available() {
        let (options, folder) = options(isa, Precision::F32);
        let shared = Shared::open(folder.path(), &options).unwrap();
        for row in &golden.forced {
            let passage = &passages(&golden)[row.passage];
            let spoken: Vec<Spoken> = shared.spoken(&[row.lang]).unwrap();
            let reading = shared.read(0, passage, &spoken, 1).unwrap();
            let states = Rows { data: &reading.states, stride: reading.stride };
            let memory =
                shared.core.decoder.remember(states, reading.count, &mut Scratch::default());
            let found = forced(&shared.core, &memory, spoken[0].start, &row.target);
            for (ours, theirs) in found.concat().iter().zip(row.scores.concat()) {
                assert!((ours - theirs).abs() < 1e-4, "{isa:?}: {ours} for {theirs}");
            }
        }
    }
}

#[test]
fn greedy_and_beam_search_write_what_transformers_does() {
    let golden = golden();
    for isa in Isa::available() {
        let generator = open(isa);
        for (method, n) in [(Method::Greedy, 1), (Method::Beam { width: 4 }, 3)] {
            for shortlist in [false, true] {
                let max_tokens = golden.max_tokens;
                let how = Decoding { n, method, max_tokens, seed: 0, shortlist };
                let written = generator.write(&passages(&golden), &langs(), &how).unwrap();
                let ours = written.iter().flat_map(|w| &w.questions);
                let found = |row: &Row| {
                    let found = if shortlist { &row.shortlist } else { &row.full };
                    let texts = if n == 1 { &found.greedy } else { &found.beam };
                    texts.iter().map(|t| (t.text.clone(), t.logprob)).collect::<Vec<_>>()
                };
                let theirs = golden.rows.iter().flat_map(found);
                for (ours, (text, logprob)) in ours.zip(theirs) {
                    assert_eq!(ours.text, text, "{isa:?} {method:?} shortlist {shortlist}");
                    assert!((ours.logprob - logprob).abs() < 1e-3, "{ours:?} for {logprob}");
                }
                let count = written.iter().map(|w| w.questions.len()).sum::<usize>();
                assert_eq!(count, golden.rows.len() * n);
            }
        }
        let cut: Vec<bool> = generator
            .write(&passages(&golden), &langs(), &Decoding::default())
            .map(|written| written.iter().map(|w| w.truncated).collect())
            .unwrap_or_default();
        assert!(cut.is_empty(), "32 tokens are beyond the model's 24 places");
    }
}

/// What any generator must hold, checked over made-up passages.
pub(super) fn check_independence(generator: &Generator, langs: &[Lang]) {
    let passage = |i: usize| Passage {
        docid: format!("d{i}"),
        title: if i.is_multiple_of(3) { String::new() } else { format!("Finland {i}") },
        text: "река течёт, the lazy dog ".repeat(1 + i * 7 % 11),
    };
    let passages: Vec<Passage> = (0..23).map(passage).collect();
    let method = Method::Sample { top_k: 10, top_p: 0.9, temperature: 1.3 };
    let how = Decoding { n: 4, method, max_tokens: 9, seed: 3, shortlist: true };
    let write = |passages: &[Passage], threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| generator.write(passages, langs, &how)).unwrap()
    };
    let all = write(&passages, 1);
    assert_eq!(all.len(), passages.len());
    assert_eq!(write(&passages, 3), all, "the number of threads does not show");
    let mut turned: Vec<Passage> = passages.clone();
    turned.reverse();
    let mut turned = write(&turned, 2);
    turned.reverse();
    assert_eq!(turned, all, "nor does the order");
    for (i, passage) in passages.iter().enumerate().step_by(5) {
        let alone = write(std::slice::from_ref(passage), 2);
        assert_eq!(alone[0], all[i], "nor what is written beside it");
    }
    let few = generator.write(&passages, &langs[1..2], &how).unwrap();
    let own = |w: &Written| -> Vec<Question> {
        w.questions.iter().filter(|q| q.lang == langs[1]).cloned().collect()
    };
    assert_eq!(
        few.iter().flat_map(|w| w.questions.clone()).collect::<Vec<_>>(),
        all.iter().flat_map(own).collect::<Vec<_>>(),
        "nor do other languages"
    );
    let other = generator.write(&passages, langs, &Decoding { seed: 4, ..how }).unwrap();
    assert_ne!(other, all, "the seed does");
    let distinct: std::collections::BTreeSet<&str> =
        all[0].questions[..4].iter().map(|q| q.text.as_str()).collect();
    assert!(distinct.len() > 1, "and so does the sample");
}

#[test]
fn a_question_depends_on_nothing_beside_it() {
    for precision in [Precision::F32, Precision::Int8] {
        let isa = Isa::detect();
        let (options, folder) = options(isa, precision);
        check_independence(&Generator::open(folder.path(), &options).unwrap(), &langs());
    }
}

#[test]
fn one_pass_gives_the_encoders_own_embeddings() {
    let golden = golden();
    let generator = open(Isa::detect());
    let passages = passages(&golden);
    let how = Decoding { max_tokens: 5, ..Decoding::default() };
    let (encoded, written) = generator.encode_and_write(&passages, &langs(), &how).unwrap();
    let texts: Vec<String> = passages.iter().map(Passage::encoder_text).collect();
    let alone = encoder(Isa::detect()).encode(xqg_data::embeddings::Side::Passage, &texts).unwrap();
    assert_eq!(encoded, alone);
    assert_eq!(
        written.iter().map(|w| w.truncated).collect::<Vec<_>>(),
        [false, false, true, false]
    );
    assert!(written.iter().all(|w| w.questions.len() == 15));
}

#[test]
fn weights_of_eight_bits_are_read_with_their_scales() {
    let (options, folder) = options(Isa::detect(), Precision::F32);
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut arrays: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in whole.tensors() {
        let shape = view.shape().to_vec();
        if shape.len() == 2 {
            let four = view.data().as_chunks().0.iter();
            let values: Vec<f32> = four.map(|b| f32::from_le_bytes(*b)).collect();
            let (mut levels, mut scales) = (Vec::new(), Vec::new());
            for row in values.chunks_exact(shape[1]) {
                let scale = row.iter().fold(1e-9f32, |m, x| m.max(x.abs())) / 127.0;
                levels.extend(row.iter().map(|x| (x / scale).round() as i8 as u8));
                scales.extend(scale.to_le_bytes());
            }
            let of = vec![shape[0]];
            arrays.push((format!("{name}.scale"), safetensors::Dtype::F32, of, scales));
            arrays.push((name, safetensors::Dtype::I8, shape, levels));
        } else {
            arrays.push((name, view.dtype(), shape, view.data().to_vec()));
        }
    }
    let views = arrays.iter().map(|(name, dtype, shape, data)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    let small = safetensors::serialize(views, None).unwrap();
    assert!(small.len() * 2 < bytes.len());
    std::fs::write(&path, small).unwrap();
    let golden = golden();
    let how = Decoding { n: 1, method: Method::Greedy, max_tokens: 2, seed: 0, shortlist: true };
    let write = |options: &GeneratorOptions| {
        let generator = Generator::open(folder.path(), options).unwrap();
        generator.write(&passages(&golden), &langs(), &how).unwrap()
    };
    let ours = write(&options);
    let fine = open(Isa::detect()).write(&passages(&golden), &langs(), &how).unwrap();
    let pairs = ours.iter().flat_map(|w| &w.questions).zip(fine.iter().flat_map(|w| &w.questions));
    let same = pairs.filter(|(a, b)| a.text == b.text && (a.logprob - b.logprob).abs() < 0.2);
    assert!(same.count() >= 10, "two tokens of 12 questions are nearly all the same");
}

#[test]
fn bad_input_is_refused_in_words() {
    let isa = Isa::detect();
    let (options, good) = options(isa, Precision::F32);
    let refused = |folder: &Path, options: &GeneratorOptions| {
        Generator::open(folder, options).unwrap_err().to_string()
    };
    let error = refused(good.path(), &GeneratorOptions::default());
    assert!(error.contains("expected the encoder") && error.contains("hint:"), "{error}");

    let mut contract = serde_json::to_value(encoder(isa).contract()).unwrap();
    contract["weights"] = Value::from("0".repeat(64));
    let error = refused(folder(&contract).path(), &options);
    assert!(error.contains("* weights") && error.contains("000000000000 |"), "{error}");

    let config = good.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for (from, to, said) in [
        ("\"te\":282", "\"tx\":282", "a tag in start_ids for every language"),
        ("\"te\":282", "\"te\":283", "token ids below vocab_size"),
        ("[\"ar\",\"fi\",\"te\"]", "[]", "languages, each with a tag"),
        ("\"gelu\"", "\"swish\"", "activation gelu"),
        ("\"num_heads\":4", "\"num_heads\":5", "that the heads divide"),
        ("\"hidden_size\":32", "\"hidden_size\":16", "hidden_size 32"),
        ("xqg-decoder", "gpt2", "model_type xqg-decoder"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&config, text.replace(from, to)).unwrap();
        let error = refused(good.path(), &options);
        assert!(error.contains(said), "{error}");
    }
    std::fs::write(&config, text).unwrap();
    let weights = good.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    assert!(refused(good.path(), &options).contains("damaged"));
}

#[test]
fn senseless_ways_of_decoding_and_other_languages_are_refused() {
    let generator = open(Isa::detect());
    let passages = passages(&golden());
    let good = Decoding { max_tokens: 8, ..Decoding::default() };
    let sample = |top_p, temperature| Method::Sample { top_k: 3, top_p, temperature };
    for (how, langs, said) in [
        (Decoding { n: 0, ..good }, langs(), "1 or more"),
        (Decoding { max_tokens: 25, ..good }, langs(), "1 to 24"),
        (Decoding { method: sample(0.0, 1.0), ..good }, langs(), "top-p"),
        (Decoding { method: sample(1.0, f32::NAN), ..good }, langs(), "temperature"),
        (Decoding { method: Method::Beam { width: 4 }, ..good }, langs(), "width"),
        (good, vec![lang("ja")], "among ar, fi, te, found ja"),
        (good, vec![], "languages"),
    ] {
        let error: ModelError = generator.write(&passages, &langs, &how).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(generator.write(&[], &langs(), &good).unwrap(), []);
}
