//! Average precision, whose mean over queries is MAP.

use super::Judged;

/// The sum of the precision at the rank of each relevant passage found, over the number of all
/// relevant passages; 0 where there are none.
///
/// Buckley and Voorhees, Retrieval system evaluation, in TREC: Experiment and Evaluation in
/// Information Retrieval, 2005.
pub fn average_precision(judged: &Judged) -> f64 {
    if judged.relevant() == 0 {
        return 0.0;
    }
    let ranks = judged.grades().iter().enumerate().filter(|&(_, &grade)| grade > 0);
    let precisions = ranks.enumerate().map(|(found, (i, _))| (found + 1) as f64 / (i + 1) as f64);
    precisions.sum::<f64>() / judged.relevant() as f64
}

#[cfg(test)]
mod tests {
    use super::super::judged;
    use super::*;

    #[test]
    fn missed_passages_count_in_the_denominator() {
        // Relevant at ranks 1 and 3, one more not found: (1/1 + 2/3) / 3.
        let value = average_precision(&judged(&[2, 0, 1], &[1]));
        assert!((value - (1.0 + 2.0 / 3.0) / 3.0).abs() < 1e-15);
        assert_eq!(average_precision(&judged(&[0], &[])), 0.0);
    }
}
