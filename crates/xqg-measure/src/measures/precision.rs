//! Precision at a cut.

use super::Judged;

/// The relevant passages among the first `cut` over `cut`, even where the ranking is shorter, as
/// in trec_eval.
///
/// Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, section 8.4.
pub fn precision(judged: &Judged, cut: usize) -> f64 {
    judged.hits(cut) as f64 / cut.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::judged;
    use super::*;

    #[test]
    fn a_short_ranking_is_divided_by_the_cut_all_the_same() {
        assert_eq!(precision(&judged(&[1, 0, 2], &[]), 2), 0.5);
        assert_eq!(precision(&judged(&[1, 0, 2], &[]), 5), 0.4);
    }
}
