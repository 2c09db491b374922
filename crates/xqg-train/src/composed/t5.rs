//! T5 and mT5 with gradients: encoder, decoder and output layer by their published names.

use candle_core::{Device, Result as CandleResult, Tensor, Var};
use xqg_model::checkpoint::{Checkpoint, CheckpointError};
use xqg_model::t5_config::T5Config;

use super::device::Opened;
use super::ops::{Draws, HIDDEN, Products, indices, rms_norm, softmax};
use crate::error::TrainError;
use crate::parameters::{Kind, Parameters};

/// The four weights of an attention; places in the parameters.
#[derive(Debug, Clone, Copy)]
struct Attention {
    query: usize,
    key: usize,
    value: usize,
    output: usize,
    norm: usize,
}

/// A feed-forward part.
#[derive(Debug, Clone, Copy)]
struct FeedForward {
    first: usize,
    gate: Option<usize>,
    output: usize,
    norm: usize,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    attention: Attention,
    cross: Option<Attention>,
    feed_forward: FeedForward,
}

/// Encoder or decoder.
#[derive(Debug, Clone)]
struct Stack {
    layers: Vec<Layer>,
    bias: usize,
    norm: usize,
}

/// A T5 or mT5 on a device.
#[derive(Debug)]
pub struct T5 {
    /// The parameters, by their published names.
    pub parameters: Parameters,
    config: T5Config,
    words: usize,
    encoder: Stack,
    decoder: Stack,
    head: Option<usize>,
    products: Products,
    pub(super) vars: Vec<Var>,
    pub(super) device: Device,
}

/// Ids of texts padded to one length, and which of them are no padding.
#[derive(Debug)]
pub(super) struct Padded {
    pub ids: Vec<u32>,
    pub lengths: Vec<usize>,
    pub width: usize,
}

impl Padded {
    pub fn new(texts: &[Vec<u32>]) -> Self {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let padded = |text: &Vec<u32>| {
            let fill = width - text.len();
            text.iter().copied().chain(std::iter::repeat_n(0, fill)).collect::<Vec<_>>()
        };
        Self { ids: texts.iter().flat_map(padded).collect(), lengths, width }
    }

    fn texts(&self) -> usize {
        self.lengths.len()
    }
}

/// Loads weights by name.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a T5Config,
    parameters: Parameters,
}

impl Names<'_> {
    fn weight(&mut self, name: String, shape: &[usize]) -> Result<usize, CheckpointError> {
        // The norms and the biases of distances have one axis, or few numbers: no decay for norms.
        let kind = if name.ends_with("norm.weight") { Kind::Plain } else { Kind::Weight };
        self.parameters.load(self.checkpoint, name, shape, kind)
    }

    fn attention(&mut self, at: &str, name: &str) -> Result<Attention, CheckpointError> {
        let (d, inner) = (self.config.d_model, self.config.d_kv * self.config.num_heads);
        Ok(Attention {
            query: self.weight(format!("{at}.{name}.q.weight"), &[inner, d])?,
            key: self.weight(format!("{at}.{name}.k.weight"), &[inner, d])?,
            value: self.weight(format!("{at}.{name}.v.weight"), &[inner, d])?,
            output: self.weight(format!("{at}.{name}.o.weight"), &[d, inner])?,
            norm: self.weight(format!("{at}.layer_norm.weight"), &[d])?,
        })
    }

    fn feed_forward(&mut self, at: &str) -> Result<FeedForward, CheckpointError> {
        let (d, f) = (self.config.d_model, self.config.d_ff);
        let gated = self.config.gated();
        let inner = |part: &str| format!("{at}.DenseReluDense.{part}.weight");
        let first = self.weight(inner(if gated { "wi_0" } else { "wi" }), &[f, d])?;
        let gate = if gated { Some(self.weight(inner("wi_1"), &[f, d])?) } else { None };
        let output = self.weight(inner("wo"), &[d, f])?;
        let norm = self.weight(format!("{at}.layer_norm.weight"), &[d])?;
        Ok(FeedForward { first, gate, output, norm })
    }

    fn stack(&mut self, name: &str, layers: usize) -> Result<Stack, CheckpointError> {
        let decoder = name == "decoder";
        let mut all = Vec::with_capacity(layers);
        for i in 0..layers {
            let at = |part: usize| format!("{name}.block.{i}.layer.{part}");
            let attention = self.attention(&at(0), "SelfAttention")?;
            let cross =
                if decoder { Some(self.attention(&at(1), "EncDecAttention")?) } else { None };
            let feed_forward = self.feed_forward(&at(1 + usize::from(decoder)))?;
            all.push(Layer { attention, cross, feed_forward });
        }
        let (kinds, heads) = (self.config.relative_attention_num_buckets, self.config.num_heads);
        let bias = format!("{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        let bias = self.weight(bias, &[kinds, heads])?;
        let d = self.config.d_model;
        let norm = self.weight(format!("{name}.final_layer_norm.weight"), &[d])?;
        Ok(Stack { layers: all, bias, norm })
    }
}

