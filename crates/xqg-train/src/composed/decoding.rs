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

impl T5 {
    /// The logarithm of each target token's probability, texts x tokens, zero where a target has
    /// ended.
    fn logs(&self, pairs: &Pairs, draws: Option<&Draws>) -> CandleResult<Tensor> {
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
        let wanted = indices(targets.ids, &self.device)?.unsqueeze(1)?;
        let logs = logs.gather(&wanted, D::Minus1)?.reshape((texts, n))?;
        let row = |&length: &usize| (0..n).map(move |j| f32::from(j < length));
        let mask: Vec<f32> = targets.lengths.iter().flat_map(row).collect();
        logs * Tensor::from_vec(mask, (texts, n), &self.device)?
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
        let draws = dropout.map(|(rate, key)| Draws::new(rate, key));
        let tokens: usize = pairs.targets.iter().map(Vec::len).sum();
        let loss = (self.logs(pairs, draws.as_ref())?.sum_all()? * (-1.0 / tokens as f64))?;
        let store = loss.backward()?;
        for (var, gradient) in self.vars.iter().zip(&mut gradients.0) {
            if let Some(found) = store.get(var) {
                let found: Vec<f32> = found.flatten_all()?.to_vec1()?;
                add_to(gradient.dense(), &found);
            }
        }
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }

    /// The mean log-likelihood of each target's tokens given its input: what a query generator
    /// thinks of a question for a passage (Sachan et al. 2022, arXiv 2204.07496, eq. 2).
    ///
    /// # Errors
    /// As [`T5::learn`].
    pub fn likelihoods(&self, pairs: &Pairs) -> Result<Vec<f32>, TrainError> {
        let sums: Vec<f32> = self.logs(pairs, None)?.sum(1)?.to_vec1()?;
        let lengths = pairs.targets.iter().map(|t| t.len().max(1) as f32);
        Ok(sums.into_iter().zip(lengths).map(|(sum, n)| sum / n).collect())
    }
}
