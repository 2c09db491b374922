//! AdamW with two groups (biases and norms do not decay), clipping and a learning rate that warms up
//! and decays. Its result is PyTorch's over all numbers; the moments of a table's rows begin when a
//! row is first touched, for before that they are zero.

use std::collections::BTreeMap;

use rayon::prelude::*;
use xqg_kernel::gradient::AdamStep;

use crate::gradients::{Gradient, Gradients, Rows};
use crate::parameters::{Kind, Parameters};

/// Numbers that one thread updates in one piece.
const PIECE: usize = 1 << 16;

/// The settings of AdamW (Loshchilov and Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// How slowly the first moment forgets.
    pub beta1: f32,
    /// How slowly the second moment forgets.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Share of itself, times the learning rate, that a weight loses each step.
    pub decay: f32,
    /// Gradients longer than this are scaled down to it; infinite for no clipping.
    pub clip: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01, clip: 1.0 }
    }
}

/// The two moments of one parameter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    /// For a table, where each row that was ever touched lies below; empty for the others.
    pub places: BTreeMap<u32, usize>,
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
}

/// AdamW and what it remembers.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimiser {
    /// The settings.
    pub settings: AdamW,
    /// Steps taken.
    pub steps: u64,
    /// The moments, place by place as the parameters.
    pub moments: Vec<Moments>,
}

impl Optimiser {
    /// An optimiser that has taken no step.
    pub fn new(settings: AdamW, parameters: &Parameters) -> Self {
        let zero = |p: &crate::parameters::Parameter| match p.kind {
            Kind::Weight | Kind::Plain => {
                let zeros = vec![0.0; p.values.len()];
                Moments { first: zeros.clone(), second: zeros, ..Moments::default() }
            }
            Kind::Table | Kind::Frozen => Moments::default(),
        };
        Self { settings, steps: 0, moments: parameters.0.iter().map(zero).collect() }
    }

    /// One step with a learning rate; returns the norm of the gradients before clipping.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &Gradients, rate: f64) -> f64 {
        let norm = gradients.norm();
        self.step_of_norm(parameters, gradients, (norm, rate));
        norm
    }

    /// One step where the norm, by which gradients are clipped, is known: that of several networks
    /// together.
    pub fn step_of_norm(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        (norm, rate): (f64, f64),
    ) {
        self.steps += 1;
        let step = self.numbers(rate, norm);
        let all = parameters.0.iter_mut().zip(&gradients.0).zip(&mut self.moments);
        for ((parameter, gradient), moments) in all {
            let decay = if parameter.kind == Kind::Plain { 0.0 } else { step.decay };
            let step = AdamStep { decay, ..step };
            match gradient {
                Gradient::Dense(g) => dense(&step, &mut parameter.values, g, moments),
                Gradient::Rows(rows) => table(&step, &mut parameter.values, rows, moments),
                Gradient::Frozen => {}
            }
        }
    }

    /// The numbers of the step that was counted last.
    pub(crate) fn numbers(&self, rate: f64, norm: f64) -> AdamStep {
        let AdamW { beta1, beta2, eps, decay, clip } = self.settings;
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(self.steps as f64)) as f32;
        // As PyTorch's clip_grad_norm_.
        let gradient_scale = (clip / (norm + 1e-6)).min(1.0) as f32;
        let (correction1, correction2) = (correction(beta1), correction(beta2));
        let rate = rate as f32;
        AdamStep { rate, beta1, beta2, eps, decay, correction1, correction2, gradient_scale }
    }
}

/// Updates all numbers of a parameter.
fn dense(step: &AdamStep, values: &mut [f32], gradient: &[f32], moments: &mut Moments) {
    let pieces = values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
    let moments = moments.first.par_chunks_mut(PIECE).zip(moments.second.par_chunks_mut(PIECE));
    pieces.zip(moments).for_each(|((values, g), (m, v))| step.apply(values, g, m, v));
}

