//! The encoders of candle's operations against PyTorch's numbers and against the kernels written by
//! hand. What holds here on the processor is what a GPU computes; `bench/gpu` runs these tests on one,
//! with `XQG_TEST_DEVICE=cuda`.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::{FAMILIES, Golden, device, farthest, open};
use xqg_kernel::dropout::Rate;
use xqg_train::batch::Batch;
use xqg_train::cache::Chunks;
use xqg_train::composed::device::{Opened, Precision};
use xqg_train::config::LossConfig;
use xqg_train::engine::Tower;
use xqg_train::loss::contrastive::Targets;
use xqg_train::memory::Need;
use xqg_train::network::Dropout;
use xqg_train::network::pass::Keep;
use xqg_train::optimiser::AdamW;
use xqg_train::towers::Towers;

const WHOLE: Chunks = Chunks { tokens: 10_000, keep: Keep::All };

impl Golden {
    /// The texts as the batch that the golden losses are of: query i's positive is passage 2i.
    fn batch(&self) -> Batch {
        let count = self.number("queries") as usize;
        let (queries, passages) = self.texts.split_at(count);
        let targets = Targets {
            positives: (0..count).map(|i| 2 * i).collect(),
            ignored: vec![Vec::new(); count],
        };
        Batch {
            queries: queries.to_vec(),
            passages: passages.to_vec(),
            targets,
            teacher: Vec::new(),
            pairs: Vec::new(),
            names: String::new(),
        }
    }

    fn settings(&self) -> LossConfig {
        LossConfig { temperature: Some(self.number("temperature")), ..LossConfig::default() }
    }

    /// A tower of this network, on the tested device or by hand.
    fn towers(&self, device: Option<&Opened>) -> Towers {
        let (decay, clip) = (self.number("decay") as f32, self.number("clip"));
        let settings = AdamW { decay, clip, ..AdamW::default() };
        let mut towers = Towers::new(vec![Tower::new(self.encoder.clone(), settings)]);
        device.iter().for_each(|device| towers.place(device).unwrap());
        towers
    }

    fn with_dropout(mut self) -> Self {
        let [hidden, attention] = [0.1, 0.2].map(|p| Rate::new(p).unwrap());
        self.encoder.dropout = Some(Dropout { hidden, attention });
        self
    }

    /// The loss of each of so many steps, and the parameters after them.
    fn steps(&self, device: Option<&Opened>, chunks: Chunks, count: usize) -> (Vec<f64>, Towers) {
        let mut towers = self.towers(device);
        let mut losses = Vec::new();
        for _ in 0..count {
            losses.push(towers.learn(&self.batch(), &self.settings(), chunks, 1).unwrap());
            let norm = towers.norm().unwrap();
            towers.step(norm, self.number("rate")).unwrap();
        }
        towers.to_host().unwrap();
        (losses, towers)
    }
}

/// A key's bias cancels in the softmax: its gradient is rounding around zero.
fn is_noise(name: &str) -> bool {
    name.ends_with("key.bias")
}

#[test]
fn embeddings_follow_transformers() {
    for family in FAMILIES {
        let golden = open(family);
        let mut towers = golden.towers(Some(&device(Precision::F32)));
        let embeddings = towers.embed(0, &golden.texts, 8192).unwrap();
        assert!(farthest(&embeddings, &golden.tensor("embeddings")) < 1e-5, "{family}");
        let h = golden.encoder.config().hidden_size;
        for (i, text) in golden.texts.iter().enumerate() {
            let alone = towers.embed(0, std::slice::from_ref(text), 1).unwrap();
            let off = farthest(&alone, &embeddings[i * h..][..h]);
            assert!(off < 2e-6, "{family}: padding changes nothing, {off}");
        }
    }
}

#[test]
fn loss_and_every_gradient_follow_pytorch() {
    for family in FAMILIES {
        let golden = open(family);
        for (tokens, keep) in [(10_000, Keep::All), (10_000, Keep::Inputs), (20, Keep::All)] {
            let mut towers = golden.towers(Some(&device(Precision::F32)));
            let chunks = Chunks { tokens, keep };
            let loss = towers.learn(&golden.batch(), &golden.settings(), chunks, 1).unwrap();
            let expected = golden.about["losses"][0].as_f64().unwrap();
            assert!((loss - expected).abs() < 1e-6, "{family}: {loss} {expected}");
            let gradients = towers.all[0].gradients().unwrap();
            for (ours, parameter) in gradients.iter().zip(&golden.encoder.parameters.0) {
                let name = &parameter.name;
                assert!(ours.iter().any(|x| *x != 0.0), "{family}: {name} has a gradient");
                let expected = golden.tensor(&format!("grad.{name}"));
                let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
                let floor = if is_noise(name) { 1e-2 } else { 1e-6 };
                let off = farthest(ours, &expected) / largest.max(floor);
                assert!(off < 1e-4, "{family} {chunks:?} {name}: {off}");
            }
        }
    }
}

#[test]
fn ten_steps_of_adamw_follow_pytorch() {
    for family in FAMILIES {
        let golden = open(family);
        let (losses, towers) = golden.steps(Some(&device(Precision::F32)), WHOLE, 10);
        for (loss, expected) in losses.iter().zip(golden.about["losses"].as_array().unwrap()) {
            assert!((loss - expected.as_f64().unwrap()).abs() < 1e-4, "{family}: {loss}");
        }
        for parameter in &towers.all[0].encoder.parameters.0 {
            let off =
                farthest(&parameter.values, &golden.tensor(&format!("after.{}", parameter.name)));
            // Adam makes steps of rounding around zero.
            let most = if is_noise(&parameter.name) { 5e-2 } else { 1e-4 };
            assert!(off < most, "{family} {}: {off}", parameter.name);
        }
    }
}

