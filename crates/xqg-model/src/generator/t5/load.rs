//! The weights of a T5 or mT5 by their published names: encoder, decoder and output layer, in one
//! form for the kernels. T5 has no biases; of two or three weights that read the same input one layer
//! is made.

use std::path::Path;

use xqg_kernel::ops::Activation;

use super::encoder::{self, Encoder};
use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::generator::attend::Shapes;
use crate::generator::decoder::{Decoder, FeedForward, Layer, Norm, Positions, layer_name};
use crate::generator::distances::Distances;
use crate::generator::output::Output;
use crate::generator::source::{self, Arrays, Source, Stored};
use crate::linear::{Arithmetic, Linear};
use crate::t5_config::T5Config;

/// Tokens of a question at most. Distances have a kind each up to some hundred, so nothing but
/// memory bounds it.
pub(super) const QUESTION_TOKENS: usize = 1024;

/// The name of the output layer among laid-out weights.
const HEAD: &str = "head";

/// What the weights give.
#[derive(Debug)]
pub(super) struct Parts {
    pub encoder: Encoder,
    pub decoder: Decoder,
    pub output: Output,
}

impl Stored for Parts {
    fn arrays(&self) -> Arrays<'_> {
        let mut all = Arrays::new();
        self.encoder.store(&mut all);
        self.decoder.store(&mut all);
        self.output.linear.store(HEAD, &mut all);
        all
    }
}

/// Loads the weights of a folder.
///
/// # Errors
/// When a file is missing or damaged, or a tensor missing or of another shape.
pub(super) fn load(
    folder: &Path,
    config: &T5Config,
    reach: usize,
    (how, keep): (Arithmetic, bool),
) -> Result<Parts, ModelError> {
    let checkpoint = Checkpoint::open(folder)?;
    let words = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
    let words = words.into_iter().find(|name| checkpoint.shape(name).is_some());
    let words = words.unwrap_or("shared.weight");
    let tied = config.scales() || checkpoint.shape("lm_head.weight").is_none();
    let head = if tied { words } else { "lm_head.weight" };
    source::load(folder, &checkpoint, (how, keep), |source| {
        let loader = Loader { source, config, reach };
        Ok(Parts {
            encoder: loader.encoder()?,
            decoder: loader.decoder(words)?,
            output: loader.output(head)?,
        })
    })
}

struct Loader<'a> {
    source: &'a Source<'a>,
    config: &'a T5Config,
    /// Tokens that the encoder reads at most.
    reach: usize,
}

