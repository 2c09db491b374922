//! An encoder on a device that learns there: in a step only token ids, embeddings and their gradients
//! travel.

use candle_core::{Result as CandleResult, Tensor, Var};

use super::device::{Opened, Precision};
use super::encoder::View;
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
    /// The embeddings with all operations that led to them.
    All(Tensor),
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
        let still: Vec<Tensor>;
        let values: &[Tensor] = if keep == Keep::All {
            &self.numbers.values
        } else {
            still = self.numbers.still();
            &still
        };
        let view = View::new(encoder, values, &texts, (&self.numbers.device, self.precision))?;
        let mut inputs = vec![view.embed()?];
        for layer in 0..encoder.places().layers.len() {
            let next = view.layer(layer, &inputs[inputs.len() - 1])?;
            if keep != Keep::Inputs {
                inputs.clear();
            }
            inputs.push(next);
        }
        let embeddings = view.pool(&inputs[inputs.len() - 1])?;
        let kept = match keep {
            Keep::Nothing => None,
            Keep::Inputs => Some(Kept::Inputs(inputs)),
            Keep::All => Some(Kept::All(embeddings.clone())),
        };
        Ok((embeddings, kept))
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
        match kept {
            Kept::All(embeddings) => self.numbers.collect(&embeddings, &grad, None).map(drop),
            Kept::Inputs(inputs) => {
                let texts: Vec<&Text> = order.iter().map(|&i| &texts[i]).collect();
                self.layers_back(encoder, &texts, inputs, grad)
            }
        }
    }

    /// Layer after layer, each made again from its input.
    fn layers_back(
        &mut self,
        encoder: &Encoder,
        texts: &[&Text],
        mut inputs: Vec<Tensor>,
        mut grad: Tensor,
    ) -> CandleResult<()> {
        let (values, device) = (self.numbers.values.clone(), self.numbers.device.clone());
        let view = View::new(encoder, &values, texts, (&device, self.precision))?;
        let mut pooled = true;
        while let Some(input) = inputs.pop() {
            let x = Var::from_tensor(&input)?;
            let y = if pooled { view.pool(&x)? } else { view.layer(inputs.len(), &x)? };
            grad = self.numbers.collect(&y, &grad, Some(&x))?.unwrap_or(grad);
            pooled = false;
        }
        self.numbers.collect(&view.embed()?, &grad, None).map(drop)
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
