//! How large a difference may be: the percentile bootstrap interval over queries (Efron and
//! Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3). Queries are drawn within
//! their language, as the sizes of the languages are chosen by the data set and not by chance.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::resampling::Resampling;
use crate::significance::PairedDifference;

/// Keeps the draws of the interval apart from the signs of the test under the same seed.
const SALT: u64 = 0x626f_6f74_7374_7261;

/// The 95% interval of the weighted sum of differences, lower end first; each pair comes with the
/// code of its language. Queries of one language must have one weight, as both averages give them.
/// Without a query it is (0, 0).
pub fn interval(pairs: &[(&str, PairedDifference)], resampling: &Resampling) -> (f64, f64) {
    let mut strata: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (lang, pair) in pairs {
        strata.entry(lang).or_default().push(pair.term());
    }
    let strata: Vec<Vec<f64>> = strata.into_values().collect();
    let salted = Resampling { seed: resampling.seed ^ SALT, ..*resampling };
    let draws = (0..resampling.resamples.get()).into_par_iter();
    let mut sums: Vec<f64> = draws.map(|draw| resampled_sum(&strata, draw, &salted)).collect();
    sums.sort_by(f64::total_cmp);
    (quantile(&sums, 0.025), quantile(&sums, 0.975))
}

/// As many terms of each stratum as it has, drawn with replacement.
fn resampled_sum(strata: &[Vec<f64>], resample: u32, resampling: &Resampling) -> f64 {
    let mut position = 0;
    let mut sum = 0.0;
    for terms in strata {
        for _ in terms {
            sum += terms[resampling.index(resample, position, terms.len())];
            position += 1;
        }
    }
    sum
}

/// The quantile of sorted values, with linear interpolation between neighbours.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = q * last as f64;
    let low = place.floor() as usize;
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(difference: f64, weight: f64) -> PairedDifference {
        PairedDifference { difference, weight }
    }

    #[test]
    fn quantiles_by_hand() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!((quantile(&[5.0], 0.975), quantile(&[], 0.5)), (5.0, 0.0));
    }

    #[test]
    fn the_interval_of_a_mean_is_as_wide_as_theory_says() {
        let pairs: Vec<_> = (0..400).map(|i| ("ar", pair(f64::from(i % 2), 1.0 / 400.0))).collect();
        let (low, high) = interval(&pairs, &Resampling::default());
        // Mean 0.5, standard error 0.025: 0.451 to 0.549; steps of 1/400.
        assert!((low - 0.451).abs() < 0.003 && (high - 0.549).abs() < 0.003, "{low} {high}");
    }

    #[test]
    fn strata_are_drawn_apart() {
        // Within each language all differences are equal, so nothing can vary.
        let mut pairs = vec![("ar", pair(1.0, 0.25)); 2];
        pairs.extend([("te", pair(-1.0, 0.125)); 4]);
        assert_eq!(interval(&pairs, &Resampling::default()), (0.0, 0.0));
        assert_eq!(interval(&[], &Resampling::default()), (0.0, 0.0));
    }
}
