//! Forward, gradients and optimiser against PyTorch and transformers: tiny random encoders whose
//! numbers `golden/make_golden.py` made.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::{FAMILIES, Golden, farthest, folder, open};
use xqg_kernel::dropout::Rate;
use xqg_model::checkpoint::Checkpoint;
use xqg_train::cache::Chunks;
use xqg_train::gradients::{Gradient, Gradients};
use xqg_train::network::Dropout;
use xqg_train::network::pass::{Keep, Workspace};
use xqg_train::optimiser::{AdamW, Optimiser};

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

#[test]
fn ten_steps_of_adamw_follow_pytorch() {
    for family in FAMILIES {
        let mut golden = open(family);
        let number = |key: &str| golden.about[key].as_f64().unwrap();
        let (rate, decay, clip) = (number("rate"), number("decay") as f32, number("clip"));
        let settings = AdamW { decay, clip, ..AdamW::default() };
        let mut optimiser = Optimiser::new(settings, &golden.encoder.parameters);
        for expected in golden.about["losses"].as_array().unwrap().clone() {
            let (loss, gradients) = step(&golden, Keep::All);
            assert!((loss - expected.as_f64().unwrap()).abs() < 1e-4, "{family}: {loss}");
            optimiser.step(&mut golden.encoder.parameters, &gradients, rate);
        }
        for parameter in &golden.encoder.parameters.0 {
            let expected = golden.tensor(&format!("after.{}", parameter.name));
            // The gradient of a key's bias is rounding around zero, which Adam makes steps of.
            let noise = parameter.name.ends_with("key.bias");
            let off = farthest(&parameter.values, &expected);
            assert!(off < if noise { 5e-2 } else { 1e-4 }, "{family} {}: {off}", parameter.name);
        }
    }
}

/// Dropout at the rates of the published models.
fn with_dropout(golden: &mut Golden) {
    let [hidden, attention] = [0.1, 0.2].map(|p| Rate::new(p).unwrap());
    golden.encoder.dropout = Some(Dropout { hidden, attention });
}

/// The gradients by way of chunks of that many tokens.
fn cached(golden: &Golden, tokens: usize, keep: Keep) -> Gradients {
    let (chunks, mut workspace) = (Chunks { tokens, keep }, Workspace::default());
    let mut gradients = Gradients::zeros(&golden.encoder.parameters);
    let encoded = chunks.encode(&golden.encoder, &golden.texts, &mut workspace);
    let (_, grad) = loss(golden, &encoded.embeddings);
    let texts = (&golden.texts[..], encoded);
    chunks.back(&golden.encoder, texts, &grad, &mut gradients, &mut workspace);
    gradients
}

fn assert_same(golden: &Golden, a: &Gradients, b: &Gradients, what: &str) {
    for ((a, b), parameter) in a.0.iter().zip(&b.0).zip(&golden.encoder.parameters.0) {
        let [a, b] = [a, b].map(|g| dense(g, parameter.values.len()));
        let largest = a.iter().fold(1e-2f32, |m, x| m.max(x.abs()));
        let off = farthest(&a, &b) / largest;
        assert!(off < 1e-5, "{what} {}: {off}", parameter.name);
    }
}

#[test]
fn cached_gradients_are_the_gradients_with_dropout_too() {
    for family in FAMILIES {
        let mut golden = open(family);
        with_dropout(&mut golden);
        let whole = cached(&golden, 1000, Keep::All);
        for (tokens, keep) in [(20, Keep::All), (1, Keep::All), (20, Keep::Inputs)] {
            assert_same(&golden, &whole, &cached(&golden, tokens, keep), family);
        }
    }
}

#[test]
fn dropout_is_real_and_its_gradient_is_the_slope() {
    let mut golden = open("bert");
    let plain = step(&golden, Keep::All).0;
    with_dropout(&mut golden);
    let (value, gradients) = step(&golden, Keep::All);
    assert!((value - plain).abs() > 1e-3, "{value} {plain}");
    assert_eq!(value, step(&golden, Keep::All).0, "the same draws in every pass");
    let place = golden.encoder.parameters.0.iter().position(|p| p.name.ends_with("query.weight"));
    let place = place.unwrap();
    for i in [0, 100, 333] {
        let mut at = |by: f32| {
            golden.encoder.parameters.0[place].values[i] += by;
            let value = step(&golden, Keep::All).0;
            golden.encoder.parameters.0[place].values[i] -= by;
            value
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        let ours = f64::from(gradients.0[place].kept()[i]);
        assert!((ours - slope).abs() < 0.02 * slope.abs() + 2e-5, "{i}: {ours} {slope}");
    }
}

#[test]
fn neighbours_and_threads_change_no_bit_that_matters() {
    let mut golden = open("xlmr");
    with_dropout(&mut golden);
    let mut workspace = Workspace::default();
    let whole = golden.encoder.forward(&golden.texts, Keep::Nothing, &mut workspace);
    let h = golden.encoder.config().hidden_size;
    for (i, text) in golden.texts.iter().enumerate() {
        let alone = std::slice::from_ref(text);
        let alone = golden.encoder.forward(alone, Keep::Nothing, &mut workspace);
        assert!(farthest(&alone.embeddings, &whole.embeddings[i * h..][..h]) < 2e-6);
    }
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| step(&golden, Keep::All))
    };
    let (one, three) = (with(1), with(3));
    assert_eq!(one, three, "bit for bit");
}

#[test]
fn a_saved_checkpoint_has_the_published_names_and_numbers() {
    for family in FAMILIES {
        let golden = open(family);
        let to = tempfile::tempdir().unwrap();
        golden.encoder.write(&to.path().join("model.safetensors")).unwrap();
        let (old, new) = (Checkpoint::open(&folder(family)).unwrap(), to.path());
        let new = Checkpoint::open(new).unwrap();
        assert!(old.names().eq(new.names()), "{family}");
        for name in old.names() {
            let shape = old.shape(name).unwrap();
            assert_eq!(old.tensor(name, shape).unwrap(), new.tensor(name, shape).unwrap());
        }
    }
}
