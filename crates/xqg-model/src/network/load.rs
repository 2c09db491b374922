//! Where a network's weights come from: a published checkpoint, by the names that it uses, or the file
//! into which an earlier run laid them out. Both go the same way, so they cannot drift apart.

use std::collections::BTreeMap;

use half::f16;
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use xqg_kernel::ops::Norm;

use crate::attention::Heads;
use crate::buffer::Buffer;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::error::ModelError;
use crate::linear::{Arithmetic, Linear, Precision};
use crate::network::{Layer, Network, Words};
use crate::packed::{Array, PackedFile};

const WORDS: &str = "embeddings.word_embeddings.weight";

/// A place that has the weights.
pub(crate) enum Source<'a> {
    /// The published files, and what their names begin with.
    Checkpoint(&'a Checkpoint, &'static str),
    /// A file of laid-out weights. Word embeddings in f32 stay in the checkpoint, unread and already
    /// known to be finite.
    Packed(&'a PackedFile, &'a Checkpoint, &'static str),
}

impl<'a> Source<'a> {
    /// The checkpoint as a source; some put `bert.` or `roberta.` before their names.
    pub fn published(checkpoint: &'a Checkpoint) -> Self {
        Self::Checkpoint(checkpoint, prefix(checkpoint))
    }

    /// Laid-out weights as a source.
    pub fn packed(file: &'a PackedFile, checkpoint: &'a Checkpoint) -> Self {
        Self::Packed(file, checkpoint, prefix(checkpoint))
    }

    fn numbers(&self, name: &str, shape: &[usize]) -> Result<Buffer<f32>, ModelError> {
        match self {
            Self::Checkpoint(checkpoint, prefix) => {
                Ok(checkpoint.tensor(&format!("{prefix}{name}"), shape)?.into())
            }
            Self::Packed(file, ..) => {
                let found = file.array(name, Dtype::F32, shape.iter().product());
                found.ok_or_else(|| absent(name))
            }
        }
    }

    fn words(&self, shape: &[usize], precision: Precision) -> Result<Words, ModelError> {
        match (self, precision) {
            (Self::Checkpoint(checkpoint, prefix), Precision::F32) => {
                Ok(Words::F32(finite(checkpoint, &format!("{prefix}{WORDS}"), shape)?))
            }
            (Self::Checkpoint(checkpoint, prefix), _) => {
                let words = finite(checkpoint, &format!("{prefix}{WORDS}"), shape)?;
                let halves: Vec<f16> = words.par_iter().map(|&x| f16::from_f32(x)).collect();
                Ok(Words::F16(halves.into()))
            }
            (Self::Packed(_, checkpoint, prefix), Precision::F32) => {
                let words = checkpoint.mapped(&format!("{prefix}{WORDS}"), shape);
                words.map(Words::F32).ok_or_else(|| absent(WORDS))
            }
            (Self::Packed(file, ..), _) => {
                let words = file.array(WORDS, Dtype::F16, shape.iter().product());
                words.map(Words::F16).ok_or_else(|| absent(WORDS))
            }
        }
    }

    /// One linear layer, or several of one input side by side.
    fn linear(
        &self,
        names: &[String],
        (output, input): (usize, usize),
        how: Arithmetic,
    ) -> Result<Linear, ModelError> {
        if let Self::Packed(file, ..) = self {
            let stored = Linear::stored(file, &names[0], (output * names.len(), input), how);
            return stored.ok_or_else(|| absent(&names[0]));
        }
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend_from_slice(&self.numbers(&format!("{name}.weight"), &[output, input])?);
            bias.extend_from_slice(&self.numbers(&format!("{name}.bias"), &[output])?);
        }
        Ok(Linear::new(weight, bias, input, how))
    }

    /// A layer norm; checkpoints converted from TensorFlow call its parts gamma and beta.
    fn norm(&self, name: &str, dim: usize, eps: f32) -> Result<Norm, ModelError> {
        let old = match self {
            Self::Checkpoint(checkpoint, prefix) => {
                checkpoint.shape(&format!("{prefix}{name}.gamma")).is_some()
            }
            Self::Packed(..) => false,
        };
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            weight: self.numbers(&format!("{name}.{weight}"), &[dim])?.to_vec(),
            bias: self.numbers(&format!("{name}.{bias}"), &[dim])?.to_vec(),
            eps,
        })
    }

    fn layer(&self, index: usize, c: &Config, how: Arithmetic) -> Result<Layer, ModelError> {
        let (h, f, eps) = (c.hidden_size, c.intermediate_size, c.layer_norm_eps);
        let at = |part: &str| layer_name(index, part);
        Ok(Layer {
            qkv: self.linear(&qkv_names(index), (h, h), how)?,
            attention_out: self.linear(&[at("attention.output.dense")], (h, h), how)?,
            attention_norm: self.norm(&at("attention.output.LayerNorm"), h, eps)?,
            expand: self.linear(&[at("intermediate.dense")], (f, h), how)?,
            contract: self.linear(&[at("output.dense")], (h, f), how)?,
            output_norm: self.norm(&at("output.LayerNorm"), h, eps)?,
        })
    }
}

