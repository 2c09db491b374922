//! Normalised discounted cumulative gain at a cut.

use super::Judged;

/// `DCG / ideal DCG` over the first `cut` ranks, with `DCG = sum of grade_i / log2(i + 1)` over the
/// ranks `i` from 1. The ideal ranks all judged passages by grade, whether the run found them or
/// not. As trec_eval's `ndcg_cut`, the gain is the grade itself, not `2^grade - 1`. A query
/// without relevant passages scores 0.
///
/// Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 20(4), 2002.
pub fn ndcg(judged: &Judged, cut: usize) -> f64 {
    let ideal = dcg(&judged.ideal()[..cut.min(judged.relevant())]);
    if ideal > 0.0 { dcg(judged.first(cut)) / ideal } else { 0.0 }
}

fn dcg(grades: &[u32]) -> f64 {
    let gain = |(i, &grade): (usize, &u32)| f64::from(grade) / ((i + 2) as f64).log2();
    grades.iter().enumerate().map(gain).sum()
}

#[cfg(test)]
mod tests {
    use super::super::judged;
    use super::*;

    #[test]
    fn by_hand() {
        // DCG = 1/log2(2) + 0 + 2/log2(4) = 2; ideal = 2/1 + 1/log2(3).
        let value = ndcg(&judged(&[1, 0, 2], &[]), 10);
        assert!((value - 2.0 / (2.0 + 1.0 / 3f64.log2())).abs() < 1e-15);
        assert_eq!(ndcg(&judged(&[2, 1, 0], &[]), 2), 1.0);
        assert_eq!(ndcg(&judged(&[0, -1], &[]), 2), 0.0);
    }
}
