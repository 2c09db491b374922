//! The output layer: which tokens come next, and how likely. Only the rows of tokens that a language
//! may write are multiplied, and what comes out is looked at block by block while it lies in the
//! cache: the likeliest tokens are kept and the softmax's total is summed, nothing else.

use xqg_kernel::isa::Isa;
use xqg_kernel::row::{greatest, sum_exp};

use crate::linear::{Block, Linear, Rows, Worker};

/// Numbers that are summed together: the same ones in any batch, so that the total is the same.
const CHUNK: usize = 512;

/// Numbers of one block of results.
const BLOCK: usize = 1 << 16;

/// The output layer for some tokens.
#[derive(Debug)]
pub(crate) struct Output {
    /// From states to the tokens' scores.
    pub linear: Linear,
    /// The tokens in ascending order; `None` where they are all.
    pub ids: Option<Vec<u32>>,
    /// The kernels.
    pub isa: Isa,
}

/// What was seen of a row's scores: the likeliest tokens, and the total of the softmax.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// How many tokens are kept.
    keep: usize,
    /// Whether these are all tokens: then they are sorted at the end.
    all: bool,
    /// Scores and tokens, the greatest first; of equal ones the lower token.
    top: Vec<(f32, u32)>,
    greatest: f32,
    total: f64,
}

impl Output {
    /// How many tokens may be written.
    pub fn len(&self) -> usize {
        self.linear.output()
    }

    /// Scores rows of states and keeps the `keep` likeliest tokens of each.
    pub fn score(
        &self,
        (rows, x): (usize, Rows),
        keep: usize,
        worker: &mut Worker,
        out: &mut Vec<f32>,
    ) -> Vec<Seen> {
        let mut seen = self.look((rows, x), keep, (worker, out), |_, _, _| ());
        if let Some(ids) = &self.ids {
            let named = seen.iter_mut().flat_map(|seen| &mut seen.top);
            named.for_each(|(_, id)| *id = ids[*id as usize]);
        }
        let unsorted = seen.iter_mut().filter(|s| s.all);
        unsorted.for_each(|s| s.top.sort_by(|a, b| b.0.total_cmp(&a.0)));
        seen
    }

    /// The place of a token in this layer.
    pub fn place(&self, token: u32) -> Option<usize> {
        match &self.ids {
            None => Some(token as usize).filter(|&place| place < self.len()),
            Some(ids) => ids.binary_search(&token).ok(),
        }
    }

    /// The logarithm of one token's probability for each row of states; minus infinity where the layer does
    /// not have it.
    pub fn logs(
        &self,
        (rows, x): (usize, Rows),
        token: u32,
        worker: &mut Worker,
        out: &mut Vec<f32>,
    ) -> Vec<f64> {
        let (mut own, place) = (vec![f64::NEG_INFINITY; rows], self.place(token));
        let seen = self.look((rows, x), 0, (worker, out), |row, first, scores: &[f32]| {
            let here = place.and_then(|place| place.checked_sub(first));
            if let Some(&score) = here.and_then(|at| scores.get(at)) {
                own[row] = f64::from(score);
            }
        });
        own.iter().zip(&seen).map(|(score, seen)| score - seen.log_total()).collect()
    }

    /// Scores rows of states block by block; `each` is shown the number of a row, of its first score, and the
    /// scores.
    fn look(
        &self,
        (rows, x): (usize, Rows),
        keep: usize,
        (worker, out): (&mut Worker, &mut Vec<f32>),
        mut each: impl FnMut(usize, usize, &[f32]),
    ) -> Vec<Seen> {
        let mut seen = vec![Seen::new(keep, self.len()); rows];
        let width = (BLOCK / rows.max(1)).next_multiple_of(CHUNK);
        self.linear.apply_blocks((rows, x), width, worker, out, |block: Block| {
            let Block { first, columns, data, stride } = block;
            for (number, (row, seen)) in data.chunks_exact_mut(stride).zip(&mut seen).enumerate() {
                each(number, first, &row[..columns]);
                // What fills the last panel up is no token.
                row[columns..].fill(f32::MIN);
                for start in (0..columns).step_by(CHUNK) {
                    let end = stride.min(start + CHUNK);
                    seen.add(self.isa, &row[start..end], columns.min(end) - start, first + start);
                }
            }
        });
        seen
    }
}

