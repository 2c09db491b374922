//! Products of 8-bit rows with 7-bit queries, in whole numbers: the same on every instruction set.
//!
//! A query is a row of unsigned *digits* from 0 to 127, a passage a row of signed *codes* from -127
//! to 127. AVX2 adds two such products in 16 bits: 2 * 127 * 127 = 32,258 is less than 32,768, so
//! nothing saturates. Rows lie as they do in a sketch, `stride` bytes apart, a multiple of 64; what
//! fills them up is zero on the side of the codes.
//!
//! A few queries are multiplied row by row ([`dots`]), many in panels of 32 that lie ready for the
//! registers ([`Panels`]); neither copies a passage.

#[cfg(target_arch = "aarch64")]
use crate::codes_neon;
use crate::isa::Isa;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::isa::Set;
#[cfg(target_arch = "x86_64")]
use crate::{codes_avx2, codes_avx512};

/// Rows and digits are whole blocks of so many bytes.
pub const BLOCK: usize = 64;
/// Queries of a panel.
pub const PANEL: usize = 32;

/// Multiplies each row of codes with one query's digits: `out[i] = codes[i] · digits`.
///
/// # Panics
/// When a row of digits is no whole number of blocks, or there are not `out.len()` rows of codes.
pub fn dots(isa: Isa, codes: &[i8], digits: &[u8], out: &mut [i32]) {
    let stride = digits.len();
    assert!(stride.is_multiple_of(BLOCK), "whole blocks of digits");
    assert!(out.len().checked_mul(stride) == Some(codes.len()), "a row of codes for each result");
    if stride == 0 {
        return out.fill(0);
    }
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a value of `Isa` proves that the machine has the set; the lengths were checked.
        Set::Avx512Vnni => unsafe { codes_avx512::dots(codes, digits, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx2 => unsafe { codes_avx2::dots(codes, digits, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Set::Neon => unsafe { codes_neon::dots(codes, digits, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Set::NeonDot => unsafe { codes_neon::dots_dot(codes, digits, out) },
        _ => dots_portable(codes, digits, out),
    }
}

fn dots_portable(codes: &[i8], digits: &[u8], out: &mut [i32]) {
    for (row, o) in codes.chunks_exact(digits.len()).zip(out) {
        *o = row.iter().zip(digits).map(|(&c, &d)| i32::from(c) * i32::from(d)).sum();
    }
}

/// Digits of many queries, four dimensions of 32 queries side by side.
#[derive(Debug, Clone, Default)]
pub struct Panels {
    stride: usize,
    values: Vec<u8>,
}

impl Panels {
    /// Packs `digits`, rows of `stride` bytes; the last panel is filled up with zeros.
    ///
    /// # Panics
    /// When the stride is no whole number of blocks, or the digits are no whole rows.
    pub fn pack(digits: &[u8], stride: usize) -> Self {
        assert!(stride.is_multiple_of(BLOCK) && stride > 0, "whole blocks of digits");
        assert!(digits.len().is_multiple_of(stride), "whole rows of digits");
        let rows = digits.len() / stride;
        let mut values = vec![0; rows.next_multiple_of(PANEL) * stride];
        for (row, query) in digits.chunks_exact(stride).enumerate() {
            let panel = &mut values[row / PANEL * PANEL * stride..][..PANEL * stride];
            for (step, four) in query.chunks_exact(4).enumerate() {
                panel[(step * PANEL + row % PANEL) * 4..][..4].copy_from_slice(four);
            }
        }
        Self { stride, values }
    }

    /// The number of panels.
    pub fn len(&self) -> usize {
        self.values.len() / (self.stride * PANEL).max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Multiplies rows of codes with the queries of a panel: `out[i * 32 + j]` for row i, query j.
    ///
    /// # Panics
    /// When there is no such panel, or `out` has not 32 numbers for each row of codes.
    pub fn multiply(&self, isa: Isa, panel: usize, codes: &[i8], out: &mut [i32]) {
        let stride = self.stride;
        let panel = &self.values[panel * PANEL * stride..][..PANEL * stride];
        let rows = codes.len() / stride;
        assert!(codes.len() == rows * stride && out.len() == rows * PANEL, "whole rows");
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a value of `Isa` proves that the machine has the set; lengths were checked.
            Set::Avx512Vnni => unsafe { codes_avx512::multiply(codes, panel, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Set::Avx2 => unsafe { codes_avx2::multiply(codes, panel, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Set::Neon => unsafe { codes_neon::multiply(codes, panel, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Set::NeonDot => unsafe { codes_neon::multiply_dot(codes, panel, out) },
            _ => multiply_portable(codes, panel, out),
        }
    }
}

fn multiply_portable(codes: &[i8], panel: &[u8], out: &mut [i32]) {
    let stride = panel.len() / PANEL;
    for (row, out) in codes.chunks_exact(stride).zip(out.chunks_exact_mut(PANEL)) {
        out.fill(0);
        for (four, step) in row.chunks_exact(4).zip(panel.chunks_exact(PANEL * 4)) {
            for (o, digits) in out.iter_mut().zip(step.chunks_exact(4)) {
                let pairs = four.iter().zip(digits);
                *o += pairs.map(|(&c, &d)| i32::from(c) * i32::from(d)).sum::<i32>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows of some codes and digits, among them the greatest, filled up to whole blocks.
    fn made(rows: usize, dim: usize, seed: u64) -> (Vec<i8>, Vec<u8>, usize) {
        let stride = dim.next_multiple_of(BLOCK);
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        let (mut codes, mut digits) = (vec![0i8; rows * stride], vec![0u8; rows * stride]);
        let extreme = seed.is_multiple_of(3);
        for at in (0..rows * stride).filter(|at| at % stride < dim) {
            codes[at] = if extreme { -127 } else { (next() % 255) as i8 };
            digits[at] = if extreme { 127 } else { (next() % 128) as u8 };
        }
        codes.iter_mut().for_each(|c| *c = (*c).max(-127));
        (codes, digits, stride)
    }

    /// The named test of the unsafe kernels: run it under an address sanitizer as
    /// `RUSTFLAGS=-Zsanitizer=address cargo +nightly test -p xqg-kernel --target
    /// x86_64-unknown-linux-gnu every_set_gives_the_same_whole_numbers`.
    #[test]
    fn every_set_gives_the_same_whole_numbers() {
        let shapes = [1, 3, 24, 64, 65, 384, 768].into_iter();
        for (dim, rows) in shapes.flat_map(|dim| [0, 1, 2, 3, 5, 13, 37].map(|rows| (dim, rows))) {
            for seed in 0..4 {
                check(rows, dim, seed);
            }
        }
    }

    fn check(rows: usize, dim: usize, seed: u64) {
        let (codes, digits, stride) = made(rows, dim, seed);
        let panels = Panels::pack(&digits, stride);
        let mut expected = vec![0; rows];
        let mut found = vec![0; rows * PANEL];
        for (query, digits) in digits.chunks_exact(stride).enumerate() {
            dots_portable(&codes, digits, &mut expected);
            for isa in Isa::available() {
                let mut single = vec![-1; rows];
                dots(isa, &codes, digits, &mut single);
                assert_eq!(single, expected, "{} {rows} x {dim}", isa.name());
                panels.multiply(isa, query / PANEL, &codes, &mut found);
                let column: Vec<i32> =
                    found.chunks_exact(PANEL).map(|row| row[query % PANEL]).collect();
                assert_eq!(column, expected, "{} {rows} x {dim} in panels", isa.name());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn odd_shapes_give_the_same_whole_numbers(
            rows in 0usize..40, dim in 1usize..300, seed in any::<u64>()
        ) {
            check(rows, dim, seed);
        }
    }
}
