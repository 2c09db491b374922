//! A transformer decoder that writes one token of many questions at a time: self-attention over each
//! question's own past, cross-attention over its passage, feed-forward; every part normalises what
//! it reads and adds what it makes. The shared-encoder generator's and T5's differ in the norm, the
//! positions, the scale of scores and the activation, and in nothing else.

use xqg_kernel::isa::Isa;
use xqg_kernel::ops::{self, Activation};
use xqg_kernel::row::{activate, gate, norm_rows, rms_rows};

use super::attend::{Memory, Queries, Shapes, Slot};
use super::distances::Distances;
use super::source::{Arrays, store_words};
use crate::attention::grow;
use crate::linear::{Linear, Rows, Worker};
use crate::network::Words;

/// How rows are normalised.
#[derive(Debug)]
pub(crate) enum Norm {
    /// To mean 0 and variance 1.
    Layer(ops::Norm),
    /// To a mean square of 1, as T5's.
    Rms {
        /// Factor of each column.
        weight: Vec<f32>,
        /// Added to the mean square.
        eps: f32,
    },
}

impl Norm {
    /// Normalises rows that lie `stride` apart.
    pub fn rows(&self, isa: Isa, data: &mut [f32], stride: usize) {
        match self {
            Self::Layer(norm) => norm_rows(isa, data, stride, norm),
            Self::Rms { weight, eps } => rms_rows(isa, data, stride, weight, *eps),
        }
    }
}

/// A feed-forward part.
#[derive(Debug)]
pub(crate) struct FeedForward {
    /// The first product; with a gate, its columns follow the others'.
    pub expand: Linear,
    /// Whether it is T5's `gelu(x W0) · (x W1)`.
    pub gated: bool,
    /// The activation without a gate.
    pub activation: Activation,
    /// The second product.
    pub contract: Linear,
}

impl FeedForward {
    /// Adds its weights to what is laid out.
    pub fn store<'a>(&'a self, at: &str, to: &mut Arrays<'a>) {
        self.expand.store(&format!("{at}.expand"), to);
        self.contract.store(&format!("{at}.contract"), to);
    }

    /// `out = contract(activation(expand(x))) + residual`, in f32 between the products whatever their
    /// arithmetic: T5's inner states are beyond what half precision holds.
    pub fn apply(
        &self,
        isa: Isa,
        (rows, x, residual): (usize, Rows, Rows),
        (inner, out): (&mut Vec<f32>, &mut [f32]),
        worker: &mut Worker,
    ) {
        let stride = self.expand.stride();
        grow(inner, rows * stride);
        let inner = &mut inner[..rows * stride];
        self.expand.apply(rows, x, None, inner, worker);
        if self.gated {
            let half = self.expand.output() / 2;
            for row in inner.chunks_exact_mut(stride) {
                let (first, second) = row.split_at_mut(half);
                gate(isa, first, &second[..half]);
            }
        } else {
            activate(isa, inner, self.activation);
        }
        self.contract.apply(rows, Rows { data: inner, stride }, Some(residual), out, worker);
    }
}

/// A layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Before self-attention.
    pub self_norm: Norm,
    /// Query, key and value side by side.
    pub qkv: Linear,
    /// After self-attention.
    pub self_out: Linear,
    /// Before cross-attention.
    pub cross_norm: Norm,
    /// The query over the passage.
    pub query: Linear,
    /// Key and value of the passage's tokens side by side.
    pub memory: Linear,
    /// After cross-attention.
    pub cross_out: Linear,
    /// Before the feed-forward part.
    pub ffn_norm: Norm,
    /// The feed-forward part.
    pub ffn: FeedForward,
}

/// How a token's place is told.
#[derive(Debug)]
pub(crate) enum Positions {
    /// A learned row for each place, added to the token's.
    Learned(Vec<f32>),
    /// A learned number for each head and distance, added to the scores.
    Relative(Distances),
}

