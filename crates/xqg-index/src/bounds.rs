//! A query in whole numbers, and how far a product of whole numbers can be from the exact score.
//!
//! A query is `q = base + step * (128 high + low) + rest` with 7-bit digits, or coarsely, by its
//! high digits alone, `base' + step' * high + rest'`. A row is `x = times * centre + scale * codes +
//! e` ([`crate::sketch`]). So
//!
//! ```text
//! q·x = times * q·centre + scale * (base * sum(codes) + step * digits·codes)
//!       + rest·(scale * codes) + q·e
//! ```
//!
//! and by the inequality of Cauchy and Schwarz the last two are at most `|rest| * reach` and
//! `|q| * error`. The exact score is itself rounded: [`rounding`] bounds how far, relative to the
//! lengths of the vectors (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).

use xqg_kernel::codes::BLOCK;

/// Half the distance between 1 and the next f32: a rounding changes a number by this part of it.
const UNIT: f64 = 1.0 / (1 << 24) as f64;
/// What a bound in single precision may lose by the rounding of its own arithmetic: a dozen
/// roundings, each of no more than the sum of all terms' sizes.
pub(crate) const COARSE_ROUNDING: f64 = 1.0 / (1 << 20) as f64;
/// Numbers so small that products vanish are no nearer than this.
pub(crate) const TINY: f64 = 1e-20;
/// Lengths beyond this are not bounded: their squares or products may overflow.
pub(crate) const HUGE: f64 = 1e15;

/// How far the exact score of vectors of length one can be from that of real numbers: products and
/// sixteen-lane sums over `dim`, and over `parts` sums of questions.
pub(crate) fn rounding(dim: usize, parts: usize) -> f64 {
    (dim as f64 / 16.0 + 4.0 * parts as f64 + 48.0) * UNIT * 1.01
}

/// A query in whole numbers.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Not less than the query's length.
    pub norm: f64,
    /// The digits that count 128 times, filled up to whole blocks with zeros.
    pub high: Vec<u8>,
    /// The digits that count once.
    pub low: Vec<u8>,
    /// By both digits.
    pub fine: Level,
    /// By the high digits alone, its numbers exact in single precision.
    pub coarse: Level,
}

/// What stands beside the digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// The number of digit 0.
    pub base: f64,
    /// What a digit is worth.
    pub step: f64,
    /// Not less than the length of what the digits leave out.
    pub rest: f64,
    /// Not less than the size of the terms by base and step, for a row of reach one.
    pub size: f64,
}

impl Probe {
    /// Writes a query, finite numbers, in digits.
    pub fn new(query: &[f32]) -> Self {
        let fold = |f: fn(f32, f32) -> f32, start| query.iter().fold(start, |m, &x| f(m, x));
        let (least, most) = (fold(f32::min, f32::INFINITY), fold(f32::max, f32::NEG_INFINITY));
        let base = f64::from(least);
        let step = (f64::from(most) - base) / 16383.0;
        let stride = query.len().next_multiple_of(BLOCK);
        let (mut high, mut low) = (vec![0; stride], vec![0; stride]);
        for ((h, l), &x) in high.iter_mut().zip(&mut low).zip(query) {
            let level = if step > 0.0 { (f64::from(x) - base) / step } else { 0.0 };
            let level = level.round().clamp(0.0, 16383.0) as u16;
            (*h, *l) = ((level >> 7) as u8, (level & 127) as u8);
        }
        let norm = length(query.iter().map(|&x| f64::from(x)));
        let both = |i: usize| 128.0 * f64::from(high[i]) + f64::from(low[i]);
        let fine = Level::new(query, (base, step), both);
        let coarse = (f64::from((base + 63.5 * step) as f32), f64::from((128.0 * step) as f32));
        let coarse = Level::new(query, coarse, |i| f64::from(high[i]));
        Self { norm, high, low, fine, coarse }
    }
}

impl Level {
    fn new(query: &[f32], (base, step): (f64, f64), digit: impl Fn(usize) -> f64) -> Self {
        let n = query.len();
        let rest = |i: usize| f64::from(query[i]) - base - step * digit(i);
        let size = length((0..n).map(|i| step * digit(i))) + base.abs() * (n as f64).sqrt();
        Self { base, step, rest: length((0..n).map(rest)), size }
    }
}

/// A little more than the Euclidean length.
pub(crate) fn length(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt() * (1.0 + 1e-9)
}

/// Bounds of a score in single precision, rounded outward; without bounds where a number is none.
pub(crate) fn interval(middle: f64, error: f64) -> (f32, f32) {
    let (low, high) = (middle - error - TINY, middle + error + TINY);
    if low.is_finite() && high.is_finite() {
        ((low as f32).next_down(), (high as f32).next_up())
    } else {
        (f32::NEG_INFINITY, f32::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_query_is_its_digits_and_a_bounded_rest(
            query in proptest::collection::vec(-1e2f32..1e2, 1..90)
        ) {
            let probe = Probe::new(&query);
            prop_assert!(probe.high.iter().chain(&probe.low).all(|&d| d < 128));
            for (level, low) in [(probe.fine, 1.0), (probe.coarse, 0.0)] {
                let factor = if low > 0.0 { 128.0 } else { 1.0 };
                let rest = query.iter().enumerate().map(|(i, &x)| {
                    let digits = factor * f64::from(probe.high[i]) + low * f64::from(probe.low[i]);
                    f64::from(x) - level.base - level.step * digits
                });
                prop_assert!(rest.map(|x| x * x).sum::<f64>().sqrt() <= level.rest);
            }
            prop_assert!(probe.fine.rest <= probe.coarse.rest + 1e-9);
        }
    }
}
