//! Whether a difference is real: the paired permutation test and Holm's correction for many tests.
//!
//! The test is Fisher's randomisation test as Smucker, Allan and Carterette recommend it for
//! retrieval (A comparison of statistical significance tests for information retrieval evaluation,
//! CIKM 2007): if the two runs were the same, each query's difference could as well have the other
//! sign. The p value is the share of sign patterns whose sum is as far from zero as the observed
//! one. Each difference carries the weight that its query has in the average under test, so one
//! code tests the mean and the macro average.

use rayon::prelude::*;

use crate::resampling::Resampling;

/// Up to this many non-zero differences, all sign patterns are enumerated instead of sampled.
pub const EXACT_UP_TO: usize = 13;

/// One query in a comparison: run minus baseline, and the query's weight in the average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedDifference {
    /// The value in the run minus the value in the baseline.
    pub difference: f64,
    /// The weight in the average: 1/n for a mean, 1/(n of the language × languages) for a macro
    /// average.
    pub weight: f64,
}

impl PairedDifference {
    /// What this query adds to the average difference.
    pub fn term(&self) -> f64 {
        self.difference * self.weight
    }
}

/// The two-sided p value of the weighted sum of differences under random signs. Exact where at most
/// [`EXACT_UP_TO`] differences are not zero; otherwise `(b + 1) / (B + 1)`, with `b` of `B`
/// resamples at least as extreme, which never gives 0 (Phipson and Smyth 2010). Without any
/// difference it is 1.
pub fn permutation_p(pairs: &[PairedDifference], resampling: &Resampling) -> f64 {
    let terms: Vec<f64> = pairs.iter().map(PairedDifference::term).filter(|&t| t != 0.0).collect();
    // Sums of the same terms in another order differ in their last bits and must count as equal.
    let slack = 1e-12 * terms.iter().map(|t| t.abs()).sum::<f64>();
    let observed = terms.iter().sum::<f64>().abs() - slack;
    if terms.len() <= EXACT_UP_TO {
        exact_p(&terms, observed)
    } else {
        sampled_p(&terms, observed, resampling)
    }
}

fn exact_p(terms: &[f64], observed: f64) -> f64 {
    let patterns = 1u64 << terms.len();
    let extreme = (0..patterns).filter(|&signs| signed_sum(terms, |_| signs).abs() >= observed);
    extreme.count() as f64 / patterns as f64
}

fn sampled_p(terms: &[f64], observed: f64, resampling: &Resampling) -> f64 {
    let resamples = resampling.resamples.get();
    let extreme = (0..resamples).into_par_iter().filter(|&resample| {
        signed_sum(terms, |block| resampling.bits(resample, block)).abs() >= observed
    });
    (extreme.count() + 1) as f64 / (f64::from(resamples) + 1.0)
}

/// The sum of the terms, where bit `i` of the word of a block of 64 turns the sign of its term `i`.
fn signed_sum(terms: &[f64], word: impl Fn(u64) -> u64) -> f64 {
    let mut sum = 0.0;
    for (block, terms) in (0..).zip(terms.chunks(64)) {
        let mut signs = word(block);
        for term in terms {
            sum += f64::from_bits(term.to_bits() ^ (signs << 63));
            signs >>= 1;
        }
    }
    sum
}

