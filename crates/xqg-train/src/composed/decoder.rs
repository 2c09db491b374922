//! The decoder of [`crate::decoder`] of candle's operations, for any device: targets padded to one
//! length, a memory's keys and values made once and shared by its targets. It reads places, shape and
//! dropout from that decoder and holds nothing but the numbers, so the two cannot drift apart.

use candle_core::{D, Device, Result as CandleResult, Tensor};

use super::device::{Opened, Precision};
use super::dropout::{Drop, TextDraws};
use super::numbers::Numbers;
use super::ops::{HIDDEN, Products, indices, layer_norm, log_softmax, softmax};
use crate::decoder::forward::{CROSS, FEED, OWN, site};
use crate::decoder::places::Layer;
use crate::decoder::{Batch, Decoder, Lists, TextLoss, embedding};
use crate::error::TrainError;
use crate::network::places::{Linear, Norm};
use crate::optimiser::Optimiser;

/// A decoder's numbers on a device.
#[derive(Debug)]
pub struct Learner {
    numbers: Numbers,
    precision: Precision,
}

impl Learner {
    /// Brings a decoder and its optimiser's moments to a device.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn new(decoder: &Decoder, optimiser: &Optimiser, on: &Opened) -> Result<Self, TrainError> {
        let numbers = Numbers::new(&decoder.parameters, optimiser, &on.device)?;
        Ok(Self { numbers, precision: on.precision })
    }

    /// Adds the gradients of a batch's mean loss over its tokens, as [`Decoder::learn`].
    ///
    /// # Errors
    /// When the device refuses.
    pub fn learn(
        &mut self,
        decoder: &Decoder,
        batch: &Batch,
        settings: (&Lists, f32),
    ) -> Result<TextLoss, TrainError> {
        let values = self.numbers.values.clone();
        let (loss, y) = self.look(decoder, &values, batch, settings)?;
        if loss.smoothed.is_finite() {
            self.numbers.collect(&y)?;
        }
        Ok(loss)
    }

    /// The loss of a batch, nothing learned; nothing is left out where the decoder has no dropout.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn loss(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        settings: (&Lists, f32),
    ) -> Result<TextLoss, TrainError> {
        Ok(self.look(decoder, &self.numbers.still(), batch, settings)?.0)
    }

    /// The loss, and the number that it is on the device.
    fn look(
        &self,
        decoder: &Decoder,
        values: &[Tensor],
        batch: &Batch,
        (lists, smoothing): (&Lists, f32),
    ) -> CandleResult<(TextLoss, Tensor)> {
        let view = View::new(decoder, values, batch, (&self.numbers.device, self.precision))?;
        let mut states = view.embed()?;
        for (index, layer) in decoder.places().layers.iter().enumerate() {
            states = view.layer(index, layer, &states)?;
        }
        view.output(&states, (lists, f64::from(smoothing)))
    }

    /// The gradients that were added, place by place.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        self.numbers.gradients()
    }

    /// The sum of the squares of all gradients that were added.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn squares(&self) -> Result<f64, TrainError> {
        self.numbers.squares()
    }

    /// Changes all parameters by the gradients, and forgets these.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn step(
        &mut self,
        decoder: &Decoder,
        optimiser: &mut Optimiser,
        change: (f64, f64),
    ) -> Result<(), TrainError> {
        self.numbers.step(&decoder.parameters, optimiser, change)
    }

    /// Writes parameters and moments back to where models and states are saved from.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn to_host(
        &self,
        decoder: &mut Decoder,
        optimiser: &mut Optimiser,
    ) -> Result<(), TrainError> {
        self.numbers.to_host(&mut decoder.parameters, optimiser)
    }
}

/// A batch on its way through a decoder.
struct View<'a> {
    decoder: &'a Decoder,
    values: &'a [Tensor],
    batch: &'a Batch,
    device: &'a Device,
    products: Products,
    /// Tokens of the longest target.
    width: usize,
    /// The states of all memories, memories x tokens x hidden, rounded for products.
    memories: Tensor,
    /// What is added so that no target sees what comes later: 1 x 1 x tokens x tokens.
    causal: Tensor,
    /// What is added so that padding of a memory is not seen: targets x 1 x 1 x tokens.
    padding: Tensor,
    /// The memory of each target.
    of: Tensor,
}