impl Loader<'_> {
    /// Heads without a scale: T5's initialisation has it (Raffel et al. 2020).
    fn shapes(&self) -> Shapes {
        let (heads, dim) = (self.config.num_heads, self.config.d_kv);
        Shapes { heads, dim, scale: 1.0, isa: self.source.how.isa }
    }

    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        let weight = self.source.numbers(&format!("{name}.weight"), &[self.config.d_model])?;
        Ok(Norm::Rms { weight, eps: self.config.layer_norm_epsilon as f32 })
    }

    /// Several parts of an attention that read token states, side by side.
    fn heads(&self, stored: &str, at: &str, parts: &[&str]) -> Result<Linear, ModelError> {
        let names: Vec<String> = parts.iter().map(|p| format!("{at}.{p}.weight")).collect();
        let shape = (self.shapes().inner(), self.config.d_model);
        self.source.plain((stored, &names), shape)
    }

    fn joined(&self, stored: &str, at: &str) -> Result<Linear, ModelError> {
        let shape = (self.config.d_model, self.shapes().inner());
        self.source.plain((stored, &[format!("{at}.o.weight")]), shape)
    }

    fn feed_forward(&self, stored: &str, at: &str) -> Result<FeedForward, ModelError> {
        let (d, f) = (self.config.d_model, self.config.d_ff);
        let gated = self.config.gated();
        let parts: &[&str] = if gated { &["wi_0", "wi_1"] } else { &["wi"] };
        let name = |part: &&str| format!("{at}.DenseReluDense.{part}.weight");
        let names: Vec<String> = parts.iter().map(name).collect();
        Ok(FeedForward {
            expand: self.source.plain((&format!("{stored}.expand"), &names), (f, d))?,
            gated,
            activation: Activation::Relu,
            contract: self.source.plain((&format!("{stored}.contract"), &[name(&"wo")]), (d, f))?,
        })
    }

    /// The numbers of the first layer, which all layers of a stack use.
    fn distances(
        &self,
        stack: &str,
        (reach, ahead): (usize, usize),
    ) -> Result<Distances, ModelError> {
        let (kinds, heads) = (self.config.relative_attention_num_buckets, self.config.num_heads);
        let name = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        let numbers = self.source.numbers(&name, &[kinds, heads])?;
        Ok(Distances::new(heads, (reach, ahead), |head, query, key| {
            numbers[self.config.bucket(query, key, ahead > 0) * heads + head]
        }))
    }

    fn encoder(&self) -> Result<Encoder, ModelError> {
        let layers = (0..self.config.num_layers).map(|i| self.encoder_layer(i));
        Ok(Encoder {
            shapes: self.shapes(),
            hidden: self.config.d_model,
            layers: layers.collect::<Result<_, _>>()?,
            distances: self.distances("encoder", (self.reach, self.reach.max(2) - 1))?,
            norm: self.norm("encoder.final_layer_norm")?,
        })
    }

    fn encoder_layer(&self, i: usize) -> Result<encoder::Layer, ModelError> {
        let at = |part: &str| format!("encoder.block.{i}.layer.{part}");
        let stored = |part: &str| encoder::layer_name(i, part);
        let attention = at("0.SelfAttention");
        Ok(encoder::Layer {
            norm: self.norm(&at("0.layer_norm"))?,
            qkv: self.heads(&stored("qkv"), &attention, &["q", "k", "v"])?,
            out: self.joined(&stored("out"), &attention)?,
            ffn_norm: self.norm(&at("1.layer_norm"))?,
            ffn: self.feed_forward(&stored("ffn"), &at("1"))?,
        })
    }

    fn decoder(&self, words: &str) -> Result<Decoder, ModelError> {
        let c = self.config;
        Ok(Decoder {
            shapes: self.shapes(),
            hidden: c.d_model,
            words: self.source.words(words, (c.vocab_size, c.d_model))?,
            word_scale: 1.0,
            positions: Positions::Relative(self.distances("decoder", (QUESTION_TOKENS, 0))?),
            layers: (0..c.decoder_layers())
                .map(|i| self.decoder_layer(i))
                .collect::<Result<_, _>>()?,
            norm: self.norm("decoder.final_layer_norm")?,
        })
    }

    fn decoder_layer(&self, i: usize) -> Result<Layer, ModelError> {
        let at = |part: &str| format!("decoder.block.{i}.layer.{part}");
        let stored = |part: &str| layer_name(i, part);
        let (own, cross) = (at("0.SelfAttention"), at("1.EncDecAttention"));
        Ok(Layer {
            self_norm: self.norm(&at("0.layer_norm"))?,
            qkv: self.heads(&stored("qkv"), &own, &["q", "k", "v"])?,
            self_out: self.joined(&stored("self_out"), &own)?,
            cross_norm: self.norm(&at("1.layer_norm"))?,
            query: self.heads(&stored("query"), &cross, &["q"])?,
            memory: self.heads(&stored("memory"), &cross, &["k", "v"])?,
            cross_out: self.joined(&stored("cross_out"), &cross)?,
            ffn_norm: self.norm(&at("2.layer_norm"))?,
            ffn: self.feed_forward(&stored("ffn"), &at("2"))?,
        })
    }

    fn output(&self, name: &str) -> Result<Output, ModelError> {
        let shape = (self.config.vocab_size, self.config.d_model);
        let linear = self.source.plain((HEAD, &[name.to_owned()]), shape)?;
        Ok(Output { linear, ids: None, isa: self.source.how.isa })
    }
}
