//! Several rows of 8-bit codes, weighted and added, and the sum in 8 bits again with what that loses:
//! plain loops, compiled for each instruction set. The results may differ by rounding between sets;
//! the losses that are reported hold for each.

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Set;

/// A row in 8 bits, beside its codes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Folded {
    /// What a code is multiplied with.
    pub scale: f32,
    /// Not less than the length of `x - scale * codes`.
    pub error: f32,
    /// Not less than the length of `scale * codes`.
    pub reach: f32,
    /// The sum of the codes.
    pub sum: i32,
}

/// Adds `factor * codes` to `x`, and then writes `x` in 8 bits to `codes`. `x` holds whole blocks of
/// 16 numbers, as all rows of codes do.
///
/// # Panics
/// When the lengths differ or are no multiple of 16.
pub fn fold(isa: Isa, parts: &[(&[i8], f32)], x: &mut [f32], codes: &mut [i8]) -> Folded {
    assert!(x.len() == codes.len() && x.len().is_multiple_of(16), "whole blocks");
    assert!(parts.iter().all(|(codes, _)| codes.len() == x.len()), "rows of one length");
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a value of `Isa` proves that the machine has the set.
        Set::Avx512Vnni => unsafe { fold_avx512(parts, x, codes) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx2 => unsafe { fold_avx2(parts, x, codes) },
        _ => add_and_quantise(parts, x, codes),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn fold_avx512(parts: &[(&[i8], f32)], x: &mut [f32], codes: &mut [i8]) -> Folded {
    add_and_quantise(parts, x, codes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fold_avx2(parts: &[(&[i8], f32)], x: &mut [f32], codes: &mut [i8]) -> Folded {
    add_and_quantise(parts, x, codes)
}

#[inline(always)]
fn add_and_quantise(parts: &[(&[i8], f32)], x: &mut [f32], codes: &mut [i8]) -> Folded {
    for &(row, factor) in parts {
        for (x, &code) in x.iter_mut().zip(row) {
            *x += factor * f32::from(code);
        }
    }
    let mut greatest = [0f32; 16];
    for x in x.chunks_exact(16) {
        for (most, &x) in greatest.iter_mut().zip(x) {
            let size = x.abs();
            *most = if size > *most { size } else { *most };
        }
    }
    let greatest = greatest.iter().fold(0f32, |m, &x| m.max(x));
    let scale = greatest / 127.0;
    let inverse = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
    quantise(x, (scale, inverse), codes)
}

#[inline(always)]
fn quantise(x: &[f32], (scale, inverse): (f32, f32), codes: &mut [i8]) -> Folded {
    let (mut rest, mut reach, mut sums) = ([0f32; 16], [0f32; 16], [0i32; 16]);
    for (x, codes) in x.chunks_exact(16).zip(codes.chunks_exact_mut(16)) {
        for i in 0..16 {
            // Adding and taking away 1.5 * 2^23 rounds to a whole number.
            let level = (x[i] * inverse + 12_582_912.0) - 12_582_912.0;
            let level = if level > 127.0 { 127.0 } else { level };
            let level = if level < -127.0 { -127.0 } else { level };
            let (decoded, code) = (scale * level, level as i32);
            rest[i] += (x[i] - decoded) * (x[i] - decoded);
            reach[i] += decoded * decoded;
            sums[i] += code;
            codes[i] = code as i8;
        }
    }
    // Room for the rounding of up to 2^16 additions and of each difference.
    let length = |lanes: [f32; 16]| lanes.iter().sum::<f32>().sqrt() * 1.001;
    let (rest, reach) = (length(rest), length(reach));
    let error = rest + 4e-7 * (rest + reach) + 1e-20;
    Folded { scale, error, reach: reach + 1e-20, sum: sums.iter().sum() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_row_is_farther_from_its_fold_than_it_says(
            codes in proptest::collection::vec(-127i8..=127, 384),
            factors in proptest::collection::vec(-1e-2f32..1e-2, 3),
            start in proptest::collection::vec(-1f32..1.0, 128),
        ) {
            let parts: Vec<(&[i8], f32)> =
                codes.chunks_exact(128).zip(&factors).map(|(c, &f)| (c, f)).collect();
            for isa in Isa::available() {
                let (mut x, mut out) = (start.clone(), vec![0i8; 128]);
                let folded = fold(isa, &parts, &mut x, &mut out);
                let (mut rest, mut reach) = (0f64, 0f64);
                for (i, &code) in out.iter().enumerate() {
                    let whole: f64 = parts.iter()
                        .map(|(c, f)| f64::from(c[i]) * f64::from(*f))
                        .sum::<f64>() + f64::from(start[i]);
                    prop_assert!((whole - f64::from(x[i])).abs() < 1e-5);
                    let decoded = f64::from(folded.scale) * f64::from(code);
                    rest += (f64::from(x[i]) - decoded).powi(2);
                    reach += decoded * decoded;
                }
                prop_assert!(rest.sqrt() <= f64::from(folded.error));
                prop_assert!(reach.sqrt() <= f64::from(folded.reach));
                prop_assert_eq!(out.iter().map(|&c| i32::from(c)).sum::<i32>(), folded.sum);
            }
        }
    }
}
