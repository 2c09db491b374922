//! A whole corpus as the target: a question should rank its passages as the teacher ranks them for
//! the question's translation, and passages that hold an answer higher.
//!
//! `L = 1/N Σ_i Σ_p P_T(p|i) (log P_T(p|i) - log P_S(p|i))` over all passages p, with
//! `P_T(p|i) ∝ exp(t(i,p) + β a(i,p))`: t are the teacher's scores over its temperature, a is 1 for
//! a passage that holds an answer of question i. By Bayes' rule that is what the teacher believes
//! once it is told the answer, if a passage that answers is e^β times as likely to hold it as
//! another. The first part is knowledge distillation (Hinton et al. 2015, arXiv 1503.02531) across
//! languages, as Reimers and Gurevych 2020 (arXiv 2004.09813) do with embeddings.

use rayon::prelude::*;

use super::{Loss, Scores, log_softmax};

/// The divergence from the teacher; `holders` are for each query the passages that hold an answer,
/// whose scores `bonus` is added to.
pub fn corpus_kl(student: &Scores, teacher: &Scores, holders: &[&[u32]], bonus: f64) -> Loss {
    let mut loss = Loss::zero(student.values.len());
    let share = 1.0 / student.queries.max(1) as f64;
    let rows = loss.grad.par_chunks_mut(student.passages).enumerate();
    let one = |(query, grad): (usize, &mut [f64])| {
        let mut told = teacher.row(query).to_vec();
        holders[query].iter().for_each(|&passage| told[passage as usize] += bonus);
        let target = log_softmax(&told, |_| true);
        let logs = log_softmax(student.row(query), |_| true);
        let mut value = 0.0;
        for ((g, s), t) in grad.iter_mut().zip(&logs).zip(&target) {
            let p = t.exp();
            *g = share * (s.exp() - p);
            value += p * (t - s);
        }
        value
    };
    // Each query's value apart, so that the sum's order is fixed.
    let values: Vec<f64> = rows.map(one).collect();
    loss.value = values.iter().sum::<f64>() * share;
    loss
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
        let loss = corpus_kl(&student, &teacher(), &holders, ln(2.0));
        // Target (1/4, 1/4, 1/2), student (1/2, 1/4, 1/4): 1/4 ln(1/2) + 1/2 ln 2 = 1/4 ln 2.
        assert!((loss.value - 0.5 * 0.25 * ln(2.0)).abs() < 1e-12, "{}", loss.value);
        let expected = [0.125, 0.0, -0.125, 0.0, 0.0, 0.0];
        assert!(loss.grad.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12));
        check_slope(&scores, 3, |scores| corpus_kl(scores, &teacher(), &holders, 0.7));
    }
}
