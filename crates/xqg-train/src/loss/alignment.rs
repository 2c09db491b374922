//! Cross-language alignment: a question and its counterpart in another language should see the same
//! distribution over passages.
//!
//! `L = 1/(2M) Σ_(a,b) [ KL(P_a ‖ P_b) + KL(P_b ‖ P_a) ]` over M pairs of rows, each P the softmax of
//! a row over all passages of the batch. This is the symmetric form of the enhancement that QuiCK
//! (Ren et al. 2022, arXiv 2303.14991) describes in words; the paper's own formula was not at hand.
//! KL(a‖b) + KL(b‖a) is Jeffreys' divergence, `Σ (p - q)(log p - log q)`.

use super::{Loss, Scores, log_softmax};

/// The loss over pairs of rows that ask the same in two languages.
pub fn alignment(scores: &Scores, pairs: &[(usize, usize)]) -> Loss {
    let mut loss = Loss::zero(scores.values.len());
    let share = 0.5 / pairs.len().max(1) as f64;
    for &(a, b) in pairs {
        let [log_p, log_q] = [a, b].map(|row| log_softmax(scores.row(row), |_| true));
        let gaps: Vec<f64> = log_p.iter().zip(&log_q).map(|(p, q)| p - q).collect();
        let sum = |weights: &[f64]| -> f64 {
            weights.iter().zip(&gaps).map(|(log, gap)| log.exp() * gap).sum()
        };
        let (forward, backward) = (sum(&log_p), -sum(&log_q));
        loss.value += share * (forward + backward);
        for (j, gap) in gaps.iter().enumerate() {
            let (p, q) = (log_p[j].exp(), log_q[j].exp());
            // d KL(p‖q)/d s_a = p (gap - KL(p‖q)), d KL(q‖p)/d s_a = p - q; and the mirror image.
            loss.grad[a * scores.passages + j] += share * (p * (gap - forward) + p - q);
            loss.grad[b * scores.passages + j] += share * (q * (-gap - backward) + q - p);
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_slope;
    use super::*;

    #[test]
    fn by_hand() {
        let ln = f64::ln;
        // Rows of softmax (1/2, 1/2), (1/4, 3/4) and one that is in no pair.
        let scores = [0.0, 0.0, 0.0, ln(3.0), 9.0, 1.0];
        let loss = alignment(&Scores::from_values(scores.to_vec(), 2), &[(0, 1)]);
        // Jeffreys: (1/2 - 1/4) ln 2 + (1/2 - 3/4) ln(2/3) = 1/4 ln 3; its half is the loss.
        assert!((loss.value - 0.125 * ln(3.0)).abs() < 1e-12);
        assert_eq!(loss.grad[4..], [0.0, 0.0]);
        check_slope(&scores, 2, |scores| alignment(scores, &[(0, 1), (2, 1)]));
    }

    #[test]
    fn equal_rows_are_aligned() {
        let loss = alignment(&Scores::from_values(vec![1.0, 2.0, 3.0, 4.0], 2), &[(0, 1)]);
        assert!(loss.value.abs() < 1e-15 && loss.grad.iter().all(|g| g.abs() < 1e-15));
    }
}
