//! What a T5 learns from: pairs of an input and the target that it should write; the loss, its
//! gradients, and the likelihood of targets, by which a generator teaches a retriever.

use candle_core::{D, Result as CandleResult, Tensor};
use xqg_kernel::dropout::{Key, Rate};
use xqg_kernel::gradient::add_to;

use super::ops::{Draws, indices, log_softmax};
use super::t5::{Padded, T5};
use crate::error::TrainError;
use crate::gradients::Gradients;

/// Inputs with their targets, special tokens included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Token ids that the encoder reads.
    pub inputs: Vec<Vec<u32>>,
    /// Token ids that the decoder should write, the end token too.
    pub targets: Vec<Vec<u32>>,
}

/// How a part of a step's pairs is learned from.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Target tokens of the whole step: losses are divided by it.
    pub tokens: usize,
    /// Share of the probability that is asked to lie evenly on all tokens (Szegedy et al. 2016).
    pub smoothing: f64,
    /// What is left out; `None` for nothing.
    pub dropout: Option<(Rate, Key)>,
}

/// Losses summed over target tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// With label smoothing, divided by the step's tokens.
    pub smoothed: f64,
    /// Without, the plain sum.
    pub plain: f64,
    /// The tokens.
    pub tokens: usize,
}

/// The logarithms of target tokens' probabilities, texts x tokens, zero where a target has ended.
struct Logs {
    /// Of the tokens themselves.
    own: Tensor,
    /// The mean over all tokens that there could be.
    mean: Option<Tensor>,
}

impl T5 {
    /// The logarithms of each target token's probability, and the means where they are asked for.
    fn logs(&self, pairs: &Pairs, draws: Option<&Draws>, means: bool) -> CandleResult<Logs> {
        let (inputs, targets) = (Padded::new(&pairs.inputs), Padded::new(&pairs.targets));
        let start = self.config().decoder_start_token_id;
        let shifted = |t: &Vec<u32>| {
            let before = t.split_last().map_or(&[][..], |(_, before)| before);
            std::iter::once(start).chain(before.iter().copied()).collect()
        };
        let begun: Vec<Vec<u32>> = pairs.targets.iter().map(shifted).collect();
        let states = self.encode(&inputs, draws)?;
        let scores = self.decode(&Padded::new(&begun), (&states, &inputs), draws)?;
        let (texts, n, words) = scores.dims3()?;
        let logs = log_softmax(&scores.reshape((texts * n, words))?)?;
        let row = |&length: &usize| (0..n).map(move |j| f32::from(j < length));
        let mask: Vec<f32> = targets.lengths.iter().flat_map(row).collect();
        let mask = Tensor::from_vec(mask, (texts, n), &self.device)?;
        let wanted = indices(targets.ids, &self.device)?.unsqueeze(1)?;
        let own = (logs.gather(&wanted, D::Minus1)?.reshape((texts, n))? * &mask)?;
        let mean = means.then(|| logs.mean(D::Minus1)?.reshape((texts, n))? * &mask).transpose()?;
        Ok(Logs { own, mean })
    }

    /// Adds the gradients of the mean cross-entropy over all target tokens, which is returned.
    /// Nothing is left out where `dropout` is `None`.
    ///
    /// # Errors
    /// When the device refuses, or an id is beyond the embedding.
    pub fn learn(
        &self,
        pairs: &Pairs,
        dropout: Option<(Rate, Key)>,
        gradients: &mut Gradients,
    ) -> Result<f64, TrainError> {
        let tokens = pairs.targets.iter().map(Vec::len).sum();
        let share = Share { tokens, smoothing: 0.0, dropout };
        Ok(self.learn_part(pairs, share, gradients)?.smoothed)
    }

    /// Adds the gradients of a part of a step: of its cross-entropy with label smoothing, divided by
    /// the tokens of the whole step.
    ///
    /// # Errors
    /// As [`T5::learn`].
    pub fn learn_part(
        &self,
        pairs: &Pairs,
        share: Share,
        gradients: &mut Gradients,
    ) -> Result<Losses, TrainError> {
        let draws = share.dropout.map(|(rate, key)| Draws::new(rate, key));
        let Logs { own, mean } = self.logs(pairs, draws.as_ref(), share.smoothing > 0.0)?;
        let own = own.sum_all()?;
        let plain = -f64::from(own.to_scalar::<f32>()?);
        let factor = -1.0 / share.tokens as f64;
        let loss = match mean {
            None => (own * factor)?,
            Some(mean) => {
                let even = (mean.sum_all()? * (factor * share.smoothing))?;
                ((own * (factor * (1.0 - share.smoothing)))? + even)?
            }
        };
        let store = loss.backward()?;
        for (var, gradient) in self.vars.iter().zip(&mut gradients.0) {
            if let Some(found) = store.get(var) {
                let found: Vec<f32> = found.flatten_all()?.to_vec1()?;
                add_to(gradient.dense(), &found);
            }
        }
        let tokens = pairs.targets.iter().map(Vec::len).sum();
        Ok(Losses { smoothed: f64::from(loss.to_scalar::<f32>()?), plain, tokens })
    }

    /// The sums of each target's log-probabilities given its input.
    ///
    /// # Errors
    /// As [`T5::learn`].
    pub fn log_probabilities(&self, pairs: &Pairs) -> Result<Vec<f32>, TrainError> {
        Ok(self.logs(pairs, None, false)?.own.sum(1)?.to_vec1()?)
    }

    /// The mean log-likelihood of each target's tokens given its input: what a query generator
    /// thinks of a question for a passage (Sachan et al. 2022, arXiv 2204.07496, eq. 2).
    ///
    /// # Errors
    /// As [`T5::learn`].
    pub fn likelihoods(&self, pairs: &Pairs) -> Result<Vec<f32>, TrainError> {
        let sums = self.log_probabilities(pairs)?;
        let lengths = pairs.targets.iter().map(|t| t.len().max(1) as f32);
        Ok(sums.into_iter().zip(lengths).map(|(sum, n)| sum / n).collect())
    }
}
