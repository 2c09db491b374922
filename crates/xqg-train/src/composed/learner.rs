//! A network on a device that learns there: parameters, gradients and moments stay on it, and only
//! token ids, embeddings and their gradients travel in a step. They come back when a model or the
//! run's state is written.

use candle_core::{Device, Result as CandleResult, Tensor, Var};

use super::adam;
use super::device::{Opened, Precision};
use super::encoder::View;
use crate::cache::Chunks;
use crate::error::TrainError;
use crate::network::Encoder;
use crate::network::pass::{Keep, Text};
use crate::optimiser::{Moments, Optimiser};
use crate::parameters::{Kind, Parameter};

/// The numbers of a network on a device.
#[derive(Debug)]
pub struct Learner {
    /// Each parameter's values; those that learn are variables.
    values: Vec<Tensor>,
    gradients: Vec<Option<Tensor>>,
    moments: Vec<Option<[Tensor; 2]>>,
    device: Device,
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
        let (device, precision) = (on.device.clone(), on.precision);
        let all = &encoder.parameters.0;
        let values = all.iter().map(|p| value(p, &device)).collect::<CandleResult<_>>()?;
        let moments = all.iter().zip(&optimiser.moments);
        let moments =
            moments.map(|(p, m)| adam::to_device(p, m, &device)).collect::<CandleResult<_>>()?;
        Ok(Self { values, gradients: vec![None; all.len()], moments, device, precision })
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
            &self.values
        } else {
            // Operations over values that are no variables keep nothing.
            still = self.values.iter().map(Tensor::detach).collect();
            &still
        };
        let view = View::new(encoder, values, &texts, (&self.device, self.precision))?;
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
        let grad = Tensor::from_vec(rows, (order.len(), h), &self.device)?;
        match kept {
            Kept::All(embeddings) => self.collect(&embeddings, &grad, None).map(drop),
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
        let (values, device) = (self.values.clone(), self.device.clone());
        let view = View::new(encoder, &values, texts, (&device, self.precision))?;
        let mut pooled = true;
        while let Some(input) = inputs.pop() {
            let x = Var::from_tensor(&input)?;
            let y = if pooled { view.pool(&x)? } else { view.layer(inputs.len(), &x)? };
            grad = self.collect(&y, &grad, Some(&x))?.unwrap_or(grad);
            pooled = false;
        }
        self.collect(&view.embed()?, &grad, None).map(drop)
    }

    /// Takes a gradient back through all operations that led to `y`, adds those of the parameters,
    /// and returns that of `x`.
    fn collect(
        &mut self,
        y: &Tensor,
        grad: &Tensor,
        x: Option<&Var>,
    ) -> CandleResult<Option<Tensor>> {
        let mut store = (y * grad)?.sum_all()?.backward()?;
        for (value, sum) in self.values.iter().zip(&mut self.gradients) {
            let Some(found) = value.is_variable().then(|| store.remove(value)).flatten() else {
                continue;
            };
            // A variable's gradient still hangs on the operations that led to it: they would stay in
            // memory, and the next way back would go through them again.
            *sum = Some(match sum.take() {
                Some(sum) => (sum + found.detach())?,
                None => found.detach(),
            });
        }
        Ok(x.and_then(|x| store.remove(x)).map(|grad| grad.detach()))
    }

    /// The gradients that were added, place by place; none for frozen parameters.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        let numbers = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) => gradient.flatten_all()?.to_vec1(),
            None => Ok(Vec::new()),
        };
        Ok(self.gradients.iter().map(numbers).collect::<CandleResult<_>>()?)
    }

    /// The sum of the squares of all gradients that were added.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn squares(&self) -> Result<f64, TrainError> {
        let each = self.gradients.iter().flatten().map(|g| g.sqr()?.sum_all());
        let each: Vec<Tensor> = each.collect::<CandleResult<_>>()?;
        if each.is_empty() {
            return Ok(0.0);
        }
        let each: Vec<f32> = Tensor::stack(&each, 0)?.to_vec1()?;
        Ok(each.into_iter().map(f64::from).sum())
    }

    /// Changes all parameters by the gradients, and forgets these.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn step(
        &mut self,
        encoder: &Encoder,
        optimiser: &mut Optimiser,
        (norm, rate): (f64, f64),
    ) -> Result<(), TrainError> {
        optimiser.steps += 1;
        let step = optimiser.numbers(rate, norm);
        let parts = self.values.iter().zip(&mut self.gradients).zip(&mut self.moments);
        for (((value, gradient), moments), parameter) in parts.zip(&encoder.parameters.0) {
            let Some(moments) = moments else { continue };
            let gradient = gradient.take().map_or_else(|| value.zeros_like(), Ok)?;
            adam::step(&step, parameter.kind, (value, &gradient.detach()), moments)?;
        }
        Ok(())
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
        let parts = self.values.iter().zip(&self.moments).zip(&mut encoder.parameters.0);
        for (((value, moments), parameter), on_host) in parts.zip(&mut optimiser.moments) {
            let Some(moments) = moments else { continue };
            parameter.values = value.flatten_all()?.to_vec1()?;
            *on_host = to_host(parameter, moments)?;
        }
        Ok(())
    }
}

/// A parameter on a device, as a variable where it learns.
fn value(parameter: &Parameter, device: &Device) -> CandleResult<Tensor> {
    let shape = parameter.shape.as_slice();
    if parameter.kind == Kind::Frozen {
        return Tensor::from_slice(&parameter.values, shape, device);
    }
    Ok(Var::from_slice(&parameter.values, shape, device)?.into_inner())
}

fn to_host(parameter: &Parameter, moments: &[Tensor; 2]) -> CandleResult<Moments> {
    let [first, second] = moments;
    let [first, second] = [first, second].map(|m| m.flatten_all()?.to_vec1());
    Ok(adam::rows(parameter, first?, second?))
}