impl T5 {
    /// Loads the weights that `config` asks for onto a device.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or the device refuses.
    pub fn load(checkpoint: &Checkpoint, config: T5Config, on: Opened) -> Result<Self, TrainError> {
        let parameters = Parameters::default();
        let mut names = Names { checkpoint, config: &config, parameters };
        let size = [config.vocab_size, config.d_model];
        let words = names.weight("shared.weight".to_owned(), &size)?;
        let encoder = names.stack("encoder", config.num_layers)?;
        let decoder = names.stack("decoder", config.decoder_layers())?;
        let tied = config.scales() || checkpoint.shape("lm_head.weight").is_none();
        let head = if tied { None } else { Some(names.weight("lm_head.weight".into(), &size)?) };
        let parameters = names.parameters;
        let (vars, device) = (Vec::new(), on.device);
        let products = Products::new(on.precision, &device);
        let mut t5 =
            Self { parameters, config, words, encoder, decoder, head, products, vars, device };
        t5.refresh()?;
        Ok(t5)
    }

    /// The shape of the network.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Brings the parameters to the device, after a step has changed them.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn refresh(&mut self) -> Result<(), TrainError> {
        let var = |p: &crate::parameters::Parameter| {
            Var::from_slice(&p.values, p.shape.as_slice(), &self.device)
        };
        self.vars = self.parameters.0.iter().map(var).collect::<CandleResult<_>>()?;
        Ok(())
    }

    fn embed(&self, texts: &Padded) -> CandleResult<Tensor> {
        let ids = indices(texts.ids.clone(), &self.device)?;
        let rows = self.vars[self.words].index_select(&ids, 0)?;
        rows.reshape((texts.texts(), texts.width, self.config.d_model))
    }

    /// The encoder's states, texts x tokens x `d_model`.
    pub(super) fn encode(&self, texts: &Padded, draws: Option<&Draws>) -> CandleResult<Tensor> {
        let hidden = self.hidden(texts, texts.width)?;
        let seen = self.distances(self.encoder.bias, texts.width, true)?.broadcast_add(&hidden)?;
        self.stack(&self.encoder, self.embed(texts)?, (&seen, None), draws)
    }

    /// The scores of every word after each of the decoder's ids.
    pub(super) fn decode(
        &self,
        ids: &Padded,
        (states, inputs): (&Tensor, &Padded),
        draws: Option<&Draws>,
    ) -> CandleResult<Tensor> {
        let n = ids.width;
        let ahead = |i: usize| (0..n).map(move |j| if j > i { HIDDEN } else { 0.0 });
        let ahead: Vec<f32> = (0..n).flat_map(ahead).collect();
        let ahead = Tensor::from_vec(ahead, (1, 1, n, n), &self.device)?;
        let seen = self.distances(self.decoder.bias, n, false)?.broadcast_add(&ahead)?;
        let hidden = self.hidden(inputs, n)?;
        let cross = Some((states, &hidden));
        let mut x = self.stack(&self.decoder, self.embed(ids)?, (&seen, cross), draws)?;
        if self.config.scales() {
            x = (x * (self.config.d_model as f64).powf(-0.5))?;
        }
        self.products.rows(&x, &self.vars[self.head.unwrap_or(self.words)])
    }

    /// What is added to scores so that padding is not seen: texts x 1 x queries x keys.
    fn hidden(&self, keys: &Padded, queries: usize) -> CandleResult<Tensor> {
        let row = |&n: &usize| (0..keys.width).map(move |j| if j < n { 0.0 } else { HIDDEN });
        let mask: Vec<f32> = keys.lengths.iter().flat_map(row).collect();
        let mask = Tensor::from_vec(mask, (keys.texts(), 1, 1, keys.width), &self.device)?;
        mask.broadcast_as((keys.texts(), 1, queries, keys.width))?.contiguous()
    }

    /// The learned bias of each distance: 1 x heads x queries x keys.
    fn distances(&self, bias: usize, n: usize, both: bool) -> CandleResult<Tensor> {
        let kind = |i: usize| (0..n).map(move |j| self.config.bucket(i, j, both) as u32);
        let kinds = indices((0..n).flat_map(kind).collect(), &self.device)?;
        let rows = self.vars[bias].index_select(&kinds, 0)?;
        rows.reshape((1, n, n, self.config.num_heads))?.permute((0, 3, 1, 2))?.contiguous()
    }

    /// All layers of encoder or decoder; `cross` holds the encoder's states and their mask.
    fn stack(
        &self,
        stack: &Stack,
        x: Tensor,
        (seen, cross): (&Tensor, Option<(&Tensor, &Tensor)>),
        draws: Option<&Draws>,
    ) -> CandleResult<Tensor> {
        let mut x = drop(draws, &x)?;
        for layer in &stack.layers {
            let normed = self.norm(&x, layer.attention.norm)?;
            let out = self.attend(layer.attention, (&normed, &normed), seen, draws)?;
            x = (x + drop(draws, &out)?)?;
            if let (Some(attention), Some((states, hidden))) = (layer.cross, cross) {
                let normed = self.norm(&x, attention.norm)?;
                let out = self.attend(attention, (&normed, states), hidden, draws)?;
                x = (x + drop(draws, &out)?)?;
            }
            let normed = self.norm(&x, layer.feed_forward.norm)?;
            let out = self.feed_forward(layer.feed_forward, &normed, draws)?;
            x = (x + drop(draws, &out)?)?;
        }
        drop(draws, &self.norm(&x, stack.norm)?)
    }

    fn norm(&self, x: &Tensor, place: usize) -> CandleResult<Tensor> {
        rms_norm(x, &self.vars[place], self.config.layer_norm_epsilon)
    }

    fn attend(
        &self,
        attention: Attention,
        (from, to): (&Tensor, &Tensor),
        seen: &Tensor,
        draws: Option<&Draws>,
    ) -> CandleResult<Tensor> {
        let (texts, n, _) = from.dims3()?;
        let (heads, d) = (self.config.num_heads, self.config.d_kv);
        let split = |x: &Tensor, place: usize| {
            let (texts, n, _) = x.dims3()?;
            let parts = self.products.rows(x, &self.vars[place])?.reshape((texts, n, heads, d))?;
            parts.transpose(1, 2)?.contiguous()
        };
        let (q, k) = (split(from, attention.query)?, split(to, attention.key)?);
        // T5 does not scale the scores: its initialisation does.
        let round = |x: &Tensor| self.products.round(x);
        let scores = self.products.of(&round(&q)?, &round(&k)?.transpose(2, 3)?)?;
        let p = drop(draws, &softmax(&scores.broadcast_add(seen)?)?)?;
        let value = round(&split(to, attention.value)?)?;
        let context = self.products.of(&round(&p)?, &value)?.transpose(1, 2)?.contiguous()?;
        self.products.rows(&context.reshape((texts, n, heads * d))?, &self.vars[attention.output])
    }

    fn feed_forward(
        &self,
        part: FeedForward,
        x: &Tensor,
        draws: Option<&Draws>,
    ) -> CandleResult<Tensor> {
        let first = self.products.rows(x, &self.vars[part.first])?;
        let inner = match part.gate {
            Some(gate) => (first.gelu()? * self.products.rows(x, &self.vars[gate])?)?,
            None => first.relu()?,
        };
        self.products.rows(&drop(draws, &inner)?, &self.vars[part.output])
    }
}

/// Dropout, where there is any.
fn drop(draws: Option<&Draws>, x: &Tensor) -> CandleResult<Tensor> {
    draws.map_or_else(|| Ok(x.clone()), |draws| draws.apply(x))
}
