//! Reciprocal rank, whose mean over queries is MRR.

use super::Judged;

/// One over the rank of the first relevant passage among the first `cut`; 0 where there is none.
///
/// Voorhees, The TREC-8 question answering track report, TREC 1999.
pub fn reciprocal_rank(judged: &Judged, cut: usize) -> f64 {
    let first = judged.first(cut).iter().position(|&grade| grade > 0);
    first.map_or(0.0, |i| 1.0 / (i + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::super::judged;
    use super::*;

    #[test]
    fn by_hand() {
        let ranking = judged(&[0, -1, 1, 3], &[]);
        assert_eq!(reciprocal_rank(&ranking, usize::MAX), 1.0 / 3.0);
        assert_eq!(reciprocal_rank(&ranking, 2), 0.0);
    }
}