impl<'a> View<'a> {
    fn new(
        decoder: &'a Decoder,
        values: &'a [Tensor],
        batch: &'a Batch,
        (device, precision): (&'a Device, Precision),
    ) -> CandleResult<Self> {
        let h = decoder.shape().hidden;
        let products = Products::new(precision, device);
        let n = batch.targets.iter().map(|t| t.ids.len()).max().unwrap_or(0);
        let longest = batch.memories.iter().map(|m| m.rows.len()).max().unwrap_or(0);
        let mut rows = vec![0f32; batch.memories.len() * longest];
        for (to, memory) in rows.chunks_mut(longest.max(1)).zip(&batch.memories) {
            to[..memory.rows.len()].copy_from_slice(&memory.rows);
        }
        let memories = Tensor::from_vec(rows, (batch.memories.len(), longest / h, h), device)?;
        let ahead = |i: usize| (0..n).map(move |j| if j > i { HIDDEN } else { 0.0 });
        let causal = Tensor::from_vec((0..n).flat_map(ahead).collect(), (1, 1, n, n), device)?;
        let hidden = |target: &crate::decoder::Target| {
            let length = batch.memories[target.memory].rows.len() / h;
            (0..longest / h).map(move |j| if j < length { 0.0 } else { HIDDEN })
        };
        let padding: Vec<f32> = batch.targets.iter().flat_map(hidden).collect();
        let padding = Tensor::from_vec(padding, (batch.targets.len(), 1, 1, longest / h), device)?;
        let of = batch.targets.iter().map(|target| target.memory as u32).collect();
        Ok(Self {
            decoder,
            values,
            batch,
            device,
            products,
            width: n,
            memories: products.round(&memories)?,
            causal,
            padding,
            of: indices(of, device)?,
        })
    }

    /// The embeddings' result: targets · tokens x hidden.
    fn embed(&self) -> CandleResult<Tensor> {
        let (shape, places) = (self.decoder.shape(), self.decoder.places());
        let (b, n, h) = (self.batch.targets.len(), self.width, shape.hidden);
        let mut ids = vec![0; b * n];
        for (row, target) in ids.chunks_mut(n).zip(&self.batch.targets) {
            row[..target.ids.len()].copy_from_slice(&target.ids);
        }
        let words = self.values[places.words].index_select(&indices(ids, self.device)?, 0)?;
        let words = (words * f64::from(shape.embed_scale))?.reshape((b, n, h))?;
        let states = words.broadcast_add(&self.values[places.positions].narrow(0, 0, n)?)?;
        self.drop(embedding::SITE, states.reshape((b * n, h))?)
    }

    fn layer(&self, index: usize, layer: &Layer, states: &Tensor) -> CandleResult<Tensor> {
        let own = self.own(layer, states)?;
        let states = (states + self.drop(site(index, OWN), own)?)?;
        let cross = self.cross(layer, &states)?;
        let states = (states + self.drop(site(index, CROSS), cross)?)?;
        let x = self.products.round(&self.norm(&states, &layer.ffn_norm)?)?;
        let inner = self.linear(&x, &layer.expand)?.gelu_erf()?;
        let out = self.linear(&self.products.round(&inner)?, &layer.contract)?;
        states + self.drop(site(index, FEED), out)?
    }

    /// The self-attention, each token over those up to itself.
    fn own(&self, layer: &Layer, states: &Tensor) -> CandleResult<Tensor> {
        let x = self.products.round(&self.norm(states, &layer.self_norm)?)?;
        let [query, key, value] = &layer.own.qkv;
        let parts = (self.split(&x, query)?, self.split(&x, key)?, self.split(&x, value)?);
        self.attend(parts, &self.causal, &layer.own.out)
    }

    /// The attention over the memory.
    fn cross(&self, layer: &Layer, states: &Tensor) -> CandleResult<Tensor> {
        let x = self.products.round(&self.norm(states, &layer.cross_norm)?)?;
        let [query, key, value] = &layer.cross.qkv;
        let (memories, tokens, h) = self.memories.dims3()?;
        let rows = self.memories.reshape((memories * tokens, h))?;
        let shared = |linear: &Linear| {
            let split = self.heads(&self.linear(&rows, linear)?, memories, tokens)?;
            split.index_select(&self.of, 0)
        };
        let parts = (self.split(&x, query)?, shared(key)?, shared(value)?);
        self.attend(parts, &self.padding, &layer.cross.out)
    }

    /// Softmax over scores, context, and the output layer.
    fn attend(
        &self,
        (query, key, value): (Tensor, Tensor, Tensor),
        unseen: &Tensor,
        out: &Linear,
    ) -> CandleResult<Tensor> {
        let (b, _, n, d) = query.dims4()?;
        let query = self.products.round(&(query * (d as f64).powf(-0.5))?)?;
        let key = self.products.round(&key)?.transpose(2, 3)?;
        let p = softmax(&self.products.of(&query, &key)?.broadcast_add(unseen)?)?;
        let context = self.products.of(&self.products.round(&p)?, &self.products.round(&value)?)?;
        let context = context.transpose(1, 2)?.contiguous()?;
        let context = context.reshape((b * n, self.decoder.shape().hidden))?;
        self.linear(&self.products.round(&context)?, out)
    }

    fn split(&self, x: &Tensor, linear: &Linear) -> CandleResult<Tensor> {
        self.heads(&self.linear(x, linear)?, self.batch.targets.len(), self.width)
    }

    /// Rows as texts x heads x tokens x a head's part.
    fn heads(&self, x: &Tensor, texts: usize, tokens: usize) -> CandleResult<Tensor> {
        let shape = self.decoder.shape();
        let d = shape.hidden / shape.heads;
        x.reshape((texts, tokens, shape.heads, d))?.transpose(1, 2)?.contiguous()
    }

    /// The mean loss over all tokens, list by list.
    fn output(
        &self,
        states: &Tensor,
        (lists, smoothing): (&Lists, f64),
    ) -> CandleResult<(TextLoss, Tensor)> {
        let places = self.decoder.places();
        let states = self.norm(states, &places.final_norm)?;
        let (mut own, mut mean, mut tokens) = (Vec::new(), Vec::new(), 0);
        for (number, list) in lists.lists.iter().enumerate() {
            let (rows, right) = self.rows(number, (list, lists.eos));
            if rows.is_empty() {
                continue;
            }
            tokens += rows.len();
            let logs = self.logs(&states, indices(rows, self.device)?, list)?;
            let right = indices(right, self.device)?.unsqueeze(1)?;
            own.push(logs.gather(&right, D::Minus1)?.sum_all()?);
            mean.push(logs.mean(D::Minus1)?.sum_all()?);
        }
        let total = |sums: &[Tensor]| Tensor::stack(sums, 0)?.sum_all()? / -(tokens as f64);
        let (own, mean) = (total(&own)?, total(&mean)?);
        let loss = ((&own * (1.0 - smoothing))? + (mean * smoothing)?)?;
        let number = |x: &Tensor| Ok::<_, candle_core::Error>(f64::from(x.to_scalar::<f32>()?));
        let (smoothed, plain) = (number(&loss)?, number(&own)?);
        Ok((TextLoss { smoothed, plain, tokens }, loss))
    }

    /// The rows of all targets of a list, and what should follow each, as places in the list.
    fn rows(&self, number: usize, (list, eos): (&[u32], u32)) -> (Vec<u32>, Vec<u32>) {
        let place = |id: u32| list.binary_search(&id).expect("a token is on its list") as u32;
        let own = |(i, target): (usize, &crate::decoder::Target)| {
            let next = target.ids[1..].iter().copied().chain([eos]).map(place);
            (i * self.width..).map(|row| row as u32).zip(next).collect::<Vec<_>>()
        };
        let targets = self.batch.targets.iter().enumerate();
        targets.filter(|(_, target)| target.list == number).flat_map(own).unzip()
    }

    /// The logarithms of the probabilities of a list's tokens.
    fn logs(&self, states: &Tensor, rows: Tensor, list: &[u32]) -> CandleResult<Tensor> {
        let places = self.decoder.places();
        let x = self.products.round(&states.index_select(&rows, 0)?)?;
        let list = indices(list.to_vec(), self.device)?;
        let words = self.products.round(&self.values[places.words].index_select(&list, 0)?)?;
        let bias = self.values[places.output_bias].index_select(&list, 0)?;
        let scale = f64::from(self.decoder.shape().logit_scale);
        log_softmax(&(self.products.of(&x, &words.t()?)? * scale)?.broadcast_add(&bias)?)
    }

    fn norm(&self, x: &Tensor, norm: &Norm) -> CandleResult<Tensor> {
        let eps = f64::from(self.decoder.shape().norm_eps);
        layer_norm(x, (&self.values[norm.weight], &self.values[norm.bias]), eps)
    }

    fn linear(&self, x: &Tensor, linear: &Linear) -> CandleResult<Tensor> {
        self.products.linear(x, (&self.values[linear.weight], &self.values[linear.bias]))
    }

    fn drop(&self, site: u64, x: Tensor) -> CandleResult<Tensor> {
        let Some(rate) = self.decoder.dropout.filter(|rate| !rate.is_zero()) else { return Ok(x) };
        let h = self.decoder.shape().hidden;
        let draws =
            |target: &crate::decoder::Target| TextDraws { key: target.key.part(site), length: h };
        let texts = self.batch.targets.iter().map(draws).collect();
        Drop { rate, texts, period: self.width, width: h }.apply(&x)
    }
}