/// Holm's step-down correction (Holm, A simple sequentially rejective multiple test procedure,
/// Scandinavian Journal of Statistics 6, 1979): the k-th smallest of m p values is multiplied by
/// m - k + 1, kept at least as great as the one before it, and at most 1. In the order of the input.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut least: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((p_values.len() - rank) as f64 * p_values[i]).min(1.0);
        corrected[i] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(differences: &[f64]) -> Vec<PairedDifference> {
        let weight = 1.0 / differences.len() as f64;
        differences.iter().map(|&difference| PairedDifference { difference, weight }).collect()
    }

    fn p(differences: &[f64]) -> f64 {
        permutation_p(&pairs(differences), &Resampling::default())
    }

    #[test]
    fn exact_by_hand() {
        // 3 wins: only +++ and --- are as extreme: 2 of 8.
        assert_eq!(p(&[1.0, 1.0, 1.0]), 0.25);
        // 4 wins, 1 loss: |sum| >= 3 has 1 + 5 + 5 + 1 of 32 patterns; ties do not matter.
        assert_eq!(p(&[1.0, 1.0, 1.0, 1.0, -1.0, 0.0, 0.0]), 12.0 / 32.0);
        // 0.3, 0.2, -0.1: |sum| >= 0.4: 6, 4 (1 negative small), and their mirrors: 4 of 8.
        assert_eq!(p(&[0.3, 0.2, -0.1]), 0.5);
        assert_eq!(p(&[]), 1.0);
    }

    #[test]
    fn identical_runs_have_p_1() {
        assert_eq!(p(&[0.0; 50]), 1.0);
    }

    #[test]
    fn rounding_does_not_break_ties() {
        // 0.1 + 0.2 + ... in another order of signs has another last bit; by symmetry p is 1.
        let sum_zero = [0.1, 0.2, 0.3, -0.1, -0.2, -0.3];
        assert_eq!(p(&sum_zero), 1.0);
    }

    #[test]
    fn sampling_agrees_with_enumeration() {
        let values: Vec<f64> = (0..13).map(|i| f64::from(i * 7 % 11) / 10.0 - 0.3).collect();
        let terms: Vec<f64> = values.iter().copied().filter(|v| *v != 0.0).collect();
        let observed = terms.iter().sum::<f64>().abs() - 1e-12;
        let exact = exact_p(&terms, observed);
        let sampled = sampled_p(&terms, observed, &Resampling::default());
        assert!(exact > 0.02 && exact < 0.98, "{exact} would test nothing");
        // Five standard errors of 10,000 draws.
        let error = (exact * (1.0 - exact) / 1e4).sqrt();
        assert!((exact - sampled).abs() < 5.0 * error, "exact {exact}, sampled {sampled}");
    }

    #[test]
    fn a_large_sample_agrees_with_the_binomial() {
        // 60 wins against 40: P(|X - 50| >= 10) for X ~ Binomial(100, 1/2) is 0.05689.
        let mut differences = vec![1.0; 60];
        differences.extend([-1.0; 40]);
        assert!((p(&differences) - 0.05689).abs() < 5.0 * 0.00232);
    }

    #[test]
    fn the_smallest_sampled_p_is_one_over_the_resamples_and_the_run_itself() {
        assert_eq!(p(&[1.0; 60]), 1.0 / 10_001.0);
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 7) - 2.7).collect();
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let many = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
        assert_eq!(alone.install(|| p(&values)), many.install(|| p(&values)));
    }

    #[test]
    fn holm_by_hand() {
        // Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, the last raised to .06.
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-15, "{corrected:?}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn both_directions_have_the_same_p(values in proptest::collection::vec(-3i8..4, 0..40)) {
            let values: Vec<f64> = values.into_iter().map(|v| f64::from(v) / 4.0).collect();
            let mirrored: Vec<f64> = values.iter().map(|v| -v).collect();
            prop_assert_eq!(p(&values), p(&mirrored));
            prop_assert!(p(&values) > 0.0 && p(&values) <= 1.0);
        }

        #[test]
        fn holm_keeps_the_order_and_never_lowers(ps in proptest::collection::vec(0.0f64..=1.0, 0..9)) {
            let corrected = holm(&ps);
            for (i, &a) in ps.iter().enumerate() {
                prop_assert!(corrected[i] >= a && corrected[i] <= 1.0);
                for (j, &b) in ps.iter().enumerate() {
                    prop_assert!(a > b || corrected[i] <= corrected[j]);
                }
            }
        }
    }
}
