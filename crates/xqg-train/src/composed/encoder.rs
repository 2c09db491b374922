//! BERT and XLM-RoBERTa of candle's operations: the network of [`crate::network`] for any device, with
//! texts padded to one length. It reads places, settings and dropout from that network and holds
//! nothing but the numbers, so the two cannot drift apart. The ways back are in [`super::back`].

use candle_core::{D, Device, Result, Tensor};
use xqg_kernel::dropout::Rate;
use xqg_model::recipe::Pooling;

use super::by_hand::{Normed, activate, norm};
use super::device::Precision;
use super::dropout::{Drop, TextDraws};
use super::ops::{HIDDEN, Products, indices, softmax};
use crate::network::forward::{Site, site};
use crate::network::pass::Text;
use crate::network::places::{Linear, Norm};
use crate::network::{Encoder, embedding};

/// Added to a squared length before its root, so that no embedding is divided by zero.
const SHORTEST_SQUARED: f64 = 1e-24;

/// A batch of texts on its way through a network.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub encoder: &'a Encoder,
    pub values: &'a [Tensor],
    pub texts: &'a [&'a Text],
    /// Tokens of the longest text.
    pub width: usize,
    pub device: &'a Device,
    pub products: Products,
    mask: Option<Tensor>,
}

/// What the way back through a layer needs. Factors of products are rounded for these.
#[derive(Debug)]
pub(super) struct LayerKept {
    pub attention: AttentionKept,
    /// What the attention's output layer read.
    pub context: Tensor,
    pub attention_norm: Normed,
    /// What the inner layer read.
    pub middle: Tensor,
    /// What it gave, before the activation.
    pub inner: Tensor,
    /// And after it.
    pub active: Tensor,
    pub output_norm: Normed,
}

/// What the way back through an attention needs.
#[derive(Debug)]
pub(super) struct AttentionKept {
    /// The layer's input.
    pub x: Tensor,
    /// Query (scaled), key and value, each texts x heads x tokens x a head's part.
    pub heads: [Tensor; 3],
    /// Before dropout, texts x heads x tokens x tokens.
    pub probabilities: Tensor,
}

/// What the way back through the pooling needs: the embeddings, and what they were divided by.
pub(super) type PoolKept = Option<(Tensor, Tensor)>;

impl<'a> View<'a> {
    /// A batch over the values of `encoder`'s parameters, place by place, on a device.
    pub fn new(
        encoder: &'a Encoder,
        values: &'a [Tensor],
        texts: &'a [&'a Text],
        (device, precision): (&'a Device, Precision),
    ) -> Result<Self> {
        let width = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let products = Products::new(precision, device);
        let mut view = Self { encoder, values, texts, width, device, products, mask: None };
        if texts.iter().any(|text| text.ids.len() < width) {
            let numbers = view.by_token(HIDDEN, |_| 0.0);
            view.mask = Some(Tensor::from_vec(numbers, (texts.len(), 1, 1, width), device)?);
        }
        Ok(view)
    }

    /// A number for each place of the padded batch: that of its text, or `padding`.
    pub fn by_token(&self, padding: f32, of: impl Fn(&Text) -> f32) -> Vec<f32> {
        let mut numbers = vec![padding; self.texts.len() * self.width];
        for (row, text) in numbers.chunks_mut(self.width).zip(self.texts) {
            row[..text.ids.len()].fill(of(text));
        }
        numbers
    }

    /// The embeddings' result: texts · tokens x hidden.
    pub fn embed(&self) -> Result<(Tensor, Normed)> {
        let (places, c) = (self.encoder.places(), self.encoder.config());
        let (b, t, h) = (self.texts.len(), self.width, c.hidden_size);
        let positions = self.values[places.positions].narrow(0, c.first_position(), t)?;
        let types = self.values[places.types].narrow(0, 0, 1)?;
        let words =
            self.values[places.words].index_select(&indices(self.ids(), self.device)?, 0)?;
        let x = words.reshape((b, t, h))?.broadcast_add(&positions.broadcast_add(&types)?)?;
        let (x, kept) = self.norm(&x.reshape((b * t, h))?, &places.norm)?;
        Ok((self.drop_states(embedding::SITE, x)?, kept))
    }

    /// The token ids of the padded batch.
    pub fn ids(&self) -> Vec<u32> {
        let padding = self.encoder.config().padding_id() as u32;
        let mut ids = vec![padding; self.texts.len() * self.width];
        for (row, text) in ids.chunks_mut(self.width).zip(self.texts) {
            row[..text.ids.len()].copy_from_slice(&text.ids);
        }
        ids
    }

    /// One layer over states of texts · tokens x hidden.
    pub fn layer(&self, index: usize, x: &Tensor) -> Result<(Tensor, LayerKept)> {
        let layer = &self.encoder.places().layers[index];
        let (context, attention) = self.attend(index, x)?;
        let out = self.linear(&context, &layer.attention_out)?;
        let out = self.drop_states(site(index, Site::Attention), out)?;
        let (x, attention_norm) = self.norm(&(out + x)?, &layer.attention_norm)?;
        let middle = self.products.round(&x)?;
        let inner = self.linear(&middle, &layer.expand)?;
        let activation = self.encoder.config().hidden_act;
        let active = self.products.round(&activate(&inner, activation)?)?;
        let out = self.linear(&active, &layer.contract)?;
        let out = self.drop_states(site(index, Site::Output), out)?;
        let (x, output_norm) = self.norm(&(out + x)?, &layer.output_norm)?;
        Ok((
            x,
            LayerKept { attention, context, attention_norm, middle, inner, active, output_norm },
        ))
    }

