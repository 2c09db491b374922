//! Fusing a passage's embedding with those of its questions (Zhuang, Shou and Zuccon, SIGIR 2023,
//! section 3): `E'(p) = (1 - alpha) E(p) + alpha * reduce(E(q))`, where the paper's code sums the
//! questions and a mean makes alpha independent of how many there are. The plain form stands here;
//! the search uses that the score is linear in the parts, and is tested against it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xqg_data::lang::Lang;

use crate::error::{IndexError, Result};

/// The share of the questions where nobody says one: in the middle of the range in which true
/// questions helped most, mean and renormalised.
pub const DEFAULT_SHARE: f32 = 0.4;

/// How the embeddings of a passage's questions become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduce {
    /// Their sum, as the paper's code has it.
    Sum,
    /// Their mean; with weights of languages, the weighted mean.
    #[default]
    Mean,
}

/// How much the questions count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The formula's alpha, from 0 to 1.
    Alpha(f32),
    /// The part of the whole weight that belongs to the questions, from 0 to 1. For a mean this is
    /// alpha; for a sum of n questions it is `alpha n / (1 - alpha + alpha n)`, with the
    /// collection's mean n over the passages that have questions.
    Share(f32),
}

impl Weight {
    /// The formula's alpha, for `questions` questions a passage on average.
    pub fn alpha(self, reduce: Reduce, questions: f32) -> f32 {
        match (self, reduce) {
            (Self::Alpha(alpha), _) => alpha,
            (Self::Share(share), Reduce::Mean) => share,
            (Self::Share(share), Reduce::Sum) if questions > 0.0 => {
                share / (share + questions * (1.0 - share))
            }
            (Self::Share(_), Reduce::Sum) => 0.0,
        }
    }

    /// Whether the questions count at all.
    pub fn counts(self) -> bool {
        let (Self::Alpha(value) | Self::Share(value)) = self;
        value > 0.0
    }

    /// Checks that the number lies between 0 and 1.
    ///
    /// # Errors
    /// [`IndexError::Setting`].
    pub fn check(self) -> Result<()> {
        let (name, value) = match self {
            Self::Alpha(value) => ("--alpha", value),
            Self::Share(value) => ("--share", value),
        };
        if (0.0..=1.0).contains(&value) {
            return Ok(());
        }
        let (expected, found) = ("a number from 0 to 1", value.to_string());
        Err(IndexError::Setting { name, expected, found })
    }
}

/// Which languages' questions count, and how much.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LangWeights {
    /// Weights of single languages; the others weigh 1.
    pub weights: BTreeMap<Lang, f32>,
    /// Whether a query uses only the questions in its own language; without a language it uses none.
    pub match_query: bool,
}

impl LangWeights {
    /// The weight of a language's questions for a query in `query` language.
    pub fn weight(&self, lang: Lang, query: Option<Lang>) -> f32 {
        if self.match_query && query != Some(lang) {
            return 0.0;
        }
        self.weights.get(&lang).copied().unwrap_or(1.0)
    }

    /// Checks that all weights are finite and not negative.
    ///
    /// # Errors
    /// [`IndexError::Setting`].
    pub fn check(&self) -> Result<()> {
        match self.weights.iter().find(|(_, w)| !w.is_finite() || **w < 0.0) {
            None => Ok(()),
            Some((lang, w)) => {
                let (name, expected) = ("--lang-weights", "weights of 0 or more");
                Err(IndexError::Setting { name, expected, found: format!("{lang}={w}") })
            }
        }
    }
}

/// One language's questions of one passage: their weight, the sum of their embeddings, how many.
#[derive(Debug, Clone, Copy)]
pub struct LangSum<'a> {
    /// The language's weight.
    pub weight: f32,
    /// The sum of the embeddings.
    pub sum: &'a [f32],
    /// How many embeddings are in the sum.
    pub count: u32,
}

