//! BERT and XLM-RoBERTa of candle's operations: the network of [`crate::network`] for any device, with
//! texts padded to one length. It reads places, settings and dropout from that network and holds
//! nothing but the numbers, so the two cannot drift apart.

use candle_core::{D, Device, Result, Tensor};
use xqg_kernel::dropout::Rate;
use xqg_kernel::ops::Activation;
use xqg_model::recipe::Pooling;

use super::device::Precision;
use super::dropout::{Drop, TextDraws};
use super::ops::{HIDDEN, Products, indices, layer_norm, softmax};
use crate::network::forward::{Site, site};
use crate::network::pass::Text;
use crate::network::places::{Linear, Norm};
use crate::network::{Encoder, embedding};

/// Added to a squared length before its root, so that no embedding is divided by zero.
const SHORTEST_SQUARED: f64 = 1e-24;

/// A batch of texts on its way through a network.
#[derive(Debug)]
pub(super) struct View<'a> {
    encoder: &'a Encoder,
    values: &'a [Tensor],
    texts: &'a [&'a Text],
    width: usize,
    device: &'a Device,
    products: Products,
    mask: Option<Tensor>,
}

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
    fn by_token(&self, padding: f32, of: impl Fn(&Text) -> f32) -> Vec<f32> {
        let mut numbers = vec![padding; self.texts.len() * self.width];
        for (row, text) in numbers.chunks_mut(self.width).zip(self.texts) {
            row[..text.ids.len()].fill(of(text));
        }
        numbers
    }

    /// The embeddings' result: texts · tokens x hidden.
    pub fn embed(&self) -> Result<Tensor> {
        let (places, c) = (self.encoder.places(), self.encoder.config());
        let (b, t, h) = (self.texts.len(), self.width, c.hidden_size);
        let positions = self.values[places.positions].narrow(0, c.first_position(), t)?;
        let types = self.values[places.types].narrow(0, 0, 1)?;
        let x = self.words()?.reshape((b, t, h))?.broadcast_add(&positions)?;
        let x = self.norm(&x.broadcast_add(&types)?.reshape((b * t, h))?, &places.norm)?;
        self.drop_states(embedding::SITE, x)
    }

    /// The rows of the words. Padding's row gets no gradient where a text has it inside.
    fn words(&self) -> Result<Tensor> {
        let padding = self.encoder.config().padding_id() as u32;
        let mut ids = vec![padding; self.texts.len() * self.width];
        for (row, text) in ids.chunks_mut(self.width).zip(self.texts) {
            row[..text.ids.len()].copy_from_slice(&text.ids);
        }
        let table = &self.values[self.encoder.places().words];
        let rows = table.index_select(&indices(ids.clone(), self.device)?, 0)?;
        if !self.texts.iter().any(|text| text.ids.contains(&padding)) {
            return Ok(rows);
        }
        let learns: Vec<f32> = ids.iter().map(|&id| f32::from(id != padding)).collect();
        let learns = Tensor::from_vec(learns, (ids.len(), 1), self.device)?;
        let stays = learns.affine(-1.0, 1.0)?;
        rows.broadcast_mul(&learns)? + rows.detach().broadcast_mul(&stays)?
    }

    /// One layer over states of texts · tokens x hidden.
    pub fn layer(&self, index: usize, x: &Tensor) -> Result<Tensor> {
        let layer = &self.encoder.places().layers[index];
        let context = self.attend(index, x)?;
        let out = self.linear(&self.products.round(&context)?, &layer.attention_out)?;
        let out = self.drop_states(site(index, Site::Attention), out)?;
        let x = self.norm(&(out + x)?, &layer.attention_norm)?;
        let inner = self.linear(&self.products.round(&x)?, &layer.expand)?;
        let inner = match self.encoder.config().hidden_act {
            Activation::Gelu => inner.gelu_erf()?,
            Activation::GeluTanh => inner.gelu()?,
            Activation::Relu => inner.relu()?,
        };
        let out = self.linear(&self.products.round(&inner)?, &layer.contract)?;
        let out = self.drop_states(site(index, Site::Output), out)?;
        self.norm(&(out + x)?, &layer.output_norm)
    }

    /// The heads' context, texts · tokens x hidden.
    fn attend(&self, index: usize, x: &Tensor) -> Result<Tensor> {
        let c = self.encoder.config();
        let (b, t, h, heads) = (self.texts.len(), self.width, c.hidden_size, c.num_attention_heads);
        let (x, d) = (self.products.round(x)?, h / heads);
        let split = |linear: &Linear| {
            let x = self.linear(&x, linear)?.reshape((b, t, heads, d))?;
            x.transpose(1, 2)?.contiguous()
        };
        let [query, key, value] = &self.encoder.places().layers[index].qkv;
        let query = (split(query)? * (d as f64).powf(-0.5))?;
        let key = self.products.round(&split(key)?)?.transpose(2, 3)?;
        let mut scores = self.products.of(&self.products.round(&query)?, &key)?;
        if let Some(mask) = &self.mask {
            scores = scores.broadcast_add(mask)?;
        }
        let p = self.drop_probabilities(index, softmax(&scores)?)?;
        let context =
            self.products.of(&self.products.round(&p)?, &self.products.round(&split(value)?)?)?;
        context.transpose(1, 2)?.contiguous()?.reshape((b * t, h))
    }

    /// The embeddings, texts x hidden, of the last layer's states.
    pub fn pool(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, h) = (self.texts.len(), self.width, self.encoder.config().hidden_size);
        let x = x.reshape((b, t, h))?;
        let head = self.encoder.head();
        let pooled = match head.pooling {
            Pooling::Cls => x.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => {
                let shares = self.by_token(0.0, |text| 1.0 / text.ids.len() as f32);
                x.broadcast_mul(&Tensor::from_vec(shares, (b, t, 1), self.device)?)?.sum(1)?
            }
        };
        if !head.normalize {
            return Ok(pooled);
        }
        let length = (pooled.sqr()?.sum_keepdim(D::Minus1)? + SHORTEST_SQUARED)?.sqrt()?;
        pooled.broadcast_div(&length)
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let eps = f64::from(self.encoder.config().layer_norm_eps);
        layer_norm(x, (&self.values[norm.weight], &self.values[norm.bias]), eps)
    }

    /// `x Wᵀ + b` for rounded rows x.
    fn linear(&self, x: &Tensor, linear: &Linear) -> Result<Tensor> {
        self.products.linear(x, (&self.values[linear.weight], &self.values[linear.bias]))
    }

    fn drop_states(&self, site: u64, x: Tensor) -> Result<Tensor> {
        let h = self.encoder.config().hidden_size;
        let rate = self.encoder.dropout.map(|dropout| dropout.hidden);
        self.drop(x, rate, site, |_| h, (self.width, h))
    }

    fn drop_probabilities(&self, layer: usize, p: Tensor) -> Result<Tensor> {
        let rate = self.encoder.dropout.map(|dropout| dropout.attention);
        let site = site(layer, Site::Probabilities);
        self.drop(p, rate, site, |text| text.ids.len(), (self.width, self.width))
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