    /// The heads' context, texts · tokens x hidden, rounded.
    fn attend(&self, index: usize, x: &Tensor) -> Result<(Tensor, AttentionKept)> {
        let [query, key, value] = &self.encoder.places().layers[index].qkv;
        let x = self.products.round(x)?;
        let split = |linear: &Linear| self.heads(&self.linear(&x, linear)?);
        let query = self.products.round(&(split(query)? * self.query_scale())?)?;
        let [key, value] =
            [self.products.round(&split(key)?)?, self.products.round(&split(value)?)?];
        let mut scores = self.products.of(&query, &key.transpose(2, 3)?)?;
        if let Some(mask) = &self.mask {
            scores = scores.broadcast_add(mask)?;
        }
        let probabilities = softmax(&scores)?;
        drop(scores);
        let weights = self.products.round(&self.drop_probabilities(index, &probabilities)?)?;
        let context = self.products.round(&self.merged(&self.products.of(&weights, &value)?)?)?;
        let heads = [query, key, value];
        Ok((context, AttentionKept { x, heads, probabilities }))
    }

    /// What queries are multiplied by.
    pub fn query_scale(&self) -> f64 {
        let c = self.encoder.config();
        ((c.hidden_size / c.num_attention_heads) as f64).powf(-0.5)
    }

    /// Rows as texts x heads x tokens x a head's part.
    pub fn heads(&self, x: &Tensor) -> Result<Tensor> {
        let c = self.encoder.config();
        let (heads, d) = (c.num_attention_heads, c.hidden_size / c.num_attention_heads);
        x.reshape((self.texts.len(), self.width, heads, d))?.transpose(1, 2)?.contiguous()
    }

    /// The heads' parts as rows again.
    pub fn merged(&self, x: &Tensor) -> Result<Tensor> {
        let rows = self.texts.len() * self.width;
        x.transpose(1, 2)?.contiguous()?.reshape((rows, self.encoder.config().hidden_size))
    }

    /// The embeddings, texts x hidden, of the last layer's states.
    pub fn pool(&self, x: &Tensor) -> Result<(Tensor, PoolKept)> {
        let (b, t, h) = (self.texts.len(), self.width, self.encoder.config().hidden_size);
        let (x, head) = (x.reshape((b, t, h))?, self.encoder.head());
        let pooled = match head.pooling {
            Pooling::Cls => x.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => self.shares()?.transpose(1, 2)?.matmul(&x)?.squeeze(1)?,
        };
        if !head.normalize {
            return Ok((pooled, None));
        }
        let length = (pooled.sqr()?.sum_keepdim(D::Minus1)? + SHORTEST_SQUARED)?.sqrt()?;
        let embeddings = pooled.broadcast_div(&length)?;
        Ok((embeddings.clone(), Some((embeddings, length))))
    }

    /// How much of its text's mean a state makes: texts x tokens x 1.
    pub fn shares(&self) -> Result<Tensor> {
        let shares = self.by_token(0.0, |text| 1.0 / text.ids.len() as f32);
        Tensor::from_vec(shares, (self.texts.len(), self.width, 1), self.device)
    }

    fn norm(&self, x: &Tensor, at: &Norm) -> Result<(Tensor, Normed)> {
        let eps = f64::from(self.encoder.config().layer_norm_eps);
        norm(x, (&self.values[at.weight], &self.values[at.bias]), eps)
    }

    /// `x Wᵀ + b` for rounded rows x.
    fn linear(&self, x: &Tensor, linear: &Linear) -> Result<Tensor> {
        self.products.linear(x, (&self.values[linear.weight], &self.values[linear.bias]))
    }

    /// Dropout of states, or of their gradient: the way back draws the same.
    pub fn drop_states(&self, site: u64, x: Tensor) -> Result<Tensor> {
        let h = self.encoder.config().hidden_size;
        let rate = self.encoder.dropout.map(|dropout| dropout.hidden);
        self.drop(x, rate, site, |_| h, (self.width, h))
    }

    /// Dropout of a layer's probabilities, or of their gradient.
    pub fn drop_probabilities(&self, layer: usize, p: &Tensor) -> Result<Tensor> {
        let rate = self.encoder.dropout.map(|dropout| dropout.attention);
        let site = site(layer, Site::Probabilities);
        self.drop(p.clone(), rate, site, |text| text.ids.len(), (self.width, self.width))
    }

    fn drop(
        &self,
        x: Tensor,
        rate: Option<Rate>,
        site: u64,
        length: impl Fn(&Text) -> usize,
        (period, width): (usize, usize),
    ) -> Result<Tensor> {
        let Some(rate) = rate.filter(|rate| !rate.is_zero()) else { return Ok(x) };
        let draws = |text: &&Text| TextDraws { key: text.key.part(site), length: length(text) };
        let texts = self.texts.iter().map(draws).collect();
        Drop { rate, texts, period, width }.apply(&x)
    }
}
