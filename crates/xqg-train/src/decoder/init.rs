//! The first numbers of a decoder: words warm from the encoder's embedding, the rest drawn by lot.

use std::convert::Infallible;

use xqg_kernel::dropout::Key;
use xqg_kernel::isa::Isa;

use super::places::Places;
use super::{Decoder, Shape};
use crate::parameters::{Kind, Parameter, Parameters};

/// What is known before the first step.
#[derive(Debug, Clone)]
pub struct Initial {
    /// The encoder's rows of the kept words, in the decoder's order; fewer than the vocabulary, the
    /// tags' rows are drawn.
    pub words: Vec<f32>,
    /// How often each token is written in the training texts.
    pub counts: Vec<u64>,
    /// Decides the draws.
    pub seed: u64,
}

impl Decoder {
    /// A decoder that has learned nothing. Words begin as the encoder's, around zero and of length
    /// one, for what the encoder's rows have in common says nothing about a word; the output's bias
    /// begins as the logarithm of how often a token is written.
    pub fn new(shape: Shape, initial: &Initial) -> Self {
        let mut parameters = Parameters::default();
        let mut give = |name: String, dims: &[usize], kind: Kind| -> Result<usize, Infallible> {
            let place = parameters.0.len();
            let key = Key::new(initial.seed).part(place as u64);
            let values = match name.as_str() {
                "embed.weight" => words(&shape, initial, key),
                "output.bias" => bias(&initial.counts, shape.vocabulary),
                "positions.weight" => normal(key, dims.iter().product(), 0.1),
                _ => drawn(&name, dims, shape.layers, key),
            };
            parameters.0.push(Parameter { name, shape: dims.to_vec(), values, kind });
            Ok(place)
        };
        let Ok(places) = Places::fill(&shape, &mut give);
        Self { parameters, dropout: None, shape, places, isa: Isa::detect() }
    }
}

/// A layer's numbers: norms as the identity, biases zero, weights by Glorot and Bengio (2010); what
/// is added to the states begins smaller the more layers there are.
fn drawn(name: &str, dims: &[usize], layers: usize, key: Key) -> Vec<f32> {
    let count = dims.iter().product();
    match dims {
        [output, input] => {
            let last = name.ends_with("out.weight") || name.ends_with("contract.weight");
            let share = if last { 1.0 / (3.0 * layers as f32).sqrt() } else { 1.0 };
            normal(key, count, share * (2.0 / (output + input) as f32).sqrt())
        }
        _ if name.ends_with("norm.weight") => vec![1.0; count],
        _ => vec![0.0; count],
    }
}

fn words(shape: &Shape, initial: &Initial, key: Key) -> Vec<f32> {
    let h = shape.hidden;
    let mut rows = initial.words.clone();
    let count = (rows.len() / h).max(1) as f32;
    let mut mean = vec![0f32; h];
    for row in rows.chunks_exact(h) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / count);
    }
    for row in rows.chunks_exact_mut(h) {
        row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m);
    }
    rows.extend(normal(key, shape.vocabulary * h - rows.len(), 1.0));
    for row in rows.chunks_exact_mut(h) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
        row.iter_mut().for_each(|x| *x /= length);
    }
    rows
}

fn bias(counts: &[u64], vocabulary: usize) -> Vec<f32> {
    let total = counts.iter().sum::<u64>() as f32 + 0.5 * vocabulary as f32;
    let count = |id: usize| counts.get(id).copied().unwrap_or(0) as f32 + 0.5;
    (0..vocabulary).map(|id| (count(id) / total).ln()).collect()
}

/// Normal numbers by Box and Muller's method.
fn normal(key: Key, count: usize, deviation: f32) -> Vec<f32> {
    let even = |number: u64| (number >> 11) as f64 / (1u64 << 53) as f64;
    let draw = |i: usize| {
        let key = key.part(i as u64);
        let (a, b) = (1.0 - even(key.part(0).number()), even(key.part(1).number()));
        let value = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        value as f32 * deviation
    };
    (0..count).map(draw).collect()
}