/// The name of a layer's part among laid-out weights.
pub(crate) fn layer_name(index: usize, part: &str) -> String {
    format!("decoder.{index}.{part}")
}

/// The decoder up to the last norm.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The attention's shape.
    pub shapes: Shapes,
    /// Length of a token state.
    pub hidden: usize,
    /// The embedding of tokens.
    pub words: Words,
    /// What it is multiplied by.
    pub word_scale: f32,
    /// The places.
    pub positions: Positions,
    /// The layers.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub norm: Norm,
}

/// A question that is being written, as far as the decoder is concerned.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// The token that it reads next.
    pub token: u32,
    /// That token's place, from 0.
    pub at: usize,
    /// Its past.
    pub slot: Slot,
}

/// Memory for one step; grows and is reused.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    x: Vec<f32>,
    next: Vec<f32>,
    normed: Vec<f32>,
    wide: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    scores: Vec<f32>,
    /// Who computes.
    pub worker: Worker,
}

impl Decoder {
    /// Adds the weights of layers and words to what is laid out, under the names that
    /// [`layer_name`] gives.
    pub fn store<'a>(&'a self, to: &mut Arrays<'a>) {
        store_words(&self.words, to);
        for (i, layer) in self.layers.iter().enumerate() {
            let parts = [
                ("qkv", &layer.qkv),
                ("self_out", &layer.self_out),
                ("query", &layer.query),
                ("memory", &layer.memory),
                ("cross_out", &layer.cross_out),
            ];
            parts.into_iter().for_each(|(part, linear)| linear.store(&layer_name(i, part), to));
            layer.ffn.store(&layer_name(i, "ffn"), to);
        }
    }

    /// Length of a row of states in memory: whole panels.
    pub fn stride(&self) -> usize {
        self.hidden.next_multiple_of(self.shapes.isa.panel())
    }

    /// What it remembers of a passage, given by its `n` token states in rows `stride` apart.
    pub fn remember(&self, states: Rows, n: usize, s: &mut Scratch) -> Memory {
        let mut memory = Memory::new(&self.shapes, self.layers.len(), n);
        for (i, layer) in self.layers.iter().enumerate() {
            let stride = layer.memory.stride();
            grow(&mut s.wide, n * stride);
            layer.memory.apply(n, states, None, &mut s.wide, &mut s.worker);
            memory.pack(&self.shapes, i, &s.wide, stride);
        }
        memory
    }

    /// Reads one token of every question, those of a passage side by side as `groups` counts them;
    /// the result are the states after the last norm, in rows of [`stride`](Self::stride).
    ///
    /// # Panics
    /// When a token or a place is beyond the embeddings: the callers check both.
    pub fn step<'s>(
        &self,
        questions: &mut [&mut Cursor],
        groups: &[(usize, &Memory)],
        s: &'s mut Scratch,
    ) -> &'s [f32] {
        let (rows, stride) = (questions.len(), self.stride());
        for buffer in [&mut s.x, &mut s.next, &mut s.normed] {
            grow(buffer, rows * stride);
        }
        grow(&mut s.context, rows * self.shapes.context_stride());
        self.embed(questions, &mut s.x);
        for (i, layer) in self.layers.iter().enumerate() {
            self.self_attention((i, layer), questions, s);
            self.cross_attention((i, layer), groups, s);
            self.normalise(&layer.ffn_norm, rows, s);
            let (x, normed) = ([&s.x, &s.normed]).map(|data| Rows { data, stride }).into();
            let to = (&mut s.inner, s.next.as_mut_slice());
            layer.ffn.apply(self.shapes.isa, (rows, normed, x), to, &mut s.worker);
            std::mem::swap(&mut s.x, &mut s.next);
        }
        self.norm.rows(self.shapes.isa, &mut s.x[..rows * stride], stride);
        &s.x[..rows * stride]
    }

    fn embed(&self, questions: &[&mut Cursor], x: &mut [f32]) {
        for (question, row) in questions.iter().zip(x.chunks_exact_mut(self.stride())) {
            let row = &mut row[..self.hidden];
            self.words.read(question.token as usize, row);
            row.iter_mut().for_each(|x| *x *= self.word_scale);
            if let Positions::Learned(places) = &self.positions {
                let place = &places[question.at * self.hidden..][..self.hidden];
                row.iter_mut().zip(place).for_each(|(x, p)| *x += p);
            }
        }
    }

    /// Writes the normalised states to `normed`.
    fn normalise(&self, norm: &Norm, rows: usize, s: &mut Scratch) {
        let length = rows * self.stride();
        s.normed[..length].copy_from_slice(&s.x[..length]);
        norm.rows(self.shapes.isa, &mut s.normed[..length], self.stride());
    }

    fn self_attention(
        &self,
        (i, layer): (usize, &Layer),
        questions: &mut [&mut Cursor],
        s: &mut Scratch,
    ) {
        let (rows, stride, wide) = (questions.len(), self.stride(), layer.qkv.stride());
        self.normalise(&layer.self_norm, rows, s);
        grow(&mut s.wide, rows * wide);
        let normed = Rows { data: &s.normed, stride };
        layer.qkv.apply(rows, normed, None, &mut s.wide, &mut s.worker);
        let contexts = s.context.chunks_exact_mut(self.shapes.context_stride());
        let rows_of = s.wide.chunks_exact(wide);
        for ((question, row), out) in questions.iter_mut().zip(rows_of).zip(contexts) {
            self.attend_past((i, question), row, &mut s.scores, out);
        }
        self.add_attended(&layer.self_out, rows, s);
    }

    /// One question's token over the question's past, of which it becomes a part.
    fn attend_past(
        &self,
        (layer, question): (usize, &mut Cursor),
        row: &[f32],
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let (shapes, inner, at) = (&self.shapes, self.shapes.inner(), question.at);
        let (key, value) = row[inner..3 * inner].split_at(inner);
        question.slot.push(shapes, layer, at, key, value);
        for head in 0..shapes.heads {
            let bias = match &self.positions {
                Positions::Learned(_) => None,
                Positions::Relative(distances) => Some((distances.row(head, at), 0)),
            };
            let data = &row[head * shapes.dim..];
            let query = Queries { data, stride: row.len(), rows: 1, bias };
            let past = question.slot.head(shapes, layer, head, at + 1);
            shapes.attend(query, past, scores, &mut out[head * shapes.dim..]);
        }
    }

    fn cross_attention(
        &self,
        (i, layer): (usize, &Layer),
        groups: &[(usize, &Memory)],
        s: &mut Scratch,
    ) {
        let rows = groups.iter().map(|(n, _)| n).sum();
        let (stride, wide) = (self.stride(), layer.query.stride());
        self.normalise(&layer.cross_norm, rows, s);
        grow(&mut s.wide, rows * wide);
        let normed = Rows { data: &s.normed, stride };
        layer.query.apply(rows, normed, None, &mut s.wide, &mut s.worker);
        let context_stride = self.shapes.context_stride();
        let mut first = 0;
        for &(rows, memory) in groups {
            for head in 0..self.shapes.heads {
                let data = &s.wide[first * wide + head * self.shapes.dim..];
                let queries = Queries { data, stride: wide, rows, bias: None };
                let out = &mut s.context[first * context_stride + head * self.shapes.dim..];
                let packed = memory.head(&self.shapes, i, head);
                self.shapes.attend(queries, packed, &mut s.scores, out);
            }
            first += rows;
        }
        self.add_attended(&layer.cross_out, rows, s);
    }

    /// Adds what attention found to the states.
    fn add_attended(&self, out: &Linear, rows: usize, s: &mut Scratch) {
        let context = Rows { data: &s.context, stride: self.shapes.context_stride() };
        let x = Rows { data: &s.x, stride: self.stride() };
        out.apply(rows, context, Some(x), &mut s.next, &mut s.worker);
        std::mem::swap(&mut s.x, &mut s.next);
    }
}
