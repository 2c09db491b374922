//! The products of [`crate::codes`] with NEON, by its dot product of four or by widening: digits
//! below 128 are signed bytes too, and two products fit into 16 bits, 128 * 127 * 2 = 32512.

use std::arch::aarch64::*;

use crate::codes::{BLOCK, PANEL};
use crate::neon::add_fours;

/// Rows of codes in a tile: 24 sums, a load of digits at a time, a row's four codes broadcast.
const TILE: usize = 3;
/// Registers of a panel's sums.
const PARTS: usize = PANEL / 4;

/// Writes the entry points, compiled for a set.
macro_rules! entry_points {
    ($dots:ident, $multiply:ident, $features:literal, $dot:literal) => {
        /// One query with every row.
        ///
        /// # Safety
        /// The set is there; `codes` holds `out.len()` rows of `digits.len()` bytes, a multiple of 64.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn $dots(codes: &[i8], digits: &[u8], out: &mut [i32]) {
            for (row, o) in codes.chunks_exact(digits.len()).zip(out) {
                // SAFETY: a row is as long as the digits, whole blocks.
                *o = unsafe { dot::<$dot>(row, digits) };
            }
        }

        /// A panel of queries with every row.
        ///
        /// # Safety
        /// The set is there; the panel holds 32 queries of a stride that is a multiple of 64, and
        /// `codes` holds `out.len() / 32` rows of that stride.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn $multiply(codes: &[i8], panel: &[u8], out: &mut [i32]) {
            let stride = panel.len() / PANEL;
            for (rows, out) in codes.chunks(TILE * stride).zip(out.chunks_mut(TILE * PANEL)) {
                // SAFETY: a chunk holds as many whole rows as its results are, 1 to 3.
                unsafe {
                    match out.len() / PANEL {
                        3 => tile::<3, $dot>(rows, panel, out),
                        2 => tile::<2, $dot>(rows, panel, out),
                        _ => tile::<1, $dot>(rows, panel, out),
                    }
                }
            }
        }
    };
}
entry_points!(dots, multiply, "neon", false);
entry_points!(dots_dot, multiply_dot, "neon,dotprod", true);

/// # Safety
/// NEON is there, and for `DOT` its dot product; both rows have one length, whole blocks.
#[inline(always)]
unsafe fn dot<const DOT: bool>(row: &[i8], digits: &[u8]) -> i32 {
    // SAFETY: the caller vouches for the instruction set and for whole blocks on both sides.
    unsafe {
        let mut sums = [vdupq_n_s32(0); BLOCK / 16];
        for step in (0..row.len()).step_by(BLOCK) {
            for (i, sum) in sums.iter_mut().enumerate() {
                let codes = vld1q_s8(row.as_ptr().add(step + i * 16));
                let digits = vld1q_s8(digits.as_ptr().add(step + i * 16).cast());
                *sum = add_fours::<DOT>(*sum, codes, digits);
            }
        }
        let [a, b, c, d] = sums;
        vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d)))
    }
}

/// # Safety
/// NEON is there, and for `DOT` its dot product; `M` rows, a panel of their stride and results.
#[inline(always)]
unsafe fn tile<const M: usize, const DOT: bool>(codes: &[i8], panel: &[u8], out: &mut [i32]) {
    let stride = panel.len() / PANEL;
    // SAFETY: the caller vouches for `M` rows of `stride` bytes, a whole panel and its results.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); PARTS]; M];
        let mut queries = panel.as_ptr().cast::<i8>();
        for step in (0..stride).step_by(4) {
            let rows: [int8x16_t; M] = std::array::from_fn(|i| {
                let four = codes.as_ptr().add(i * stride + step).cast::<u32>();
                vreinterpretq_s8_u32(vdupq_n_u32(four.read_unaligned()))
            });
            for part in 0..PARTS {
                let digits = vld1q_s8(queries.add(part * 16));
                for (sums, row) in sums.iter_mut().zip(rows) {
                    sums[part] = add_fours::<DOT>(sums[part], row, digits);
                }
            }
            queries = queries.add(PANEL * 4);
        }
        for (at, sum) in sums.into_iter().flatten().enumerate() {
            vst1q_s32(out.as_mut_ptr().add(at * 4), sum);
        }
    }
}