/// Updates the rows of a table that were ever touched; the others only decay.
fn table(step: &AdamStep, values: &mut [f32], rows: &Rows, moments: &mut Moments) {
    for &number in rows.places.keys() {
        let next = moments.places.len();
        moments.places.entry(number).or_insert(next);
    }
    let size = moments.places.len() * rows.width;
    moments.first.resize(size, 0.0);
    moments.second.resize(size, 0.0);
    let Moments { places, first, second } = moments;
    let zeros = vec![0.0; rows.width];
    let keep = 1.0 - step.rate * step.decay;
    let mut slots: Vec<Option<(&mut [f32], &mut [f32])>> =
        first.chunks_mut(rows.width).zip(second.chunks_mut(rows.width)).map(Some).collect();
    let mut work: Vec<_> = Vec::with_capacity(slots.len());
    let mut rest = &mut values[..];
    let mut at = 0;
    for (&number, &place) in places.iter() {
        let start = number as usize * rows.width;
        let (between, tail) = std::mem::take(&mut rest).split_at_mut(start - at);
        let (row, tail) = tail.split_at_mut(rows.width);
        (rest, at) = (tail, start + rows.width);
        decay_only(keep, between);
        let gradient = rows
            .places
            .get(&number)
            .map_or(&zeros[..], |&p| &rows.values[p * rows.width..][..rows.width]);
        let (m, v) = slots[place].take().expect("each row has moments of its own");
        work.push((row, gradient, m, v));
    }
    decay_only(keep, rest);
    work.into_par_iter().with_min_len(64).for_each(|(row, g, m, v)| step.apply(row, g, m, v));
}

fn decay_only(keep: f32, values: &mut [f32]) {
    if keep != 1.0 {
        values.par_chunks_mut(PIECE).for_each(|piece| piece.iter_mut().for_each(|x| *x *= keep));
    }
}

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// In a straight line to zero.
    #[default]
    Linear,
    /// Along half a cosine to zero.
    Cosine,
    /// Not at all.
    Constant,
}

/// The learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The greatest rate.
    pub peak: f64,
    /// Steps until it is reached, in a straight line from zero.
    pub warmup: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of a step, the first being 0; as transformers' schedulers of the same names.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let after = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let share = ((step - self.warmup) as f64 / after).min(1.0);
        self.peak
            * match self.decay {
                Decay::Linear => 1.0 - share,
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
                Decay::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameter;
    use proptest::prelude::*;

    #[test]
    fn rates_by_hand() {
        let schedule = |decay| Schedule { peak: 2.0, warmup: 4, steps: 12, decay };
        let rates = |decay| [0, 2, 4, 8, 12].map(|step| schedule(decay).rate(step));
        assert_eq!(rates(Decay::Linear), [0.0, 1.0, 2.0, 1.0, 0.0]);
        assert_eq!(rates(Decay::Constant), [0.0, 1.0, 2.0, 2.0, 2.0]);
        let cosine = rates(Decay::Cosine);
        assert!((cosine[3] - 1.0).abs() < 1e-12 && cosine[4].abs() < 1e-12);
    }

    fn one(kind: Kind) -> Parameters {
        let values = (0..20).map(|i| i as f32 / 7.0).collect();
        Parameters(vec![Parameter { name: "t".into(), shape: vec![10, 2], values, kind }])
    }

    proptest! {
        /// Rows that are kept as rows change as all numbers of PyTorch's dense AdamW do.
        #[test]
        fn a_table_changes_like_dense_numbers(
            touched in proptest::collection::vec((0u32..10, -2f32..2.0), 1..12),
        ) {
            let (mut table, mut dense) = (one(Kind::Table), one(Kind::Weight));
            let settings = AdamW { decay: 0.1, clip: 1.5, ..AdamW::default() };
            let mut by_rows = Optimiser::new(settings, &table);
            let mut by_numbers = Optimiser::new(settings, &dense);
            for (row, value) in touched {
                let mut rows = Gradients::zeros(&table);
                let mut numbers = Gradients::zeros(&dense);
                if let Gradient::Rows(rows) = &mut rows.0[0] { rows.row(row)[1] = value; }
                numbers.0[0].dense()[row as usize * 2 + 1] = value;
                by_rows.step(&mut table, &rows, 0.01);
                by_numbers.step(&mut dense, &numbers, 0.01);
            }
            prop_assert_eq!(&table.0[0].values, &dense.0[0].values);
        }
    }
}