/// The weighted sum or mean of the questions; zeros where there are none. Writes `out`.
pub fn reduce_questions<'a>(
    parts: impl IntoIterator<Item = LangSum<'a>>,
    reduce: Reduce,
    out: &mut [f32],
) {
    out.fill(0.0);
    let mut count = 0.0;
    for part in parts {
        count += part.weight * part.count as f32;
        for (o, s) in out.iter_mut().zip(part.sum) {
            *o += part.weight * s;
        }
    }
    if reduce == Reduce::Mean && count > 0.0 {
        out.iter_mut().for_each(|o| *o /= count);
    }
}

/// The score of a fused vector from its parts' products with the query, `(q·d, q·s)`, and the
/// products of the parts themselves, `[d·d, d·s, s·s]`; see [`crate::search`] for the formula.
pub fn fused_score(
    alpha: f32,
    (q_d, q_s): (f32, f32),
    lengths: [f32; 3],
    renormalize: bool,
) -> f32 {
    if alpha == 0.0 {
        return q_d;
    }
    let score = (1.0 - alpha) * q_d + alpha * q_s;
    if !renormalize {
        return score;
    }
    let (a, b, [dd, ds, ss]) = (f64::from(1.0 - alpha), f64::from(alpha), lengths.map(f64::from));
    let square = a * a * dd + 2.0 * a * b * ds + b * b * ss;
    if square > 0.0 { score * (1.0 / square.sqrt()) as f32 } else { 0.0 }
}

/// The fused vector of one passage, plainly: `(1 - alpha) d + alpha * questions`, scaled to length
/// one where asked. With alpha 0 it is `d` itself, untouched.
pub fn fuse(d: &[f32], questions: &[f32], alpha: f32, renormalize: bool) -> Vec<f32> {
    let mut fused = d.to_vec();
    fuse_into(&mut fused, questions, alpha, renormalize);
    fused
}

/// As [`fuse`], in place of the passage's embedding.
pub fn fuse_into(d: &mut [f32], questions: &[f32], alpha: f32, renormalize: bool) {
    if alpha == 0.0 {
        return;
    }
    d.iter_mut().zip(questions).for_each(|(d, q)| *d = (1.0 - alpha) * *d + alpha * q);
    if renormalize {
        let length = d.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            d.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_papers_setting_has_a_share_of_a_quarter() {
        // 35 questions summed at alpha 0.01 weigh 0.35 against 0.99.
        let share = 0.35 / 1.34;
        let alpha = Weight::Share(share).alpha(Reduce::Sum, 35.0);
        assert!((alpha - 0.01).abs() < 1e-6);
        assert_eq!(Weight::Share(0.3).alpha(Reduce::Mean, 35.0), 0.3);
        assert_eq!(Weight::Share(0.3).alpha(Reduce::Sum, 0.0), 0.0);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(Weight::Alpha(1.5).check().is_err() && Weight::Share(f32::NAN).check().is_err());
        let negative = [("te".parse().unwrap(), -1.0)].into();
        assert!(LangWeights { weights: negative, match_query: false }.check().is_err());
    }

    proptest! {
        #[test]
        fn a_mean_does_not_depend_on_repetition(
            q in proptest::collection::vec(-1f32..1.0, 4), times in 1u32..6
        ) {
            let sum: Vec<f32> = q.iter().map(|x| x * times as f32).collect();
            let mut out = vec![9.0; 4];
            let part = LangSum { weight: 0.5, sum: &sum, count: times };
            reduce_questions([part], Reduce::Mean, &mut out);
            for (a, b) in out.iter().zip(&q) {
                prop_assert!((a - b).abs() < 1e-5);
            }
        }

        #[test]
        fn fusing_is_linear_and_the_identity_at_zero(
            d in proptest::collection::vec(-1f32..1.0, 4),
            q in proptest::collection::vec(-1f32..1.0, 4),
            alpha in 0f32..1.0,
        ) {
            prop_assert_eq!(fuse(&d, &q, 0.0, true), d.clone());
            let fused = fuse(&d, &q, alpha, false);
            for i in 0..4 {
                prop_assert!((fused[i] - ((1.0 - alpha) * d[i] + alpha * q[i])).abs() < 1e-6);
            }
            let unit = fuse(&d, &q, alpha.max(0.01), true);
            let length: f32 = unit.iter().map(|x| x * x).sum();
            prop_assert!((length - 1.0).abs() < 1e-4);
        }
    }
}
