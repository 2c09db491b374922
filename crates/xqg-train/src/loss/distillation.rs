//! A teacher's scores over a list of candidates as the target: the teacher may be a query generator,
//! whose score is the likelihood of the question given the passage (QuiCK, Ren et al. 2022, arXiv
//! 2303.14991), or a cross-encoder.
//!
//! KL: `L = 1/N Σ_i Σ_c P_T(c|i) (log P_T(c|i) - log P_S(c|i))`, where both are softmaxes over the
//! candidates of query i, the teacher's scores over a temperature of their own (Hinton et al. 2015,
//! arXiv 1503.02531, section 2, without the factor T²).
//! Margin-MSE: `L = 1/M Σ_i Σ_n ((s(i,+) - s(i,n)) - (t(i,+) - t(i,n)))²` over the M pairs of a
//! positive and a candidate (Hofstätter et al. 2020, arXiv 2010.02666, eq. 5).

use super::{Loss, Scores, log_softmax};

/// A query's candidates with the teacher's scores; the first is the positive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    /// Columns of the candidates.
    pub columns: Vec<usize>,
    /// The teacher's score of each.
    pub scores: Vec<f64>,
}

/// The KL divergence from the teacher to the student. Queries without candidates do not count.
pub fn kl(scores: &Scores, teacher: &[Candidates], temperature: f64) -> Loss {
    let mut loss = Loss::zero(scores.values.len());
    let counted = teacher.iter().filter(|c| !c.columns.is_empty()).count();
    let share = 1.0 / counted.max(1) as f64;
    for (query, candidates) in teacher.iter().enumerate() {
        let row = scores.row(query);
        let student: Vec<f64> = candidates.columns.iter().map(|&c| row[c]).collect();
        let student = log_softmax(&student, |_| true);
        let teacher: Vec<f64> = candidates.scores.iter().map(|s| s / temperature).collect();
        let teacher = log_softmax(&teacher, |_| true);
        for ((&column, s), t) in candidates.columns.iter().zip(&student).zip(&teacher) {
            // What the teacher rules out entirely adds nothing.
            if t.is_finite() {
                loss.value += share * t.exp() * (t - s);
            }
            loss.grad[query * scores.passages + column] += share * (s.exp() - t.exp());
        }
    }
    loss
}

/// The squared difference of margins. Queries with fewer than two candidates do not count.
pub fn margin_mse(scores: &Scores, teacher: &[Candidates]) -> Loss {
    let mut loss = Loss::zero(scores.values.len());
    let pairs: usize = teacher.iter().map(|c| c.columns.len().saturating_sub(1)).sum();
    let share = 1.0 / pairs.max(1) as f64;
    for (query, candidates) in teacher.iter().enumerate() {
        let (row, start) = (scores.row(query), query * scores.passages);
        let all: Vec<_> = candidates.columns.iter().zip(&candidates.scores).collect();
        let Some((&(&positive, best), rest)) = all.split_first() else { continue };
        for &(&negative, score) in rest {
            let off = (row[positive] - row[negative]) - (best - score);
            loss.value += share * off * off;
            loss.grad[start + positive] += 2.0 * share * off;
            loss.grad[start + negative] -= 2.0 * share * off;
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_slope;
    use super::*;

    const SCORES: [f64; 6] = [1.0, 0.0, 2.0, 0.5, -0.5, 0.25];

    fn teacher() -> Vec<Candidates> {
        let some = Candidates { columns: vec![0, 1], scores: vec![2f64.ln() * 3.0, 0.0] };
        vec![some, Candidates::default()]
    }

    #[test]
    fn kl_by_hand() {
        let loss = kl(&Scores::from_values(SCORES.to_vec(), 3), &teacher(), 3.0);
        // Teacher 2/3 and 1/3; student e/(e+1) and 1/(e+1).
        let e = 1f64.exp();
        let expected = 2.0 / 3.0 * (2.0 / 3.0 / (e / (e + 1.0))).ln()
            + 1.0 / 3.0 * (1.0 / 3.0 * (e + 1.0)).ln();
        assert!((loss.value - expected).abs() < 1e-12);
        assert!((loss.grad[0] - (e / (e + 1.0) - 2.0 / 3.0)).abs() < 1e-12);
        assert_eq!(loss.grad[2..], [0.0; 4]);
        check_slope(&SCORES, 3, |scores| kl(scores, &teacher(), 3.0));
    }

    #[test]
    fn margins_by_hand() {
        let all = Candidates { columns: vec![2, 0, 1], scores: vec![5.0, 4.5, 1.0] };
        let teacher = [all, Candidates::default()];
        let loss = margin_mse(&Scores::from_values(SCORES.to_vec(), 3), &teacher);
        // Student margins 1 and 2, the teacher's 0.5 and 4: (0.25 + 4) / 2.
        assert!((loss.value - 2.125).abs() < 1e-12);
        assert_eq!(loss.grad, [-0.5, 2.0, -1.5, 0.0, 0.0, 0.0]);
        check_slope(&SCORES, 3, |scores| margin_mse(scores, &teacher));
    }
}
