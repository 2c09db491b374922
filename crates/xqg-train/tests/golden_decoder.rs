//! The decoder's loss and gradients against PyTorch: a tiny one by lot, whose numbers
//! `golden/make_golden_decoder.py` made.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use serde_json::Value;
use support::{about, farthest, folder, tensor, tensors};
use xqg_kernel::dropout::{Key, Rate};
use xqg_model::checkpoint::Checkpoint;
use xqg_train::decoder::{Batch, Decoder, Lists, Memory, Shape, Target, TextLoss, Workspace};
use xqg_train::gradients::Gradients;

struct Golden {
    about: Value,
    tensors: Checkpoint,
    decoder: Decoder,
    batch: Batch,
    lists: Lists,
}

fn shape(about: &Value) -> Shape {
    let number = |key: &str| about[key].as_u64().unwrap() as usize;
    let float = |key: &str| about[key].as_f64().unwrap() as f32;
    Shape {
        hidden: number("hidden"),
        layers: number("layers"),
        heads: number("heads"),
        inner: number("inner"),
        positions: number("positions"),
        vocabulary: number("vocabulary"),
        embed_scale: float("embed_scale"),
        logit_scale: float("logit_scale"),
        norm_eps: float("norm_eps"),
    }
}

fn open() -> Golden {
    let folder = folder("decoder");
    let (about, tensors) = (about(&folder), tensors(&folder));
    let weights = Checkpoint::open_file(&folder.join("model.safetensors")).unwrap();
    let decoder = Decoder::load(&weights, shape(&about["shape"])).unwrap();
    let memory = |i: usize| Memory { rows: tensor(&tensors, &format!("memory.{i}")) };
    let memories = (0..3).map(memory).collect();
    let target = |(i, row): (usize, &Value)| Target {
        memory: row["memory"].as_u64().unwrap() as usize,
        list: row["list"].as_u64().unwrap() as usize,
        ids: serde_json::from_value(row["ids"].clone()).unwrap(),
        key: Key::new(8).part(i as u64),
    };
    let targets = about["targets"].as_array().unwrap().iter().enumerate().map(target).collect();
    let lists = serde_json::from_value(about["lists"].clone()).unwrap();
    let lists = Lists { lists, eos: about["eos"].as_u64().unwrap() as u32 };
    Golden { batch: Batch { memories, targets }, about, tensors, decoder, lists }
}

impl Golden {
    fn learn(&self, batch: &Batch) -> (TextLoss, Gradients) {
        let smoothing = self.about["smoothing"].as_f64().unwrap() as f32;
        let mut gradients = Gradients::zeros(&self.decoder.parameters);
        let settings = (&self.lists, smoothing);
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
    let number = |key: &str| golden.about[key].as_f64().unwrap();
    assert!((loss.smoothed - number("smoothed")).abs() < 1e-6, "{}", loss.smoothed);
    assert!((loss.plain - number("plain")).abs() < 1e-6, "{}", loss.plain);
    assert_eq!(loss.tokens as f64, number("tokens"));
    for (gradient, parameter) in gradients.0.iter().zip(&golden.decoder.parameters.0) {
        let expected =
            golden.tensors.tensor(&format!("grad.{}", parameter.name), &parameter.shape).unwrap();
        let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
        // A key's bias cancels in the softmax: its gradient is rounding around zero.
        let floor = if parameter.name.ends_with("key.bias") { 1e-2 } else { 1e-6 };
        let relative = farthest(gradient.kept(), &expected) / largest.max(floor);
        assert!(relative < 1e-4, "{}: {relative}", parameter.name);
        assert!(gradient.kept().iter().any(|x| *x != 0.0), "{} has a gradient", parameter.name);
    }
}

#[test]
fn the_loss_alone_is_that_of_learning_with_nothing_left_out() {
    let mut golden = open();
    let expected = golden.learn(&golden.batch).0;
    golden.decoder.dropout = Rate::new(0.3);
    let smoothing = golden.about["smoothing"].as_f64().unwrap() as f32;
    let settings = (&golden.lists, smoothing);
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