fn prefix(checkpoint: &Checkpoint) -> &'static str {
    let has = |prefix: &&str| checkpoint.shape(&format!("{prefix}{WORDS}")).is_some();
    ["", "bert.", "roberta."].into_iter().find(has).unwrap_or("")
}

fn layer_name(index: usize, part: &str) -> String {
    format!("encoder.layer.{index}.{part}")
}

fn qkv_names(index: usize) -> [String; 3] {
    ["query", "key", "value"].map(|part| layer_name(index, &format!("attention.self.{part}")))
}

/// A tensor of finite numbers, where it lies if that is possible.
pub(crate) fn finite(
    checkpoint: &Checkpoint,
    name: &str,
    shape: &[usize],
) -> Result<Buffer<f32>, CheckpointError> {
    match checkpoint.mapped(name, shape) {
        Some(found) if found.par_iter().all(|x| x.is_finite()) => Ok(found),
        // Reading it as a copy names what is wrong.
        _ => Ok(checkpoint.tensor(name, shape)?.into()),
    }
}

/// Laid-out weights that lack an array are no error to a user: the opener takes the checkpoint.
pub(crate) fn absent(name: &str) -> ModelError {
    ModelError::NotPacked { name: name.to_owned() }
}

impl Network {
    /// Loads the weights that `config` asks for; others (a pooler, a language-model head) are left.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or holds a number that is not finite.
    pub fn load(source: &Source, config: Config, how: Arithmetic) -> Result<Self, ModelError> {
        let (h, eps) = (config.hidden_size, config.layer_norm_eps);
        let at = |part: &str| format!("embeddings.{part}.weight");
        let types = source.numbers(&at("token_type_embeddings"), &[config.type_vocab_size, h])?;
        let positions = [config.max_position_embeddings, h];
        let layers = (0..config.num_hidden_layers).map(|i| source.layer(i, &config, how));
        let stride = (3 * h).next_multiple_of(how.isa.panel());
        let (count, dim) = (config.num_attention_heads, config.head_dim());
        Ok(Self {
            heads: Heads { count, dim, stride, isa: how.isa, narrow: how.attention() },
            words: source.words(&[config.vocab_size, h], how.effective())?,
            positions: source.numbers(&at("position_embeddings"), &positions)?,
            type_zero: types,
            norm: source.norm("embeddings.LayerNorm", h, eps)?,
            layers: layers.collect::<Result<_, _>>()?,
            config,
        })
    }

    /// The arrays that [`Source::Packed`] reads.
    pub(crate) fn arrays(&self) -> BTreeMap<String, Array<'_>> {
        let mut all = BTreeMap::new();
        let at = |part: &str| format!("embeddings.{part}.weight");
        all.insert(at("token_type_embeddings"), Array::new(Dtype::F32, &self.type_zero));
        all.insert(at("position_embeddings"), Array::new(Dtype::F32, &self.positions));
        if let Words::F16(words) = &self.words {
            all.insert(WORDS.to_owned(), Array::new(Dtype::F16, words));
        }
        store_norm("embeddings.LayerNorm", &self.norm, &mut all);
        for (i, layer) in self.layers.iter().enumerate() {
            let at = |part: &str| layer_name(i, part);
            layer.qkv.store(&qkv_names(i)[0], &mut all);
            layer.attention_out.store(&at("attention.output.dense"), &mut all);
            layer.expand.store(&at("intermediate.dense"), &mut all);
            layer.contract.store(&at("output.dense"), &mut all);
            store_norm(&at("attention.output.LayerNorm"), &layer.attention_norm, &mut all);
            store_norm(&at("output.LayerNorm"), &layer.output_norm, &mut all);
        }
        all
    }
}

fn store_norm<'a>(name: &str, norm: &'a Norm, to: &mut BTreeMap<String, Array<'a>>) {
    to.insert(format!("{name}.weight"), Array::new(Dtype::F32, &norm.weight));
    to.insert(format!("{name}.bias"), Array::new(Dtype::F32, &norm.bias));
}
