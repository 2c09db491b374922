//! A whole corpus as the target: a question should rank its passages as the teacher ranks them for
//! the question's translation, and passages that hold an answer, or are of the kind that holds
//! answers, higher.
//!
//! `L = Σ_i w_i Σ_p P_T(p|i) (log P_T(p|i) - log P_S(p|i)) / Σ_i w_i` over all passages p, with
//! `P_T(p|i) ∝ exp(t(i,p) + β a(i,p) + γ b(p))`, w is 1 but for questions whose answer some passage
//! holds, which are the ones that a ranking is judged by: t are the teacher's scores over its temperature, a
//! is 1 for a passage that holds an answer of question i, b a prior of the passages ([`prior`]). By
//! Bayes' rule that is what the teacher believes once it is told the answer, if a passage that answers
//! is e^β times as likely to hold it as another, and passages hold answers as often as the prior says
//! before anything is asked: the prior of documents in query likelihood retrieval (Kraaij, Westerveld
//! and Hiemstra 2002, The Importance of Prior Probabilities for Entry Page Search). The first part is
//! knowledge distillation (Hinton et al. 2015, arXiv 1503.02531) across languages, as Reimers and
//! Gurevych 2020 (arXiv 2004.09813) do with embeddings.

use rayon::prelude::*;

use super::{Loss, Scores, log_softmax};

/// What the teacher is told about answers.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// For each query the passages that hold an answer.
    pub holders: &'a [&'a [u32]],
    /// β: what is added to their scores.
    pub bonus: f64,
    /// b: a number for each passage; none is as good as zeros.
    pub prior: &'a [f64],
    /// γ: how often it is added.
    pub prior_weight: f64,
    /// w of a question whose answer some passage holds; that of another is 1.
    pub weight: f64,
}

impl Told<'_> {
    /// What part of the loss each of the first `queries` queries has.
    fn parts(&self, queries: usize) -> Vec<f64> {
        let weight = |rows: &&[u32]| if rows.is_empty() { 1.0 } else { self.weight };
        let weights: Vec<f64> = self.holders[..queries].iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    }
}

/// b(p) = ln(1 + Σ_i a(i,p) / Σ_p' a(i,p')): the logarithm of the answers that lie in each of
/// `passages` passages, where a question whose answer is in n passages gives each 1/n, and every
/// passage has one for nothing.
pub fn prior<'a>(holders: impl IntoIterator<Item = &'a [u32]>, passages: usize) -> Vec<f64> {
    let mut shares = vec![0.0; passages];
    for rows in holders {
        rows.iter().for_each(|&row| shares[row as usize] += 1.0 / rows.len() as f64);
    }
    shares.into_iter().map(f64::ln_1p).collect()
}

/// The divergence from the teacher.
pub fn corpus_kl(student: &Scores, teacher: &Scores, told: &Told<'_>) -> Loss {
    let mut loss = Loss::zero(student.values.len());
    let parts = told.parts(student.queries);
    let rows = loss.grad.par_chunks_mut(student.passages).enumerate();
    let one = |(query, grad): (usize, &mut [f64])| {
        let target = log_softmax(&informed(teacher.row(query), query, told), |_| true);
        let logs = log_softmax(student.row(query), |_| true);
        let mut value = 0.0;
        for ((g, s), t) in grad.iter_mut().zip(&logs).zip(&target) {
            let p = t.exp();
            *g = parts[query] * (s.exp() - p);
            value += p * (t - s);
        }
        parts[query] * value
    };
    // Each query's value apart, so that the sum's order is fixed.
    let values: Vec<f64> = rows.map(one).collect();
    loss.value = values.iter().sum();
    loss
}

/// A query's scores with what is known of answers.
fn informed(scores: &[f64], query: usize, told: &Told<'_>) -> Vec<f64> {
    let mut scores = scores.to_vec();
    told.holders[query].iter().for_each(|&passage| scores[passage as usize] += told.bonus);
    scores.iter_mut().zip(told.prior).for_each(|(score, b)| *score += told.prior_weight * b);
    scores
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_slope;
    use super::*;

    fn teacher() -> Scores {
        Scores::from_values(vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3)
    }

    #[test]
    fn by_hand() {
        let ln = f64::ln;
        // The first query's answer is in passage 2, which gets weight 2 of 4; the second has none.
        let scores = [ln(2.0), 0.0, 0.0, 0.0, 0.0, 0.0];
        let holders: [&[u32]; 2] = [&[2], &[]];
        let student = Scores::from_values(scores.to_vec(), 3);
        let told =
            Told { holders: &holders, bonus: ln(2.0), prior: &[], prior_weight: 1.0, weight: 1.0 };
        let loss = corpus_kl(&student, &teacher(), &told);
        // Target (1/4, 1/4, 1/2), student (1/2, 1/4, 1/4): 1/4 ln(1/2) + 1/2 ln 2 = 1/4 ln 2.
        assert!((loss.value - 0.5 * 0.25 * ln(2.0)).abs() < 1e-12, "{}", loss.value);
        let expected = [0.125, 0.0, -0.125, 0.0, 0.0, 0.0];
        assert!(loss.grad.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12));
        // Counted three times, the first has 3/4 of the loss.
        let told = Told { weight: 3.0, ..told };
        let loss = corpus_kl(&student, &teacher(), &told);
        assert!((loss.value - 0.75 * 0.25 * ln(2.0)).abs() < 1e-12, "{}", loss.value);
        assert!((loss.grad[0] - 0.75 * 0.25).abs() < 1e-12, "{:?}", loss.grad);
        let told = Told { bonus: 0.7, prior: &[0.3, 0.0, 1.1], prior_weight: 2.0, ..told };
        check_slope(&scores, 3, |scores| corpus_kl(scores, &teacher(), &told));
    }

    #[test]
    fn a_prior_by_hand() {
        let ln = f64::ln;
        // Passage 2 holds the first answer alone, and shares the second one with passage 0.
        let holders: [&[u32]; 3] = [&[2], &[0, 2], &[]];
        let b = prior(holders, 3);
        assert!(b.iter().zip([1.5, 1.0, 2.5]).all(|(b, e)| (b - ln(e)).abs() < 1e-12), "{b:?}");
        // Weight two squares the shares: target (9, 4, 25) / 38, student even.
        let told = Told { holders: &[&[]], bonus: 5.0, prior: &b, prior_weight: 2.0, weight: 4.0 };
        let even = || Scores::from_values(vec![0.0; 3], 3);
        let loss = corpus_kl(&even(), &even(), &told);
        let expected: f64 =
            [9.0, 4.0, 25.0].map(|w: f64| w / 38.0 * ln(3.0 * w / 38.0)).iter().sum();
        assert!((loss.value - expected).abs() < 1e-12, "{} {expected}", loss.value);
        assert!((loss.grad[0] - (1.0 / 3.0 - 9.0 / 38.0)).abs() < 1e-12, "{:?}", loss.grad);
    }
}
