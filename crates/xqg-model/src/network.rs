//! The transformer encoder itself: weights by their published names, and the forward pass over a
//! batch without padding, all tokens end to end. One call is single-threaded and owns its scratch
//! memory; the caller runs several at once.

use xqg_kernel::ops::{Norm, norm_row};
use xqg_kernel::product::Quantised;
use xqg_kernel::row::{activate, norm_rows};

use crate::attention::{AttentionScratch, Heads, grow};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ModelError;
use crate::linear::{Arithmetic, Linear, Rows};

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

/// A BERT or XLM-RoBERTa encoder.
#[derive(Debug)]
pub struct Network {
    config: Config,
    heads: Heads,
    words: Vec<f32>,
    positions: Vec<f32>,
    /// Row 0 of the token type embedding: the only one that a single text uses.
    type_zero: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

/// Memory for the states of one batch; grows to the largest batch and is then reused.
#[derive(Debug, Default)]
pub struct Scratch {
    states: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    next: Vec<f32>,
    inner: Vec<f32>,
    attention: AttentionScratch,
    quantised: Quantised,
}

/// Token states after the last layer: rows of `hidden` numbers, `stride` apart.
#[derive(Debug, Clone, Copy)]
pub struct States<'a> {
    /// The buffer.
    pub data: &'a [f32],
    /// Numbers between the beginnings of two rows.
    pub stride: usize,
}

/// Names of published weights: some checkpoints put `bert.` or `roberta.` before them.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
    how: Arithmetic,
}

impl<'a> Names<'a> {
    fn new(checkpoint: &'a Checkpoint, how: Arithmetic) -> Self {
        let has = |prefix: &str| {
            let name = format!("{prefix}embeddings.word_embeddings.weight");
            checkpoint.shape(&name).is_some()
        };
        let prefix = ["", "bert.", "roberta."].into_iter().find(|p| has(p)).unwrap_or("");
        Self { checkpoint, prefix, how }
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.tensor(&format!("{}{name}", self.prefix), shape)?)
    }

    /// One linear layer, or several of one input side by side.
    fn linear(&self, names: &[String], output: usize, input: usize) -> Result<Linear, ModelError> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend(self.tensor(&format!("{name}.weight"), &[output, input])?);
            bias.extend(self.tensor(&format!("{name}.bias"), &[output])?);
        }
        Ok(Linear::new(weight, bias, input, self.how))
    }

    /// A layer norm; checkpoints converted from TensorFlow call its parts gamma and beta.
    fn norm(&self, name: &str, dim: usize, eps: f32) -> Result<Norm, ModelError> {
        let old = format!("{}{name}.gamma", self.prefix);
        let (weight, bias) = match self.checkpoint.shape(&old) {
            Some(_) => ("gamma", "beta"),
            None => ("weight", "bias"),
        };
        Ok(Norm {
            weight: self.tensor(&format!("{name}.{weight}"), &[dim])?,
            bias: self.tensor(&format!("{name}.{bias}"), &[dim])?,
            eps,
        })
    }

    fn layer(&self, index: usize, c: &Config) -> Result<Layer, ModelError> {
        let (h, f, eps) = (c.hidden_size, c.intermediate_size, c.layer_norm_eps);
        let at = |part: &str| format!("encoder.layer.{index}.{part}");
        let qkv = ["query", "key", "value"].map(|part| at(&format!("attention.self.{part}")));
        Ok(Layer {
            qkv: self.linear(&qkv, h, h)?,
            attention_out: self.linear(&[at("attention.output.dense")], h, h)?,
            attention_norm: self.norm(&at("attention.output.LayerNorm"), h, eps)?,
            expand: self.linear(&[at("intermediate.dense")], f, h)?,
            contract: self.linear(&[at("output.dense")], h, f)?,
            output_norm: self.norm(&at("output.LayerNorm"), h, eps)?,
        })
    }
}