#[test]
fn dropout_is_that_of_the_kernels_in_any_chunks() {
    for family in FAMILIES {
        let golden = open(family).with_dropout();
        let (by_hand, _) = golden.steps(None, WHOLE, 5);
        let plain = open(family).steps(None, WHOLE, 1).0[0];
        assert!((by_hand[0] - plain).abs() > 1e-3, "dropout is real");
        let mut towers = golden.towers(None);
        towers.learn(&golden.batch(), &golden.settings(), WHOLE, 1).unwrap();
        let expected = towers.all[0].gradients().unwrap();
        for (tokens, keep) in [(10_000, Keep::All), (20, Keep::All), (20, Keep::Inputs)] {
            let (chunks, device) = (Chunks { tokens, keep }, device(Precision::F32));
            let mut towers = golden.towers(Some(&device));
            towers.learn(&golden.batch(), &golden.settings(), chunks, 1).unwrap();
            let gradients = towers.all[0].gradients().unwrap();
            let names = golden.encoder.parameters.0.iter().map(|p| &p.name);
            for ((ours, expected), name) in gradients.iter().zip(&expected).zip(names) {
                let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
                let off = farthest(ours, expected) / largest.max(1e-2);
                assert!(off < 1e-4, "{family} {chunks:?} {name}: {off}");
            }
            let (losses, _) = golden.steps(Some(&device), chunks, 5);
            for (loss, expected) in losses.iter().zip(&by_hand) {
                assert!((loss - expected).abs() < 1e-4, "{family}: {losses:?} {by_hand:?}");
            }
        }
    }
}

#[test]
fn moments_come_back_as_the_kernels_keep_them() {
    let golden = open("xlmr");
    let (_, by_hand) = golden.steps(None, WHOLE, 2);
    let (_, composed) = golden.steps(Some(&device(Precision::F32)), WHOLE, 2);
    let [by_hand, composed] = [by_hand, composed].map(|mut towers| towers.all.remove(0).optimiser);
    assert_eq!(by_hand.steps, composed.steps);
    for (a, b) in by_hand.moments.iter().zip(&composed.moments) {
        assert!(a.places.keys().eq(b.places.keys()), "the same rows were touched");
        assert_eq!((a.first.len(), a.second.len()), (b.first.len(), b.second.len()));
    }
}

/// Halves of the bits, and losses and embeddings that stay close.
#[test]
fn bf16_is_close_and_not_the_same() {
    for family in FAMILIES {
        let golden = open(family);
        let (exact, _) = golden.steps(Some(&device(Precision::F32)), WHOLE, 5);
        let (rounded, towers) = golden.steps(Some(&device(Precision::Bf16)), WHOLE, 5);
        for (a, b) in exact.iter().zip(&rounded) {
            assert!((a - b).abs() < 0.02 * a.abs().max(1.0), "{family}: {exact:?} {rounded:?}");
        }
        assert_ne!(exact, rounded);
        let mut bf16 = golden.towers(Some(&device(Precision::Bf16)));
        let off =
            farthest(&bf16.embed(0, &golden.texts, 8192).unwrap(), &golden.tensor("embeddings"));
        assert!((1e-5..5e-2).contains(&off), "{family}: {off}");
        let small = |p: &xqg_train::parameters::Parameter| {
            p.values.iter().any(|x| half::bf16::from_f32(*x).to_f32() != *x)
        };
        assert!(towers.all[0].encoder.parameters.0.iter().any(small), "the masters have 32 bits");
    }
}

#[test]
fn frozen_embeddings_stay_and_the_rest_learns() {
    let mut golden = open("bert");
    golden.encoder.freeze_embeddings();
    let (_, by_hand) = golden.steps(None, WHOLE, 3);
    let (_, composed) = golden.steps(Some(&device(Precision::F32)), WHOLE, 3);
    let before = &golden.encoder.parameters.0;
    let [by_hand, composed] =
        [by_hand, composed].map(|mut towers| towers.all.remove(0).encoder.parameters.0);
    for ((a, b), before) in by_hand.iter().zip(&composed).zip(before) {
        let most = if is_noise(&a.name) { 5e-2 } else { 1e-4 };
        assert!(farthest(&a.values, &b.values) < most, "{}", a.name);
        assert_eq!(b.values == before.values, b.name.contains("_embeddings."), "{}", a.name);
    }
}

#[test]
fn the_estimate_of_memory_follows_what_is_kept() {
    let golden = open(FAMILIES[0]);
    let need = |keep, precision, longest| {
        Need::composed(&golden.encoder, 1, keep, (precision, [32, longest]))
    };
    let most = need(Keep::All, Precision::F32, 128);
    for less in [
        need(Keep::Inputs, Precision::F32, 128),
        need(Keep::All, Precision::Bf16, 128),
        need(Keep::All, Precision::F32, 64),
    ] {
        assert!(less.per_token < most.per_token && less.fixed == most.fixed, "{less:?} {most:?}");
    }
    let two = Need::composed(&golden.encoder, 2, Keep::All, (Precision::F32, [32, 128]));
    assert!(two.fixed == 2 * most.fixed && two.per_token == most.per_token);
    // Value, gradient twice and two moments, of 4 bytes each.
    let numbers: usize = golden.encoder.parameters.0.iter().map(|p| p.values.len()).sum();
    assert!(most.fixed > 5 * 4 * numbers as u64, "{most:?}");
}
