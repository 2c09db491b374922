//! An encoder on a device that learns there: in a step only token ids, embeddings and their gradients
//! travel.

use candle_core::{Result as CandleResult, Tensor};

use super::by_hand::Normed;
use super::device::{Opened, Precision};
use super::encoder::{LayerKept, PoolKept, View};
use super::numbers::Numbers;
use crate::cache::Chunks;
use crate::error::TrainError;
use crate::network::Encoder;
use crate::network::pass::{Keep, Text};
use crate::optimiser::Optimiser;

/// An encoder's numbers on a device.
#[derive(Debug)]
pub struct Learner {
    numbers: Numbers,
    precision: Precision,
}

/// What a forward pass kept for the way back.
#[derive(Debug)]
pub struct Tape {
    /// Places of the texts in the order of the pass.
    order: Vec<usize>,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// What each part needs.
    All { embedding: Normed, layers: Vec<LayerKept>, pool: PoolKept },
    /// The input of each layer, and the states after the last.
    Inputs(Vec<Tensor>),
}

impl Learner {
    /// Brings a network and its optimiser's moments to a device.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn new(encoder: &Encoder, optimiser: &Optimiser, on: &Opened) -> Result<Self, TrainError> {
        let numbers = Numbers::new(&encoder.parameters, optimiser, &on.device)?;
        Ok(Self { numbers, precision: on.precision })
    }

    /// Texts of similar length together, as places: each part has at most `tokens` tokens when it is
    /// padded, or one text.
    fn parts(texts: &[Text], tokens: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(texts[i].ids.len()), i));
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for i in order {
            match parts.last_mut() {
                Some(part) if (part.len() + 1) * texts[part[0]].ids.len() <= tokens => part.push(i),
                _ => parts.push(vec![i]),
            }
        }
        parts
    }

    /// The embeddings of all texts, and what the way back needs where they fit into one chunk.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn encode(
        &self,
        encoder: &Encoder,
        texts: &[Text],
        chunks: Chunks,
    ) -> Result<(Vec<f32>, Option<Tape>), TrainError> {
        let h = encoder.config().hidden_size;
        let mut embeddings = vec![0.0; texts.len() * h];
        let parts = Self::parts(texts, chunks.tokens);
        let keep = if parts.len() == 1 { chunks.keep } else { Keep::Nothing };
        let mut tape = None;
        for order in parts {
            let (found, kept) = self.forward(encoder, (texts, &order), keep)?;
            let rows: Vec<f32> = found.flatten_all()?.to_vec1()?;
            for (&to, row) in order.iter().zip(rows.chunks(h)) {
                embeddings[to * h..(to + 1) * h].copy_from_slice(row);
            }
            tape = kept.map(|kept| Tape { order, kept });
        }
        Ok((embeddings, tape))
    }

    /// The embeddings of some texts, and what was kept.
    fn forward(
        &self,
        encoder: &Encoder,
        (texts, order): (&[Text], &[usize]),
        keep: Keep,
    ) -> CandleResult<(Tensor, Option<Kept>)> {
        let texts: Vec<&Text> = order.iter().map(|&i| &texts[i]).collect();
        let values = self.numbers.still();
        let view = View::new(encoder, &values, &texts, (&self.numbers.device, self.precision))?;
        let (mut x, embedding) = view.embed()?;
        let (mut layers, mut inputs) = (Vec::new(), Vec::new());
        for index in 0..encoder.places().layers.len() {
            let (next, kept) = view.layer(index, &x)?;
            match keep {
                Keep::Nothing => {}
                Keep::Inputs => inputs.push(x),
                Keep::All => layers.push(kept),
            }
            x = next;
        }
        let (embeddings, pool) = view.pool(&x)?;
        inputs.push(x);
        let kept = match keep {
            Keep::Nothing => None,
            Keep::Inputs => Some(Kept::Inputs(inputs)),
            Keep::All => Some(Kept::All { embedding, layers, pool }),
        };
        Ok((embeddings, kept))
    }

    /// Waits until the device has done all that it was asked.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn wait(&self) -> Result<(), TrainError> {
        Ok(self.numbers.device.synchronize()?)
    }

    /// Adds the gradients of the parameters, given that of each embedding.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn back(
        &mut self,
        encoder: &Encoder,
        (texts, tape): (&[Text], Option<Tape>),
        grad: &[f32],
        chunks: Chunks,
    ) -> Result<(), TrainError> {
        if let Some(Tape { order, kept }) = tape {
            return Ok(self.part_back(encoder, (texts, &order), kept, grad)?);
        }
        for order in Self::parts(texts, chunks.tokens) {
            if let (_, Some(kept)) = self.forward(encoder, (texts, &order), chunks.keep)? {
                self.part_back(encoder, (texts, &order), kept, grad)?;
            }
        }
        Ok(())
    }

    fn part_back(
        &mut self,
        encoder: &Encoder,
        (texts, order): (&[Text], &[usize]),
        kept: Kept,
        grad: &[f32],
    ) -> CandleResult<()> {
        let h = encoder.config().hidden_size;
        let rows: Vec<f32> =
            order.iter().flat_map(|&i| grad[i * h..][..h].iter().copied()).collect();
        let grad = Tensor::from_vec(rows, (order.len(), h), &self.numbers.device)?;
        let texts: Vec<&Text> = order.iter().map(|&i| &texts[i]).collect();
        let (values, device) = (self.numbers.still(), self.numbers.device.clone());
        let view = View::new(encoder, &values, &texts, (&device, self.precision))?;
        match kept {
            Kept::All { embedding, layers, pool } => {
                let mut grad = view.pool_back(&pool, &grad)?;
                drop(pool);
                for (index, kept) in layers.into_iter().enumerate().rev() {
                    grad = view.layer_back(index, kept, &grad, &mut self.numbers.sums)?;
                }
                view.embed_back(&embedding, grad, &mut self.numbers.sums)
            }
            Kept::Inputs(inputs) => self.inputs_back(&view, inputs, &grad),
        }
    }

    /// Layer after layer, each made again from its input.
    fn inputs_back(
        &mut self,
        view: &View<'_>,
        mut inputs: Vec<Tensor>,
        grad: &Tensor,
    ) -> CandleResult<()> {
        let Some(last) = inputs.pop() else { return Ok(()) };
        let mut grad = view.pool_back(&view.pool(&last)?.1, grad)?;
        drop(last);
        while let Some(input) = inputs.pop() {
            let index = inputs.len();
            let (_, kept) = view.layer(index, &input)?;
            grad = view.layer_back(index, kept, &grad, &mut self.numbers.sums)?;
        }
        view.embed_back(&view.embed()?.1, grad, &mut self.numbers.sums)
    }

    /// The gradients that were added, place by place; none for frozen parameters.
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
        encoder: &Encoder,
        optimiser: &mut Optimiser,
        change: (f64, f64),
    ) -> Result<(), TrainError> {
        self.numbers.step(&encoder.parameters, optimiser, change)
    }

    /// Writes parameters and moments back to where models and states are saved from.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn to_host(
        &self,
        encoder: &mut Encoder,
        optimiser: &mut Optimiser,
    ) -> Result<(), TrainError> {
        self.numbers.to_host(&mut encoder.parameters, optimiser)
    }
}
