//! The products of [`crate::codes`] with AVX2: pairs are added in 16 bits, which 7-bit digits and
//! codes within -127 to 127 cannot overflow, and pairs of pairs in 32.

use std::arch::x86_64::*;

use crate::codes::PANEL;

/// Bytes of a register.
const WIDTH: usize = 32;
/// Rows of codes in a tile: 12 sums, two loads of digits a step.
const TILE: usize = 6;

/// `sum + digits · codes`, by fours.
#[target_feature(enable = "avx2")]
#[inline]
fn add_products(sum: __m256i, digits: __m256i, codes: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(digits, codes);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn total(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
}

/// One query with every row, four rows at a time.
///
/// # Safety
/// AVX2 is there; `codes` holds `out.len()` rows of `digits.len()` bytes, a multiple of 64.
#[target_feature(enable = "avx2")]
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
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn some_dots<const M: usize>(codes: &[i8], digits: &[u8], out: &mut [i32]) {
    let stride = digits.len();
    let mut sums = [_mm256_setzero_si256(); M];
    for step in (0..stride).step_by(WIDTH) {
        // SAFETY: the caller vouches for `M` rows of `stride` bytes, whole registers.
        unsafe {
            let query = _mm256_loadu_si256(digits.as_ptr().add(step).cast());
            for (i, sum) in sums.iter_mut().enumerate() {
                let row = _mm256_loadu_si256(codes.as_ptr().add(i * stride + step).cast());
                *sum = add_products(*sum, query, row);
            }
        }
    }
    for (o, sum) in out.iter_mut().zip(sums) {
        *o = total(sum);
    }
}

/// A panel of queries with every row.
///
/// # Safety
/// AVX2 is there; the panel holds 32 queries of a stride that is a multiple of 64, and `codes` holds
/// `out.len() / 32` rows of that stride.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn multiply(codes: &[i8], panel: &[u8], out: &mut [i32]) {
    let stride = panel.len() / PANEL;
    let tiles = codes.chunks(TILE * stride).zip(out.chunks_mut(TILE * PANEL));
    macro_rules! of {
        ($rows:expr, $out:expr, $half:expr, $($m:literal)*) => {
            match $out.len() / PANEL {
                // SAFETY: a chunk holds as many whole rows as its results are.
                $($m => unsafe { tile::<$m>($rows, panel, $half, $out) },)*
                _ => unreachable!("a tile has 1 to 6 rows"),
            }
        };
    }
    for (rows, out) in tiles {
        for half in 0..2 {
            of!(rows, out, half, 1 2 3 4 5 6);
        }
    }
}

/// Half a panel: 16 queries.
///
/// # Safety
/// As [`multiply`], for `M` rows.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn tile<const M: usize>(codes: &[i8], panel: &[u8], half: usize, out: &mut [i32]) {
    let stride = panel.len() / PANEL;
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    // SAFETY: the caller vouches for `M` rows of `stride` bytes, a whole panel and its results.
    unsafe {
        let mut queries = panel.as_ptr().add(half * PANEL / 2 * 4);
        for step in (0..stride).step_by(4) {
            let left = _mm256_loadu_si256(queries.cast());
            let right = _mm256_loadu_si256(queries.add(WIDTH).cast());
            for (i, sum) in sums.iter_mut().enumerate() {
                let four = codes.as_ptr().add(i * stride + step).cast::<i32>().read_unaligned();
                let row = _mm256_set1_epi32(four);
                sum[0] = add_products(sum[0], left, row);
                sum[1] = add_products(sum[1], right, row);
            }
            queries = queries.add(PANEL * 4);
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let to = out.as_mut_ptr().add(i * PANEL + half * PANEL / 2);
            _mm256_storeu_si256(to.cast(), sum[0]);
            _mm256_storeu_si256(to.add(8).cast(), sum[1]);
        }
    }
}
