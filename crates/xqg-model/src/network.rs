//! The transformer encoder itself: weights by their published names, and the forward pass over a
//! batch without padding, all tokens end to end. One call is single-threaded and owns its scratch
//! memory; the caller runs several at once.

use xqg_kernel::ops::{Norm, norm_row};
use xqg_kernel::row::norm_rows;

pub(crate) mod load;

use crate::attention::{AttentionScratch, Heads, grow};
use crate::buffer::Buffer;
use crate::config::Config;
use crate::linear::{Linear, Rows, Worker};
use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// Tokens from which on the heads of a text alone are worth dividing between threads.
const TEAM_TOKENS: usize = 32;

#[derive(Debug)]
struct Layer {
    /// Query, key and value side by side: one product instead of three.
    qkv: Linear,
    attention_out: Linear,
    attention_norm: Norm,
    expand: Linear,
    contract: Linear,
    output_norm: Norm,
}

/// The word embeddings, most of a multilingual model's bytes.
#[derive(Debug)]
pub(crate) enum Words {
    /// As published.
    F32(Buffer<f32>),
    /// Half the bytes, for the 8-bit arithmetic, beside whose rounding theirs does not show.
    F16(Buffer<f16>),
}

impl Words {
    /// Copies one row.
    pub fn read(&self, row: usize, out: &mut [f32]) {
        let place = row * out.len()..(row + 1) * out.len();
        match self {
            Self::F32(words) => out.copy_from_slice(&words[place]),
            Self::F16(words) => words[place].convert_to_f32_slice(out),
        }
    }
}

/// A BERT or XLM-RoBERTa encoder.
#[derive(Debug)]
pub struct Network {
    config: Config,
    heads: Heads,
    words: Words,
    positions: Buffer<f32>,
    /// The token type embedding, of which a single text uses row 0 only.
    type_zero: Buffer<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

/// Memory for attention: of one thread, and of each thread of a team with the context it makes.
#[derive(Debug, Default)]
struct AttentionMemory {
    alone: AttentionScratch,
    team: Vec<(AttentionScratch, Vec<f32>)>,
}

/// Memory for the states of one batch; grows to the largest batch and is then reused.
#[derive(Debug, Default)]
pub struct Scratch {
    lengths: Vec<usize>,
    states: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    next: Vec<f32>,
    inner: Vec<f32>,
    attention: AttentionMemory,
    worker: Worker,
}

impl Scratch {
    /// How many threads of the current pool share each product of the next batches.
    pub fn share_between(&mut self, team: usize) {
        self.worker.team = team;
    }
}

/// Token states after the last layer: rows of `hidden` numbers, `stride` apart.
#[derive(Debug, Clone, Copy)]
pub struct States<'a> {
    /// The buffer.
    pub data: &'a [f32],
    /// Numbers between the beginnings of two rows.
    pub stride: usize,
}

impl Network {
    /// The shape of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Token states after the last layer for texts given by their ids, end to end, and how many each
    /// has. Nothing is allocated once the scratch has seen a batch of that size.
    ///
    /// # Panics
    /// When an id or a length is beyond the embeddings: the tokenizer's border checks both.
    pub fn forward<'a, 't>(
        &self,
        texts: impl Iterator<Item = &'t [u32]> + Clone,
        scratch: &'a mut Scratch,
    ) -> (States<'a>, &'a [usize]) {
        let stride = self.stride();
        scratch.lengths.clear();
        scratch.lengths.extend(texts.clone().map(<[u32]>::len));
        let rows: usize = scratch.lengths.iter().sum();
        grow(&mut scratch.states, rows * stride);
        self.embed(texts, &mut scratch.states);
        for layer in &self.layers {
            self.layer_forward(layer, scratch);
        }
        (States { data: &scratch.states[..rows * stride], stride }, &scratch.lengths)
    }

    /// Length of a row of states in memory: whole panels.
    fn stride(&self) -> usize {
        self.config.hidden_size.next_multiple_of(self.heads.isa.panel())
    }

    fn embed<'t>(&self, texts: impl Iterator<Item = &'t [u32]>, states: &mut [f32]) {
        let h = self.config.hidden_size;
        let rows = states.chunks_exact_mut(self.stride());
        for (row, (place, &id)) in rows.zip(texts.flat_map(|ids| ids.iter().enumerate())) {
            let at = self.config.first_position() + place;
            let position = &self.positions[at * h..][..h];
            let out = &mut row[..h];
            self.words.read(id as usize, out);
            for ((o, p), t) in out.iter_mut().zip(position).zip(&*self.type_zero) {
                *o = *o + p + t;
            }
            norm_row(out, &self.norm);
        }
    }

    fn layer_forward(&self, layer: &Layer, s: &mut Scratch) {
        let rows: usize = s.lengths.iter().sum();
        let stride = self.stride();
        let states = Rows { data: &s.states, stride };
        grow(&mut s.qkv, rows * self.heads.stride);
        layer.qkv.apply(rows, states, None, &mut s.qkv, &mut s.worker);
        let wide = self.heads.context_stride();
        grow(&mut s.context, rows * wide);
        let team = s.worker.team;
        self.attend(&s.lengths, &s.qkv, &mut s.context, &mut s.attention, team);

        grow(&mut s.next, rows * stride);
        let context = Rows { data: &s.context, stride: wide };
        layer.attention_out.apply(rows, context, Some(states), &mut s.next, &mut s.worker);
        let isa = self.heads.isa;
        norm_rows(isa, &mut s.next[..rows * stride], stride, &layer.attention_norm);

        let inner = layer.expand.stride();
        grow(&mut s.inner, rows * inner);
        let next = Rows { data: &s.next, stride };
        let activation = self.config.hidden_act;
        layer.expand.apply_activated(rows, next, activation, &mut s.inner, &mut s.worker);
        let inner = Rows { data: &s.inner, stride: inner };
        layer.contract.apply(rows, inner, Some(next), &mut s.states, &mut s.worker);
        norm_rows(isa, &mut s.states[..rows * stride], stride, &layer.output_norm);
    }

    /// Writes the context of every text of the batch.
    fn attend(
        &self,
        lengths: &[usize],
        qkv: &[f32],
        out: &mut [f32],
        memory: &mut AttentionMemory,
        team: usize,
    ) {
        let (stride, wide) = (self.heads.stride, self.heads.context_stride());
        let mut start = 0;
        for &n in lengths.iter().filter(|&&n| n > 0) {
            let text = &qkv[start * stride..(start + n) * stride];
            let context = &mut out[start * wide..(start + n) * wide];
            if team > 1 && n >= TEAM_TOKENS {
                self.heads.attend_as_team((text, n), context, &mut memory.team, team);
            } else {
                self.heads.attend(text, n, context, &mut memory.alone);
            }
            start += n;
        }
    }
}
