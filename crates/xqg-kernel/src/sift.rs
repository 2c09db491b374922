//! Which of 32 queries may still want a row: an upper bound of each score from the whole-number
//! product, linear in a few numbers of the row and of the query, compared with the query's floor.

use crate::codes::PANEL;
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Set;

/// How many products of a row's number with a query's number a bound has beside the first.
pub const TERMS: usize = 5;

/// One number for each query of a panel.
pub type Lanes = [f32; PANEL];

/// The numbers of a panel's queries.
#[derive(Debug, Clone)]
pub struct Sieve {
    /// What a whole-number product is multiplied with, beside the row's scale.
    pub step: Lanes,
    /// The factors of the row's terms.
    pub terms: [Lanes; TERMS],
    /// A score below is of no use. Plus infinity turns everything away but what is not a number.
    pub floor: Lanes,
}

/// The numbers of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowTerms {
    /// The scale of the row's codes.
    pub scale: f32,
    /// The factors of the queries' terms.
    pub terms: [f32; TERMS],
}

/// For each row the queries, one bit each, whose bound is not below their floor: `scale * step *
/// product + sum of terms`. What is not a number counts as not below.
///
/// # Panics
/// When there are not 32 products and one result for each row.
pub fn sift(isa: Isa, sieve: &Sieve, rows: &[RowTerms], products: &[i32], kept: &mut [u32]) {
    let (products, rest) = products.as_chunks::<PANEL>();
    assert!(rest.is_empty() && products.len() == rows.len() && kept.len() == rows.len());
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a value of `Isa` proves that the machine has the set.
        Set::Avx512Vnni => unsafe { sift_avx512(sieve, rows, products, kept) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx2 => unsafe { sift_avx2(sieve, rows, products, kept) },
        _ => each(rows, products, kept, |row, products| sift_portable(sieve, row, products)),
    }
}

#[inline(always)]
fn each(
    rows: &[RowTerms],
    products: &[[i32; PANEL]],
    kept: &mut [u32],
    sift: impl Fn(&RowTerms, &[i32; PANEL]) -> u32,
) {
    for ((row, products), kept) in rows.iter().zip(products).zip(kept) {
        *kept = sift(row, products);
    }
}

fn sift_portable(sieve: &Sieve, row: &RowTerms, products: &[i32; PANEL]) -> u32 {
    let mut kept = 0;
    for (lane, &product) in products.iter().enumerate() {
        let mut bound = product as f32 * (row.scale * sieve.step[lane]);
        for (factor, term) in row.terms.iter().zip(&sieve.terms) {
            bound += factor * term[lane];
        }
        let below = bound < sieve.floor[lane];
        kept |= u32::from(!below) << lane;
    }
    kept
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sift_avx512(sieve: &Sieve, rows: &[RowTerms], products: &[[i32; PANEL]], kept: &mut [u32]) {
    each(rows, products, kept, |row, products| row_avx512(sieve, row, products));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn row_avx512(sieve: &Sieve, row: &RowTerms, products: &[i32; PANEL]) -> u32 {
    use std::arch::x86_64::*;
    let mut kept = 0;
    for at in [0, 16] {
        // SAFETY: all arrays have 32 numbers, of which 16 are read from `at`, which is 0 or 16.
        let half = unsafe {
            let load = |from: &Lanes| _mm512_loadu_ps(from.as_ptr().add(at));
            let whole = _mm512_loadu_si512(products.as_ptr().add(at).cast());
            let scale = _mm512_mul_ps(_mm512_set1_ps(row.scale), load(&sieve.step));
            let mut bound = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
            for (factor, term) in row.terms.iter().zip(&sieve.terms) {
                bound = _mm512_fmadd_ps(_mm512_set1_ps(*factor), load(term), bound);
            }
            _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(bound, load(&sieve.floor))
        };
        kept |= u32::from(half) << at;
    }
    kept
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn sift_avx2(sieve: &Sieve, rows: &[RowTerms], products: &[[i32; PANEL]], kept: &mut [u32]) {
    each(rows, products, kept, |row, products| row_avx2(sieve, row, products));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn row_avx2(sieve: &Sieve, row: &RowTerms, products: &[i32; PANEL]) -> u32 {
    use std::arch::x86_64::*;
    let mut kept = 0;
    for at in [0, 8, 16, 24] {
        // SAFETY: all arrays have 32 numbers, of which 8 are read from `at`, which is 24 at most.
        let part = unsafe {
            let load = |from: &Lanes| _mm256_loadu_ps(from.as_ptr().add(at));
            let whole = _mm256_loadu_si256(products.as_ptr().add(at).cast());
            let scale = _mm256_mul_ps(_mm256_set1_ps(row.scale), load(&sieve.step));
            let mut bound = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), scale);
            for (factor, term) in row.terms.iter().zip(&sieve.terms) {
                bound = _mm256_fmadd_ps(_mm256_set1_ps(*factor), load(term), bound);
            }
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(bound, load(&sieve.floor)))
        };
        kept |= (part as u32) << at;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Near the floor the sets may differ by rounding, which callers leave room for; away from
        /// it, and for numbers that are none, they agree.
        #[test]
        fn every_set_keeps_what_is_clearly_above(
            numbers in proptest::collection::vec(-4i32..5, PANEL * (TERMS + 2)),
            row in proptest::collection::vec(-3i32..4, TERMS + 1),
            products in proptest::collection::vec(-100i32..100, PANEL),
            nan in any::<bool>(),
        ) {
            let lanes = |i: usize| std::array::from_fn(|j| numbers[i * PANEL + j] as f32);
            let sieve = Sieve {
                step: lanes(0),
                terms: std::array::from_fn(|t| lanes(t + 1)),
                floor: std::array::from_fn(|j| numbers[(TERMS + 1) * PANEL + j] as f32 * 9.0),
            };
            let mut terms: [f32; TERMS] = std::array::from_fn(|t| row[t + 1] as f32);
            terms[2] = if nan { f32::NAN } else { terms[2] };
            let row = RowTerms { scale: row[0] as f32, terms };
            let expected = sift_portable(&sieve, &row, products[..].try_into().unwrap());
            prop_assert!(!nan || expected == u32::MAX);
            for isa in Isa::available() {
                let mut kept = [0; 2];
                let twice = [&products[..], &products].concat();
                sift(isa, &sieve, &[row; 2], &twice, &mut kept);
                prop_assert_eq!(kept, [expected; 2], "{}", isa.name());
            }
        }
    }
}
