//! T5 and mT5 against transformers: tiny random models whose numbers `golden/make_golden_t5.py` made.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use serde_json::Value;
use support::{about, device, farthest, folder, tensor, tensors};
use xqg_kernel::dropout::{Key, Rate};
use xqg_model::checkpoint::Checkpoint;
use xqg_model::t5_config::T5Config;
use xqg_train::composed::decoding::{Pairs, Share};
use xqg_train::composed::device::Precision;
use xqg_train::composed::t5::T5;
use xqg_train::gradients::Gradients;
use xqg_train::optimiser::{AdamW, Optimiser};

const FAMILIES: [&str; 2] = ["t5", "mt5"];

struct Golden {
    about: Value,
    tensors: Checkpoint,
    t5: T5,
    pairs: Pairs,
}

fn open(family: &str) -> Golden {
    open_in(family, Precision::F32)
}

fn open_in(family: &str, precision: Precision) -> Golden {
    let folder = folder(family);
    let about = about(&folder);
    let texts = |key: &str| serde_json::from_value(about[key].clone()).unwrap();
    let pairs = Pairs { inputs: texts("inputs"), targets: texts("targets") };
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let config = T5Config::read(&folder).unwrap();
    let t5 = T5::load(&checkpoint, config, device(precision)).unwrap();
    Golden { about, tensors: tensors(&folder), t5, pairs }
}

impl Golden {
    fn tensor(&self, name: &str) -> Vec<f32> {
        tensor(&self.tensors, name)
    }

    fn learn(&self, dropout: Option<(Rate, Key)>) -> (f64, Gradients) {
        let mut gradients = Gradients::zeros(&self.t5.parameters);
        let loss = self.t5.learn(&self.pairs, dropout, &mut gradients).unwrap();
        (loss, gradients)
    }
}

#[test]
fn likelihoods_follow_transformers_alone_and_padded() {
    for family in FAMILIES {
        let golden = open(family);
        let expected: Vec<f32> =
            serde_json::from_value(golden.about["likelihoods"].clone()).unwrap();
        let together = golden.t5.likelihoods(&golden.pairs).unwrap();
        assert!(farthest(&together, &expected) < 1e-5, "{family}");
        for (i, expected) in expected.iter().enumerate() {
            let Pairs { inputs, targets } = &golden.pairs;
            let one = Pairs { inputs: vec![inputs[i].clone()], targets: vec![targets[i].clone()] };
            let alone = golden.t5.likelihoods(&one).unwrap()[0];
            assert!((alone - expected).abs() < 1e-5, "{family}: padding changes nothing");
        }
    }
}

#[test]
fn loss_and_every_gradient_follow_pytorch() {
    for family in FAMILIES {
        let golden = open(family);
        let (loss, gradients) = golden.learn(None);
        let expected = golden.about["losses"][0].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-6, "{family}: {loss} {expected}");
        for (gradient, parameter) in gradients.0.iter().zip(&golden.t5.parameters.0) {
            let expected = golden.tensor(&format!("grad.{}", parameter.name));
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert!(largest > 0.0, "{family} {} has a gradient", parameter.name);
            let off = farthest(gradient.kept(), &expected) / largest;
            assert!(off < 1e-4, "{family} {}: {off}", parameter.name);
        }
    }
}

#[test]
fn label_smoothing_follows_pytorch_and_parts_add_up() {
    for family in FAMILIES {
        let golden = open(family);
        let number = |key: &str| golden.about["smoothed"][key].as_f64().unwrap();
        let share = |texts: std::ops::Range<usize>, gradients: &mut Gradients| {
            let pairs = Pairs {
                inputs: golden.pairs.inputs[texts.clone()].to_vec(),
                targets: golden.pairs.targets[texts].to_vec(),
            };
            let tokens = golden.pairs.targets.iter().map(Vec::len).sum();
            let share = Share { tokens, smoothing: number("share"), dropout: None };
            golden.t5.learn_part(&pairs, share, gradients).unwrap()
        };
        let mut gradients = Gradients::zeros(&golden.t5.parameters);
        let whole = share(0..4, &mut gradients);
        assert!((whole.smoothed - number("loss")).abs() < 1e-6, "{family}: {whole:?}");
        let plain = golden.about["losses"][0].as_f64().unwrap();
        assert!((whole.plain / whole.tokens as f64 - plain).abs() < 1e-6);
        let norm = gradients.norm();
        assert!((norm / number("norm") - 1.0).abs() < 1e-5, "{family}: {norm}");
        let mut parts = Gradients::zeros(&golden.t5.parameters);
        let losses = [share(0..1, &mut parts), share(1..4, &mut parts)];
        let sum = losses[0].smoothed + losses[1].smoothed;
        assert!((sum - whole.smoothed).abs() < 1e-6);
        for (a, b) in parts.0.iter().zip(&gradients.0) {
            assert!(farthest(a.kept(), b.kept()) < 1e-5, "{family}");
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
        let mut optimiser = Optimiser::new(settings, &golden.t5.parameters);
        for expected in golden.about["losses"].as_array().unwrap().clone() {
            let (loss, gradients) = golden.learn(None);
            assert!((loss - expected.as_f64().unwrap()).abs() < 1e-4, "{family}: {loss}");
            optimiser.step(&mut golden.t5.parameters, &gradients, rate);
            golden.t5.refresh().unwrap();
        }
        for parameter in &golden.t5.parameters.0 {
            let expected = golden.tensor(&format!("after.{}", parameter.name));
            let off = farthest(&parameter.values, &expected);
            assert!(off < 1e-4, "{family} {}: {off}", parameter.name);
        }
    }
}

#[test]
fn dropout_is_real_and_drawn_by_key() {
    let golden = open("mt5");
    let with = |key: u64| golden.learn(Some((Rate::new(0.1).unwrap(), Key::new(key)))).0;
    assert_eq!(with(1), with(1));
    assert!((with(1) - with(2)).abs() > 1e-4 && (with(1) - golden.learn(None).0).abs() > 1e-4);
}

#[test]
fn bf16_is_close_and_not_the_same() {
    for family in FAMILIES {
        let (exact, gradients) = open(family).learn(None);
        let (rounded, coarse) = open_in(family, Precision::Bf16).learn(None);
        assert!((exact - rounded).abs() < 0.02 * exact.abs(), "{family}: {exact} {rounded}");
        assert_ne!(exact, rounded);
        let (a, b) = (gradients.norm(), coarse.norm());
        assert!((a - b).abs() < 0.1 * a, "{family}: {a} {b}");
    }
}
