//! InfoNCE: each query should prefer its positive passage to every other passage of the batch.
//!
//! `L = -1/N Σ_i log( e^{s(i,+)} / Σ_{j counted for i} e^{s(i,j)} )`, with s the scores over the
//! temperature (van den Oord et al. 2018, arXiv 1807.03748, eq. 4; with in-batch and hard negatives
//! as in DPR, Karpukhin et al. 2020, arXiv 2004.04906, section 3.2). Not counted are passages that
//! are no negatives of the query: other positives of it, passages that hold one of its answers, and,
//! where a margin is set, those that score above the positive by more than it allows, for these are
//! more often unlabelled positives than errors (the false-negative rule of sentence-transformers'
//! cached GIST loss and of NV-Retriever, arXiv 2407.15831, section 3).

use super::{Loss, Scores, log_softmax};

/// Which passages count for which query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// The column of each query's positive.
    pub positives: Vec<usize>,
    /// For each query the columns that are neither its positive nor negatives of it.
    pub ignored: Vec<Vec<usize>>,
}

/// The loss over a batch; `margin` is added to a positive's score to find false negatives.
pub fn info_nce(scores: &Scores, targets: &Targets, margin: Option<f64>) -> Loss {
    let mut loss = Loss::zero(scores.values.len());
    let share = 1.0 / scores.queries as f64;
    for (query, &positive) in targets.positives.iter().enumerate() {
        let row = scores.row(query);
        let ignored = targets.ignored.get(query).map_or(&[][..], Vec::as_slice);
        let limit = margin.map_or(f64::INFINITY, |margin| row[positive] + margin);
        let counts = |j: usize| j == positive || (row[j] <= limit && !ignored.contains(&j));
        let logs = log_softmax(row, counts);
        loss.value -= logs[positive] * share;
        let grad = &mut loss.grad[query * scores.passages..][..scores.passages];
        grad.iter_mut().zip(&logs).for_each(|(g, log)| *g = log.exp() * share);
        grad[positive] -= share;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_slope;
    use super::*;

    fn targets() -> Targets {
        Targets { positives: vec![0, 2], ignored: vec![vec![2], vec![]] }
    }

    const SCORES: [f64; 6] = [1.0, 0.0, 5.0, 0.5, -0.5, 0.25];

    #[test]
    fn by_hand() {
        let scores = Scores::from_values(SCORES.to_vec(), 3);
        let loss = info_nce(&scores, &targets(), None);
        // Query 0 ignores passage 2: -ln(e / (e + 1)); query 1: -ln(e^.25 / (e^.5 + e^-.5 + e^.25)).
        let first = -(1f64.exp() / (1f64.exp() + 1.0)).ln();
        let second = -(0.25f64.exp() / (0.5f64.exp() + (-0.5f64).exp() + 0.25f64.exp())).ln();
        assert!((first - 0.313_261_687).abs() < 1e-9);
        assert!((loss.value - (first + second) / 2.0).abs() < 1e-12);
        assert_eq!(loss.grad[2], 0.0, "an ignored passage is not pushed away");
        assert!(loss.grad[0] < 0.0 && loss.grad[1] > 0.0);
        check_slope(&SCORES, 3, |scores| info_nce(scores, &targets(), None));
    }

    #[test]
    fn what_scores_above_the_positive_by_more_than_the_margin_is_left_out() {
        let scores = Scores::from_values(SCORES.to_vec(), 3);
        let all = Targets { positives: vec![0, 2], ignored: vec![] };
        let loss = info_nce(&scores, &all, Some(0.2));
        // Query 0 loses passage 2 (5 > 1.2), query 1 passage 0 (0.5 > 0.45).
        let first = -(1f64.exp() / (1f64.exp() + 1.0)).ln();
        let second = -(0.25f64.exp() / ((-0.5f64).exp() + 0.25f64.exp())).ln();
        assert!((loss.value - (first + second) / 2.0).abs() < 1e-12);
    }
}
