//! The numbers of a network on a device that learns there: parameters, gradients and moments stay on
//! it, and come back when a model or the run's state is written.

use candle_core::{Device, Result as CandleResult, Tensor, Var};

use super::adam;
use crate::error::TrainError;
use crate::optimiser::{Moments, Optimiser};
use crate::parameters::{Kind, Parameter, Parameters};

/// Parameters, gradients and moments on a device, place by place.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Each parameter's values; those that learn are variables.
    pub values: Vec<Tensor>,
    /// Where they are.
    pub device: Device,
    /// The gradients that were added.
    pub sums: Sums,
    moments: Vec<Option<[Tensor; 2]>>,
}

/// Sums of gradients, place by place; frozen parameters have none.
#[derive(Debug)]
pub(super) struct Sums {
    learns: Vec<bool>,
    of: Vec<Option<Tensor>>,
}

impl Sums {
    fn new(values: &[Tensor]) -> Self {
        let learns = values.iter().map(Tensor::is_variable).collect();
        Self { learns, of: vec![None; values.len()] }
    }

    /// Adds a parameter's gradient, which is made only if the parameter learns.
    pub fn add(
        &mut self,
        place: usize,
        gradient: impl FnOnce() -> CandleResult<Tensor>,
    ) -> CandleResult<()> {
        if self.learns[place] {
            let gradient = gradient()?;
            self.of[place] = Some(match self.of[place].take() {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            });
        }
        Ok(())
    }
}

impl Numbers {
    /// Brings parameters and their moments to a device.
    pub fn new(
        parameters: &Parameters,
        optimiser: &Optimiser,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let all = &parameters.0;
        let values: Vec<Tensor> =
            all.iter().map(|p| value(p, device)).collect::<CandleResult<_>>()?;
        let moments = all.iter().zip(&optimiser.moments);
        let moments =
            moments.map(|(p, m)| adam::to_device(p, m, device)).collect::<CandleResult<_>>()?;
        let sums = Sums::new(&values);
        Ok(Self { values, sums, moments, device: device.clone() })
    }

    /// The values as no variables: operations over them keep nothing for a way back.
    pub fn still(&self) -> Vec<Tensor> {
        self.values.iter().map(Tensor::detach).collect()
    }

    /// Adds the parameters' gradients of a number that operations led to.
    pub fn collect(&mut self, loss: &Tensor) -> CandleResult<()> {
        let mut store = loss.backward()?;
        for (place, value) in self.values.iter().enumerate() {
            if let Some(found) = store.remove(value) {
                // A variable's gradient still hangs on the operations that led to it: they would stay
                // in memory.
                self.sums.add(place, || Ok(found.detach()))?;
            }
        }
        Ok(())
    }

    /// The gradients that were added, place by place; none for frozen parameters.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        let numbers = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) => gradient.flatten_all()?.to_vec1(),
            None => Ok(Vec::new()),
        };
        Ok(self.sums.of.iter().map(numbers).collect::<CandleResult<_>>()?)
    }

    /// The sum of the squares of all gradients that were added.
    pub fn squares(&self) -> Result<f64, TrainError> {
        let each = self.sums.of.iter().flatten().map(|g| g.sqr()?.sum_all());
        let each: Vec<Tensor> = each.collect::<CandleResult<_>>()?;
        if each.is_empty() {
            return Ok(0.0);
        }
        let each: Vec<f32> = Tensor::stack(&each, 0)?.to_vec1()?;
        Ok(each.into_iter().map(f64::from).sum())
    }

    /// Changes all parameters by the gradients, and forgets these.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        optimiser: &mut Optimiser,
        (norm, rate): (f64, f64),
    ) -> Result<(), TrainError> {
        optimiser.steps += 1;
        let step = optimiser.numbers(rate, norm);
        let parts = self.values.iter().zip(&mut self.sums.of).zip(&mut self.moments);
        for (((value, gradient), moments), parameter) in parts.zip(&parameters.0) {
            let Some(moments) = moments else { continue };
            let gradient = gradient.take().map_or_else(|| value.zeros_like(), Ok)?;
            adam::step(&step, parameter.kind, (value, &gradient.detach()), moments)?;
        }
        Ok(())
    }

    /// Writes parameters and moments back to where models and states are saved from.
    pub fn to_host(
        &self,
        parameters: &mut Parameters,
        optimiser: &mut Optimiser,
    ) -> Result<(), TrainError> {
        let parts = self.values.iter().zip(&self.moments).zip(&mut parameters.0);
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
