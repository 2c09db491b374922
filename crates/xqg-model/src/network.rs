//! The transformer encoder itself: weights by their published names, and the forward pass over a
//! batch without padding, all tokens end to end. One call is single-threaded and owns its scratch
//! memory; the caller runs several at once.

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ModelError;
use crate::ops::{
    Norm, Shape, View, add_bias, add_bias_activate, add_norm, matmul, matmul_transposed, norm_row,
    softmax_rows,
};

/// A linear layer: weight row-major `out x in`, and a bias.
#[derive(Debug)]
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
    input: usize,
}

impl Linear {
    /// `out = x · weightᵀ`, without the bias, for `rows` rows.
    fn apply(&self, rows: usize, x: &[f32], out: &mut [f32]) {
        let n = self.bias.len();
        let shape = Shape { m: rows, n, k: self.input };
        let (x, w) = (View::new(x, self.input), View::new(&self.weight, self.input));
        matmul_transposed(shape, x, w, out, n);
    }
}

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

/// A BERT or XLM-RoBERTa encoder in f32.
#[derive(Debug)]
pub struct Network {
    config: Config,
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
    qkv: Vec<f32>,
    context: Vec<f32>,
    next: Vec<f32>,
    inner: Vec<f32>,
    scores: Vec<f32>,
}

/// Names of published weights: some checkpoints put `bert.` or `roberta.` before them.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
}

impl<'a> Names<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        let has = |prefix: &str| {
            let name = format!("{prefix}embeddings.word_embeddings.weight");
            checkpoint.shape(&name).is_some()
        };
        let prefix = ["", "bert.", "roberta."].into_iter().find(|p| has(p)).unwrap_or("");
        Self { checkpoint, prefix }
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.tensor(&format!("{}{name}", self.prefix), shape)?)
    }

    fn linear(&self, name: &str, output: usize, input: usize) -> Result<Linear, ModelError> {
        let weight = self.tensor(&format!("{name}.weight"), &[output, input])?;
        let bias = self.tensor(&format!("{name}.bias"), &[output])?;
        Ok(Linear { weight, bias, input })
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
        let mut qkv = self.linear(&at("attention.self.query"), h, h)?;
        for part in ["attention.self.key", "attention.self.value"] {
            let linear = self.linear(&at(part), h, h)?;
            qkv.weight.extend(linear.weight);
            qkv.bias.extend(linear.bias);
        }
        Ok(Layer {
            qkv,
            attention_out: self.linear(&at("attention.output.dense"), h, h)?,
            attention_norm: self.norm(&at("attention.output.LayerNorm"), h, eps)?,
            expand: self.linear(&at("intermediate.dense"), f, h)?,
            contract: self.linear(&at("output.dense"), h, f)?,
            output_norm: self.norm(&at("output.LayerNorm"), h, eps)?,
        })
    }
}

impl Network {
    /// Loads the weights that `config` asks for; others (a pooler, a language-model head) are left.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or holds a number that is not finite.
    pub fn load(checkpoint: &Checkpoint, config: Config) -> Result<Self, ModelError> {
        let names = Names::new(checkpoint);
        let (h, eps) = (config.hidden_size, config.layer_norm_eps);
        let at = |part: &str| format!("embeddings.{part}");
        let tensor = |part: &str, rows| names.tensor(&at(part), &[rows, h]);
        let mut type_zero = tensor("token_type_embeddings.weight", config.type_vocab_size)?;
        type_zero.truncate(h);
        let layers = (0..config.num_hidden_layers).map(|i| names.layer(i, &config));
        Ok(Self {
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

    /// Token states after the last layer, `tokens x hidden`, for texts whose ids lie end to end;
    /// `lengths` sums to the number of ids.
    ///
    /// # Panics
    /// When an id or a length is beyond the embeddings: the tokenizer's border checks both.
    pub fn forward(&self, ids: &[u32], lengths: &[usize], scratch: &mut Scratch) -> Vec<f32> {
        let mut x = self.embed(ids, lengths);
        scratch.grow(&self.config, ids.len(), lengths.iter().copied().max().unwrap_or(0));
        for layer in &self.layers {
            self.layer_forward(layer, &mut x, lengths, scratch);
        }
        x
    }

    fn embed(&self, ids: &[u32], lengths: &[usize]) -> Vec<f32> {
        let h = self.config.hidden_size;
        let mut x = vec![0.0; ids.len() * h];
        let places = lengths.iter().flat_map(|&n| 0..n);
        for ((out, &id), place) in x.chunks_exact_mut(h).zip(ids).zip(places) {
            let word = &self.words[id as usize * h..][..h];
            let at = self.config.first_position() + place;
            let position = &self.positions[at * h..][..h];
            for (((o, w), p), t) in out.iter_mut().zip(word).zip(position).zip(&self.type_zero) {
                *o = w + p + t;
            }
            norm_row(out, &self.norm);
        }
        x
    }

    fn layer_forward(&self, layer: &Layer, x: &mut [f32], lengths: &[usize], s: &mut Scratch) {
        let (h, f) = (self.config.hidden_size, self.config.intermediate_size);
        let rows = x.len() / h;
        let qkv = &mut s.qkv[..rows * 3 * h];
        layer.qkv.apply(rows, x, qkv);
        add_bias(qkv, &layer.qkv.bias);
        let context = &mut s.context[..rows * h];
        self.attend(qkv, lengths, context, &mut s.scores);

        let next = &mut s.next[..rows * h];
        layer.attention_out.apply(rows, context, next);
        add_norm(next, &layer.attention_out.bias, x, &layer.attention_norm);

        let inner = &mut s.inner[..rows * f];
        layer.expand.apply(rows, next, inner);
        add_bias_activate(inner, &layer.expand.bias, self.config.hidden_act);
        layer.contract.apply(rows, inner, x);
        add_norm(x, &layer.contract.bias, next, &layer.output_norm);
    }

    /// Attention of each text over its own tokens only: no padding, so no mask either.
    fn attend(&self, qkv: &[f32], lengths: &[usize], context: &mut [f32], scores: &mut [f32]) {
        let (h, d) = (self.config.hidden_size, self.config.head_dim());
        let scale = 1.0 / (d as f32).sqrt();
        let mut start = 0;
        for &n in lengths {
            let text = &qkv[start * 3 * h..(start + n) * 3 * h];
            let out = &mut context[start * h..(start + n) * h];
            let scores = &mut scores[..n * n];
            for at in (0..h).step_by(d) {
                let part = |offset: usize| View::new(&text[offset + at..], 3 * h);
                matmul_transposed(Shape { m: n, n, k: d }, part(0), part(h), scores, n);
                softmax_rows(scores, n, scale);
                let shape = Shape { m: n, n: d, k: n };
                matmul(shape, View::new(scores, n), part(2 * h), &mut out[at..], h);
            }
            start += n;
        }
    }
}

impl Scratch {
    fn grow(&mut self, config: &Config, tokens: usize, longest: usize) {
        let grow = |v: &mut Vec<f32>, n| v.resize(v.len().max(n), 0.0);
        grow(&mut self.qkv, tokens * 3 * config.hidden_size);
        grow(&mut self.context, tokens * config.hidden_size);
        grow(&mut self.next, tokens * config.hidden_size);
        grow(&mut self.inner, tokens * config.intermediate_size);
        grow(&mut self.scores, longest * longest);
    }
}
