//! T5's encoder over one prompt: no padding, attention in both directions with a learned number for
//! each distance, root-mean-square norms before each part.

use crate::attention::grow;
use crate::generator::attend::{Memory, Queries, Shapes};
use crate::generator::decoder::{FeedForward, Norm};
use crate::generator::distances::Distances;
use crate::generator::source::Arrays;
use crate::linear::{Linear, Rows, Worker};
use crate::network::Words;

/// Rows of scores that are made, normalised and used while they lie in the cache.
const QUERY_BLOCK: usize = 48;

/// A layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// Before attention.
    pub norm: Norm,
    /// Query, key and value side by side.
    pub qkv: Linear,
    /// After attention.
    pub out: Linear,
    /// Before the feed-forward part.
    pub ffn_norm: Norm,
    /// The feed-forward part.
    pub ffn: FeedForward,
}

/// The encoder without its words, which are the decoder's too.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The attention's shape.
    pub shapes: Shapes,
    /// Length of a token state.
    pub hidden: usize,
    /// The layers.
    pub layers: Vec<Layer>,
    /// What is added to scores.
    pub distances: Distances,
    /// After the last layer.
    pub norm: Norm,
}

/// Memory for one prompt; grows and is reused.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    x: Vec<f32>,
    next: Vec<f32>,
    normed: Vec<f32>,
    wide: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    scores: Vec<f32>,
    bias: Vec<f32>,
    /// Who computes.
    pub worker: Worker,
}

/// The name of a layer's part among laid-out weights.
pub(super) fn layer_name(index: usize, part: &str) -> String {
    format!("encoder.{index}.{part}")
}

impl Encoder {
    /// Adds its weights to what is laid out.
    pub fn store<'a>(&'a self, to: &mut Arrays<'a>) {
        for (i, layer) in self.layers.iter().enumerate() {
            layer.qkv.store(&layer_name(i, "qkv"), to);
            layer.out.store(&layer_name(i, "out"), to);
            layer.ffn.store(&layer_name(i, "ffn"), to);
        }
    }

    /// Length of a row of states in memory: whole panels.
    pub fn stride(&self) -> usize {
        self.hidden.next_multiple_of(self.shapes.isa.panel())
    }

    /// The states of a prompt's tokens after the last norm, in rows of [`stride`](Self::stride).
    ///
    /// # Panics
    /// When a token is beyond the words or there are more tokens than distances: callers check both.
    pub fn forward<'s>(&self, words: &Words, ids: &[u32], s: &'s mut Scratch) -> &'s [f32] {
        let (rows, stride) = (ids.len(), self.stride());
        for buffer in [&mut s.x, &mut s.next, &mut s.normed] {
            grow(buffer, rows * stride);
        }
        grow(&mut s.context, rows * self.shapes.context_stride());
        for (&id, row) in ids.iter().zip(s.x.chunks_exact_mut(stride)) {
            words.read(id as usize, &mut row[..self.hidden]);
        }
        let mut memory = Memory::new(&self.shapes, 1, rows);
        for layer in &self.layers {
            self.attention(layer, &mut memory, rows, s);
            self.normalise(&layer.ffn_norm, rows, s);
            let [x, normed] = [&s.x, &s.normed].map(|data| Rows { data, stride });
            let to = (&mut s.inner, s.next.as_mut_slice());
            layer.ffn.apply(self.shapes.isa, (rows, normed, x), to, &mut s.worker);
            std::mem::swap(&mut s.x, &mut s.next);
        }
        self.norm.rows(self.shapes.isa, &mut s.x[..rows * stride], stride);
        &s.x[..rows * stride]
    }

    /// Writes the normalised states to `normed`.
    fn normalise(&self, norm: &Norm, rows: usize, s: &mut Scratch) {
        let length = rows * self.stride();
        s.normed[..length].copy_from_slice(&s.x[..length]);
        norm.rows(self.shapes.isa, &mut s.normed[..length], self.stride());
    }

    fn attention(&self, layer: &Layer, memory: &mut Memory, rows: usize, s: &mut Scratch) {
        let (stride, wide) = (self.stride(), layer.qkv.stride());
        self.normalise(&layer.norm, rows, s);
        grow(&mut s.wide, rows * wide);
        let normed = Rows { data: &s.normed, stride };
        layer.qkv.apply(rows, normed, None, &mut s.wide, &mut s.worker);
        memory.pack(&self.shapes, 0, &s.wide[self.shapes.inner()..], wide);
        for head in 0..self.shapes.heads {
            for start in (0..rows).step_by(QUERY_BLOCK) {
                self.attend((head, start, rows), memory, wide, s);
            }
        }
        let context = Rows { data: &s.context, stride: self.shapes.context_stride() };
        let x = Rows { data: &s.x, stride };
        layer.out.apply(rows, context, Some(x), &mut s.next, &mut s.worker);
        std::mem::swap(&mut s.x, &mut s.next);
    }

    /// The contexts of a block of queries for one head.
    fn attend(
        &self,
        (head, start, all): (usize, usize, usize),
        memory: &Memory,
        wide: usize,
        s: &mut Scratch,
    ) {
        let (shapes, rows) = (&self.shapes, QUERY_BLOCK.min(all - start));
        let columns = all.next_multiple_of(shapes.isa.panel());
        grow(&mut s.bias, rows * columns);
        for (i, row) in s.bias.chunks_exact_mut(columns).take(rows).enumerate() {
            row[..all].copy_from_slice(&self.distances.row(head, start + i)[..all]);
        }
        let part = head * shapes.dim;
        let data = &s.wide[start * wide + part..];
        let queries = Queries { data, stride: wide, rows, bias: Some((&s.bias, columns)) };
        let out = &mut s.context[start * shapes.context_stride() + part..];
        shapes.attend(queries, memory.head(shapes, 0, head), &mut s.scores, out);
    }
}