impl Network {
    /// Loads the weights that `config` asks for; others (a pooler, a language-model head) are left.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or holds a number that is not finite.
    pub fn load(
        checkpoint: &Checkpoint,
        config: Config,
        how: Arithmetic,
    ) -> Result<Self, ModelError> {
        let names = Names::new(checkpoint, how);
        let (h, eps) = (config.hidden_size, config.layer_norm_eps);
        let at = |part: &str| format!("embeddings.{part}");
        let tensor = |part: &str, rows| names.tensor(&at(part), &[rows, h]);
        let mut type_zero = tensor("token_type_embeddings.weight", config.type_vocab_size)?;
        type_zero.truncate(h);
        let layers = (0..config.num_hidden_layers).map(|i| names.layer(i, &config));
        let stride = (3 * h).next_multiple_of(how.isa.panel());
        let (count, dim) = (config.num_attention_heads, config.head_dim());
        Ok(Self {
            heads: Heads { count, dim, stride, isa: how.isa },
            words: tensor("word_embeddings.weight", config.vocab_size)?,
            positions: tensor("position_embeddings.weight", config.max_position_embeddings)?,
            type_zero,
            norm: names.norm(&at("LayerNorm"), h, eps)?,
            layers: layers.collect::<Result<_, _>>()?,
            config,
        })
    }

    /// The shape of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Token states after the last layer for texts whose ids lie end to end; `lengths` sums to the
    /// number of ids. Nothing is allocated once the scratch has seen a batch of that size.
    ///
    /// # Panics
    /// When an id or a length is beyond the embeddings: the tokenizer's border checks both.
    pub fn forward<'a>(
        &self,
        ids: &[u32],
        lengths: &[usize],
        scratch: &'a mut Scratch,
    ) -> States<'a> {
        let stride = self.stride();
        grow(&mut scratch.states, ids.len() * stride);
        self.embed(ids, lengths, &mut scratch.states);
        for layer in &self.layers {
            self.layer_forward(layer, lengths, scratch);
        }
        States { data: &scratch.states[..ids.len() * stride], stride }
    }

    /// Length of a row of states in memory: whole panels.
    fn stride(&self) -> usize {
        self.config.hidden_size.next_multiple_of(self.heads.isa.panel())
    }

    fn embed(&self, ids: &[u32], lengths: &[usize], states: &mut [f32]) {
        let h = self.config.hidden_size;
        let places = lengths.iter().flat_map(|&n| 0..n);
        let rows = states.chunks_exact_mut(self.stride());
        for ((row, &id), place) in rows.zip(ids).zip(places) {
            let word = &self.words[id as usize * h..][..h];
            let at = self.config.first_position() + place;
            let position = &self.positions[at * h..][..h];
            let out = &mut row[..h];
            for (((o, w), p), t) in out.iter_mut().zip(word).zip(position).zip(&self.type_zero) {
                *o = w + p + t;
            }
            norm_row(out, &self.norm);
        }
    }

    fn layer_forward(&self, layer: &Layer, lengths: &[usize], s: &mut Scratch) {
        let rows: usize = lengths.iter().sum();
        let stride = self.stride();
        let states = Rows { data: &s.states, stride };
        grow(&mut s.qkv, rows * self.heads.stride);
        layer.qkv.apply(rows, states, None, &mut s.qkv, &mut s.quantised);
        let wide = self.heads.context_stride();
        grow(&mut s.context, rows * wide);
        self.attend(lengths, &s.qkv, &mut s.context, &mut s.attention);

        grow(&mut s.next, rows * stride);
        let context = Rows { data: &s.context, stride: wide };
        layer.attention_out.apply(rows, context, Some(states), &mut s.next, &mut s.quantised);
        let isa = self.heads.isa;
        norm_rows(isa, &mut s.next[..rows * stride], stride, &layer.attention_norm);

        let inner = layer.expand.stride();
        grow(&mut s.inner, rows * inner);
        let next = Rows { data: &s.next, stride };
        layer.expand.apply(rows, next, None, &mut s.inner, &mut s.quantised);
        activate(isa, &mut s.inner[..rows * inner], self.config.hidden_act);
        let inner = Rows { data: &s.inner, stride: inner };
        layer.contract.apply(rows, inner, Some(next), &mut s.states, &mut s.quantised);
        norm_rows(isa, &mut s.states[..rows * stride], stride, &layer.output_norm);
    }

    fn attend(&self, lengths: &[usize], qkv: &[f32], out: &mut [f32], s: &mut AttentionScratch) {
        let (stride, wide) = (self.heads.stride, self.heads.context_stride());
        let mut start = 0;
        for &n in lengths.iter().filter(|&&n| n > 0) {
            let text = &qkv[start * stride..(start + n) * stride];
            let context = &mut out[start * wide..(start + n) * wide];
            self.heads.attend(text, n, context, s);
            start += n;
        }
    }
}
