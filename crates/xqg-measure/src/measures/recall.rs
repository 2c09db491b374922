//! Recall at a cut.

use super::Judged;

/// The relevant passages among the first `cut` over all relevant passages; 0 where there are none.
///
/// Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, section 8.3.
pub fn recall(judged: &Judged, cut: usize) -> f64 {
    match judged.relevant() {
        0 => 0.0,
        relevant => judged.hits(cut) as f64 / relevant as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::judged;
    use super::*;

    #[test]
    fn by_hand() {
        let ranking = judged(&[1, 0, 3, 1], &[2]);
        assert_eq!((recall(&ranking, 1), recall(&ranking, 3)), (0.25, 0.5));
        assert_eq!(recall(&ranking, 100), 0.75);
        assert_eq!(recall(&judged(&[0], &[-1]), 1), 0.0);
    }
}
