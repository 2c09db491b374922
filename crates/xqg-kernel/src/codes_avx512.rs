//! The products of [`crate::codes`] with AVX-512 and VNNI, whose instruction multiplies 64 bytes and
//! adds them by fours without rounding or saturation.

use std::arch::x86_64::*;

use crate::codes::{BLOCK, PANEL};

/// Rows of codes in a tile: 24 sums, two loads of digits a step, a row's four codes broadcast.
const TILE: usize = 12;

/// One query with every row, four rows at a time.
///
/// # Safety
/// AVX-512 with VNNI is there; `codes` holds `out.len()` rows of `digits.len()` bytes, a multiple of 64.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn dots(codes: &[i8], digits: &[u8], out: &mut [i32]) {
    let stride = digits.len();
    for (rows, out) in codes.chunks(4 * stride).zip(out.chunks_mut(4)) {
        // SAFETY: a chunk holds `out.len()` whole rows, 1 to 4.
        unsafe {
            match out.len() {
                4 => some_dots::<4>(rows, digits, out),
                3 => some_dots::<3>(rows, digits, out),
                2 => some_dots::<2>(rows, digits, out),
                _ => some_dots::<1>(rows, digits, out),
            }
        }
    }
}

/// # Safety
/// As [`dots`], for `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn some_dots<const M: usize>(codes: &[i8], digits: &[u8], out: &mut [i32]) {
    let stride = digits.len();
    let mut sums = [_mm512_setzero_si512(); M];
    for step in (0..stride).step_by(BLOCK) {
        // SAFETY: the caller vouches for `M` rows of `stride` bytes, whole blocks.
        unsafe {
            let query = _mm512_loadu_si512(digits.as_ptr().add(step).cast());
            for (i, sum) in sums.iter_mut().enumerate() {
                let row = _mm512_loadu_si512(codes.as_ptr().add(i * stride + step).cast());
                *sum = _mm512_dpbusd_epi32(*sum, query, row);
            }
        }
    }
    for (o, sum) in out.iter_mut().zip(sums) {
        *o = _mm512_reduce_add_epi32(sum);
    }
}

/// A panel of queries with every row.
///
/// # Safety
/// AVX-512 with VNNI is there; the panel holds 32 queries of a stride that is a multiple of 64, and
/// `codes` holds `out.len() / 32` rows of that stride.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn multiply(codes: &[i8], panel: &[u8], out: &mut [i32]) {
    let stride = panel.len() / PANEL;
    let tiles = codes.chunks(TILE * stride).zip(out.chunks_mut(TILE * PANEL));
    macro_rules! of {
        ($rows:expr, $out:expr, $($m:literal)*) => {
            match $out.len() / PANEL {
                // SAFETY: a chunk holds as many whole rows as its results are.
                $($m => unsafe { tile::<$m>($rows, panel, $out) },)*
                _ => unreachable!("a tile has 1 to 12 rows"),
            }
        };
    }
    for (rows, out) in tiles {
        of!(rows, out, 1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

/// # Safety
/// As [`multiply`], for `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn tile<const M: usize>(codes: &[i8], panel: &[u8], out: &mut [i32]) {
    let stride = panel.len() / PANEL;
    let mut sums = [[_mm512_setzero_si512(); 2]; M];
    // SAFETY: the caller vouches for `M` rows of `stride` bytes, a whole panel and its results.
    unsafe {
        let mut queries = panel.as_ptr();
        for step in (0..stride).step_by(4) {
            let left = _mm512_loadu_si512(queries.cast());
            let right = _mm512_loadu_si512(queries.add(64).cast());
            for (i, sum) in sums.iter_mut().enumerate() {
                let four = codes.as_ptr().add(i * stride + step).cast::<i32>().read_unaligned();
                let row = _mm512_set1_epi32(four);
                sum[0] = _mm512_dpbusd_epi32(sum[0], left, row);
                sum[1] = _mm512_dpbusd_epi32(sum[1], right, row);
            }
            queries = queries.add(PANEL * 4);
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let to = out.as_mut_ptr().add(i * PANEL);
            _mm512_storeu_si512(to.cast(), sum[0]);
            _mm512_storeu_si512(to.add(16).cast(), sum[1]);
        }
    }
}
