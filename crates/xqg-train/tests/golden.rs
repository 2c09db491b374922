//! Forward, gradients and optimiser against PyTorch and transformers: tiny random encoders whose
//! numbers `golden/make_golden.py` made.

use std::path::{Path, PathBuf};

use serde_json::Value;
use xqg_kernel::dropout::Key;
use xqg_model::checkpoint::Checkpoint;
use xqg_model::config::Config;
use xqg_model::recipe::Pooling;
use xqg_train::gradients::{Gradient, Gradients};
use xqg_train::network::pass::{Keep, Text, Workspace};
use xqg_train::network::{Encoder, Head};

const FAMILIES: [&str; 3] = ["bert", "bert-tanh", "xlmr"];

struct Golden {
    about: Value,
    tensors: Checkpoint,
    encoder: Encoder,
    texts: Vec<Text>,
}

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

fn open(family: &str) -> Golden {
    let folder = folder(family);
    let about: Value =
        serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let pooling = if about["pooling"] == "cls" { Pooling::Cls } else { Pooling::Mean };
    let head = Head { pooling, normalize: about["normalize"].as_bool().unwrap() };
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let encoder = Encoder::load(&checkpoint, Config::read(&folder).unwrap(), head).unwrap();
    let texts: Vec<Vec<u32>> = serde_json::from_value(about["texts"].clone()).unwrap();
    let texts = texts.into_iter().map(|ids| Text { ids, key: Key::new(0) }).collect();
    let tensors = Checkpoint::open_file(&folder.join("golden.safetensors")).unwrap();
    Golden { about, tensors, encoder, texts }
}

impl Golden {
    fn tensor(&self, name: &str) -> Vec<f32> {
        let shape = self.tensors.shape(name).unwrap_or_else(|| panic!("no {name}")).to_vec();
        self.tensors.tensor(name, &shape).unwrap()
    }
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn states_and_embeddings_follow_transformers() {
    for family in FAMILIES {
        let golden = open(family);
        let mut workspace = Workspace::default();
        let pass = golden.encoder.forward(&golden.texts, Keep::All, &mut workspace);
        assert!(farthest(&pass.states(), &golden.tensor("states")) < 1e-5, "{family} states");
        let embeddings = golden.tensor("embeddings");
        assert!(farthest(&pass.embeddings, &embeddings) < 1e-5, "{family} embeddings");
    }
}

/// The gradient of InfoNCE by the embeddings, in double precision: queries, then passages.
fn loss(golden: &Golden, embeddings: &[f32]) -> (f64, Vec<f32>) {
    let h = golden.encoder.config().hidden_size;
    let queries = golden.about["queries"].as_u64().unwrap() as usize;
    let t = golden.about["temperature"].as_f64().unwrap();
    let row = |i: usize| &embeddings[i * h..][..h];
    let passages = embeddings.len() / h - queries;
    let (mut total, mut grad) = (0.0, vec![0f64; embeddings.len()]);
    for q in 0..queries {
        let dot = |p: usize| -> f64 {
            row(q).iter().zip(row(queries + p)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let exps: Vec<f64> = (0..passages).map(|p| (dot(p) / t).exp()).collect();
        let sum: f64 = exps.iter().sum();
        total -= (exps[2 * q] / sum).ln() / queries as f64;
        for (p, e) in exps.iter().enumerate() {
            let d = (e / sum - f64::from(p == 2 * q)) / t / queries as f64;
            for i in 0..h {
                grad[q * h + i] += d * f64::from(row(queries + p)[i]);
                grad[(queries + p) * h + i] += d * f64::from(row(q)[i]);
            }
        }
    }
    (total, grad.into_iter().map(|x| x as f32).collect())
}

fn step(golden: &Golden, keep: Keep) -> (f64, Gradients) {
    let mut workspace = Workspace::default();
    let mut gradients = Gradients::zeros(&golden.encoder.parameters);
    let pass = golden.encoder.forward(&golden.texts, keep, &mut workspace);
    let (loss, grad) = loss(golden, &pass.embeddings);
    golden.encoder.backward(pass, &grad, &mut gradients, &mut workspace);
    (loss, gradients)
}

/// A gradient as dense numbers.
fn dense(gradient: &Gradient, count: usize) -> Vec<f32> {
    match gradient {
        Gradient::Rows(rows) => {
            let mut all = vec![0.0; count];
            for (&number, &place) in &rows.places {
                let (to, from) = (number as usize * rows.width, place * rows.width);
                all[to..to + rows.width].copy_from_slice(&rows.values[from..from + rows.width]);
            }
            all
        }
        other => other.kept().to_vec(),
    }
}

#[test]
fn every_trained_tensor_gets_a_gradient() {
    for family in FAMILIES {
        let golden = open(family);
        let (_, gradients) = step(&golden, Keep::All);
        for (gradient, parameter) in gradients.0.iter().zip(&golden.encoder.parameters.0) {
            let some = gradient.kept().iter().any(|x| *x != 0.0);
            assert!(some, "{family}: {} has a gradient", parameter.name);
        }
    }
}

#[test]
fn loss_and_every_gradient_follow_pytorch() {
    for family in FAMILIES {
        let golden = open(family);
        for keep in [Keep::All, Keep::Inputs] {
            let (loss, gradients) = step(&golden, keep);
            let expected = golden.about["losses"][0].as_f64().unwrap();
            assert!((loss - expected).abs() < 1e-6, "{family}: {loss} {expected}");
            for (gradient, parameter) in gradients.0.iter().zip(&golden.encoder.parameters.0) {
                let expected = golden.tensor(&format!("grad.{}", parameter.name));
                let ours = dense(gradient, parameter.values.len());
                let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
                // A key's bias cancels in the softmax: its gradient is rounding around zero.
                let floor = if parameter.name.ends_with("key.bias") { 1e-2 } else { 1e-6 };
                let relative = farthest(&ours, &expected) / largest.max(floor);
                assert!(relative < 1e-4, "{family} {keep:?} {}: {relative}", parameter.name);
            }
        }
    }
}
