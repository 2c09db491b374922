//! The tiny decoder whose numbers `golden/make_golden_decoder.py` made.
#![allow(dead_code)] // each test file uses its own part of this

use serde_json::Value;
use xqg_kernel::dropout::Key;
use xqg_model::checkpoint::Checkpoint;
use xqg_train::decoder::{Batch, Decoder, Lists, Memory, Shape, Target};

use super::{about, farthest, folder, tensor, tensors};

/// A tiny decoder, its batch, and what PyTorch got.
pub struct Decoding {
    pub about: Value,
    pub tensors: Checkpoint,
    pub decoder: Decoder,
    pub batch: Batch,
    pub lists: Lists,
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

pub fn open() -> Decoding {
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
    Decoding { batch: Batch { memories, targets }, about, tensors, decoder, lists }
}

impl Decoding {
    pub fn number(&self, key: &str) -> f64 {
        self.about[key].as_f64().unwrap()
    }

    pub fn smoothing(&self) -> f32 {
        self.number("smoothing") as f32
    }

    /// How far each parameter's gradient is from PyTorch's, relative to its largest number.
    pub fn apart(&self, gradients: &[Vec<f32>]) -> Vec<(String, f32)> {
        let apart = |(ours, parameter): (&Vec<f32>, &xqg_train::parameters::Parameter)| {
            let name = parameter.name.clone();
            let expected = tensor(&self.tensors, &format!("grad.{name}"));
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            // A key's bias cancels in the softmax: its gradient is rounding around zero.
            let floor = if name.ends_with("key.bias") { 1e-2 } else { 1e-6 };
            assert!(ours.iter().any(|x| *x != 0.0), "{name} has a gradient");
            (name, farthest(ours, &expected) / largest.max(floor))
        };
        gradients.iter().zip(&self.decoder.parameters.0).map(apart).collect()
    }
}
