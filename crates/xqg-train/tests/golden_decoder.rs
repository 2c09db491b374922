//! The decoder's loss and gradients against PyTorch: a tiny one by lot, whose numbers
//! `golden/make_golden_decoder.py` made.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::decoding::{Decoding, open};
use xqg_kernel::dropout::Rate;
use xqg_train::decoder::{Batch, Target, TextLoss, Workspace};
use xqg_train::gradients::Gradients;

trait Learn {
    fn learn(&self, batch: &Batch) -> (TextLoss, Gradients);
}

impl Learn for Decoding {
    fn learn(&self, batch: &Batch) -> (TextLoss, Gradients) {
        let mut gradients = Gradients::zeros(&self.decoder.parameters);
        let settings = (&self.lists, self.smoothing());
        let mut workspace = Workspace::default();
        // The second pass runs in what the first left behind.
        self.decoder.learn(batch, settings, &mut gradients, &mut workspace);
        gradients.clear();
        let loss = self.decoder.learn(batch, settings, &mut gradients, &mut workspace);
        (loss, gradients)
    }
}

#[test]
fn loss_and_every_gradient_follow_pytorch() {
    let golden = open();
    let (loss, gradients) = golden.learn(&golden.batch);
    assert!((loss.smoothed - golden.number("smoothed")).abs() < 1e-6, "{}", loss.smoothed);
    assert!((loss.plain - golden.number("plain")).abs() < 1e-6, "{}", loss.plain);
    assert_eq!(loss.tokens as f64, golden.number("tokens"));
    let gradients: Vec<_> = gradients.0.iter().map(|g| g.kept().to_vec()).collect();
    for (name, relative) in golden.apart(&gradients) {
        assert!(relative < 1e-4, "{name}: {relative}");
    }
}

#[test]
fn the_loss_alone_is_that_of_learning_with_nothing_left_out() {
    let mut golden = open();
    let expected = golden.learn(&golden.batch).0;
    golden.decoder.dropout = Rate::new(0.3);
    let settings = (&golden.lists, golden.smoothing());
    let loss = golden.decoder.loss(&golden.batch, settings, &mut Workspace::default());
    assert_eq!(loss, expected);
    assert!((golden.learn(&golden.batch).0.plain - loss.plain).abs() > 1e-3, "dropout is real");
}

#[test]
fn the_gradient_is_the_slope_with_dropout_too() {
    let mut golden = open();
    golden.decoder.dropout = Rate::new(0.1);
    let (loss, gradients) = golden.learn(&golden.batch);
    assert_eq!(loss, golden.learn(&golden.batch).0, "the same draws in every pass");
    for name in ["layers.0.cross.value.weight", "layers.1.self.query.weight", "embed.weight"] {
        let all = &golden.decoder.parameters.0;
        let place = all.iter().position(|p| p.name == name).unwrap();
        let values = gradients.0[place].kept();
        let largest = |a: &usize, b: &usize| values[*a].abs().total_cmp(&values[*b].abs());
        let at = (0..values.len()).max_by(largest).unwrap();
        let mut by = |step: f32| {
            golden.decoder.parameters.0[place].values[at] += step;
            let value = golden.learn(&golden.batch).0.smoothed;
            golden.decoder.parameters.0[place].values[at] -= step;
            value
        };
        let slope = (by(4e-3) - by(-4e-3)) / 8e-3;
        let ours = f64::from(gradients.0[place].kept()[at]);
        assert!((ours - slope).abs() < 0.02 * slope.abs() + 1e-4, "{name}: {ours} {slope}");
    }
}

#[test]
fn neither_threads_nor_groups_change_a_result() {
    let mut golden = open();
    golden.decoder.dropout = Rate::new(0.1);
    // Enough rows for several groups.
    let mut batch = golden.batch.clone();
    for round in 1..30 {
        let shifted = golden.batch.targets.iter().map(|t| Target {
            memory: t.memory + round * 3,
            key: t.key.part(round as u64),
            ..t.clone()
        });
        batch.targets.extend(shifted);
        batch.memories.extend(golden.batch.memories.iter().cloned());
    }
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| golden.learn(&batch))
    };
    let (one, three) = (with(1), with(3));
    assert!(one == three, "bit for bit");
    let alone = |target: &Target| {
        let memories = vec![golden.batch.memories[target.memory].clone()];
        let targets = vec![Target { memory: 0, ..target.clone() }];
        golden.learn(&Batch { memories, targets }).0
    };
    let apart = golden.batch.targets.iter().map(alone);
    let total: f64 = apart.map(|loss| loss.plain * loss.tokens as f64).sum();
    let whole = golden.learn(&golden.batch).0;
    assert!((total / whole.tokens as f64 - whole.plain).abs() < 1e-5);
}
