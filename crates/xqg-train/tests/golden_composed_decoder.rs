//! The decoder of candle's operations against PyTorch's numbers and against the kernels written by hand.
//! What holds here on the processor is what a GPU computes; `bench/gpu` runs these tests on one.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::decoding::{Decoding, open};
use support::{device, farthest};
use xqg_kernel::dropout::Rate;
use xqg_train::composed::device::{Opened, Precision};
use xqg_train::generator::learning::LearningDecoder;
use xqg_train::optimiser::AdamW;

/// What the decoder learns on, by hand without a device.
fn on(golden: &Decoding, device: Option<&Opened>) -> LearningDecoder {
    let mut learning = LearningDecoder::new(golden.decoder.clone(), AdamW::default());
    device.iter().for_each(|device| learning.place(device).unwrap());
    learning
}

/// The losses of so many steps, and the decoder after them.
fn steps(golden: &Decoding, device: Option<&Opened>, count: usize) -> (Vec<f64>, LearningDecoder) {
    let mut learning = on(golden, device);
    let mut losses = Vec::new();
    for _ in 0..count {
        let settings = (&golden.lists, golden.smoothing());
        losses.push(learning.learn(&golden.batch, settings).unwrap().smoothed);
        let norm = learning.norm().unwrap();
        learning.step(norm, 1e-2).unwrap();
    }
    learning.to_host().unwrap();
    (losses, learning)
}

#[test]
fn loss_and_every_gradient_follow_pytorch() {
    let golden = open();
    let mut learning = on(&golden, Some(&device(Precision::F32)));
    let loss = learning.learn(&golden.batch, (&golden.lists, golden.smoothing())).unwrap();
    assert!((loss.smoothed - golden.number("smoothed")).abs() < 1e-6, "{}", loss.smoothed);
    assert!((loss.plain - golden.number("plain")).abs() < 1e-6, "{}", loss.plain);
    assert_eq!(loss.tokens as f64, golden.number("tokens"));
    for (name, relative) in golden.apart(&learning.gradients().unwrap()) {
        assert!(relative < 1e-4, "{name}: {relative}");
    }
    let looked_at = learning.loss(&golden.batch, &golden.lists).unwrap();
    assert!((looked_at.plain - loss.plain).abs() < 1e-6);
}

#[test]
fn steps_and_dropout_are_those_of_the_kernels() {
    let mut golden = open();
    let plain = steps(&golden, None, 1).0[0];
    golden.decoder.dropout = Rate::new(0.2);
    let (by_hand, expected) = steps(&golden, None, 5);
    assert!((by_hand[0] - plain).abs() > 1e-3, "dropout is real");
    let (composed, found) = steps(&golden, Some(&device(Precision::F32)), 5);
    for (a, b) in by_hand.iter().zip(&composed) {
        assert!((a - b).abs() < 1e-4, "{by_hand:?} {composed:?}");
    }
    for (a, b) in expected.decoder.parameters.0.iter().zip(&found.decoder.parameters.0) {
        // Adam makes steps of the rounding around a key's bias' zero.
        let most = if a.name.ends_with("key.bias") { 0.2 } else { 1e-3 };
        assert!(farthest(&a.values, &b.values) < most, "{}", a.name);
    }
    assert_eq!(expected.optimiser.steps, found.optimiser.steps);
}

#[test]
fn bf16_is_close_and_not_the_same() {
    let golden = open();
    let (exact, _) = steps(&golden, Some(&device(Precision::F32)), 5);
    let (rounded, _) = steps(&golden, Some(&device(Precision::Bf16)), 5);
    for (a, b) in exact.iter().zip(&rounded) {
        assert!((a - b).abs() < 0.02 * a.abs().max(1.0), "{exact:?} {rounded:?}");
    }
    assert_ne!(exact, rounded);
}