impl Seen {
    fn new(keep: usize, tokens: usize) -> Self {
        let all = keep >= tokens;
        Self { keep: keep.min(tokens), all, top: Vec::new(), greatest: f32::MIN, total: 0.0 }
    }

    /// Looks at the next scores, of which `columns` are tokens' and the first is number `first`.
    fn add(&mut self, isa: Isa, scores: &[f32], columns: usize, first: usize) {
        let most = greatest(isa, scores);
        if most > self.greatest {
            self.total *= f64::from(self.greatest - most).exp();
            self.greatest = most;
        }
        self.total += f64::from(sum_exp(isa, scores, self.greatest));
        if most > self.least() {
            for (i, &score) in scores[..columns].iter().enumerate() {
                self.offer(score, (first + i) as u32);
            }
        }
    }

    /// What a score must be above of to be kept.
    fn least(&self) -> f32 {
        if self.all || self.top.len() < self.keep {
            f32::NEG_INFINITY
        } else {
            self.top.last().map_or(f32::INFINITY, |t| t.0)
        }
    }

    fn offer(&mut self, score: f32, id: u32) {
        if score <= self.least() {
            return;
        }
        if !self.all && self.top.len() == self.keep {
            self.top.pop();
        }
        let in_order = || self.top.partition_point(|t| t.0 >= score);
        let at = if self.all { self.top.len() } else { in_order() };
        self.top.insert(at, (score, id));
    }

    /// The logarithm of the softmax's total.
    fn log_total(&self) -> f64 {
        f64::from(self.greatest) + self.total.ln()
    }

    /// The likeliest tokens, the likeliest first, with the logarithms of their probabilities.
    pub fn top(&self) -> impl ExactSizeIterator<Item = (f32, u32)> + '_ {
        let total = self.log_total();
        self.top.iter().map(move |&(score, id)| ((f64::from(score) - total) as f32, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{Arithmetic, Precision};
    use proptest::prelude::*;

    fn output(isa: Isa, tokens: usize, weights: &[f32]) -> Output {
        let how = Arithmetic { isa, precision: Precision::F32 };
        let weight = (0..tokens * 4).map(|i| weights[i % weights.len()]).collect();
        let bias = (0..tokens).map(|i| (i as f32 * 0.37).sin()).collect();
        Output { linear: Linear::new(weight, bias, 4, how), ids: None, isa }
    }

    proptest! {
        #[test]
        fn the_likeliest_and_the_total_are_those_of_the_whole_softmax(
            tokens in prop_oneof![1usize..80, Just(511), Just(1200)],
            weights in proptest::collection::vec(-2f32..2.0, 33),
            keep in 1usize..12,
        ) {
            for isa in Isa::available() {
                let x = [0.3f32, -1.0, 2.0, 0.7, 1.0, 1.0, -0.2, 0.1];
                let output = output(isa, tokens, &weights);
                let rows = Rows { data: &x, stride: 4 };
                let score = |keep| {
                    output.score((2, rows), keep, &mut Worker::default(), &mut Vec::new())
                };
                for (few, all) in score(keep).iter().zip(score(usize::MAX)) {
                    let all: Vec<_> = all.top().collect();
                    prop_assert_eq!(all.len(), tokens);
                    let total: f64 = all.iter().map(|t| f64::from(t.0).exp()).sum();
                    prop_assert!((total - 1.0).abs() < 1e-5, "{total}");
                    prop_assert!(all.windows(2).all(|w| w[0].0 >= w[1].0));
                    let few: Vec<_> = few.top().collect();
                    prop_assert_eq!(few.len(), keep.min(tokens));
                    for &(log, token) in [all.first(), all.last()].into_iter().flatten() {
                        let two = (2, Rows { data: &[x, x].concat(), stride: 4 });
                        let logs = output.logs(two, token, &mut Worker::default(), &mut Vec::new());
                        prop_assert!(logs.iter().any(|own| (own - f64::from(log)).abs() < 1e-4));
                    }
                    prop_assert_eq!(&few[..], &all[..few.len()]);
                }
            }
        }
    }
}
