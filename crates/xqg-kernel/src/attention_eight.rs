//! Packing for the kernels of [`crate::attention`] in 8 bits. Queries are stored with 128 added, for
//! the product takes one factor unsigned; what that adds to a score, each key's own sum times 128, is
//! taken off where the score begins.

use std::arch::x86_64::*;

use crate::attention::{Head, PANEL};
use crate::attention_avx512::transpose;

/// 32 numbers as whole numbers of 8 bits.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn whole(from: *const f32, factor: __m512) -> __m256i {
    // SAFETY: the caller vouches for 32 numbers.
    unsafe {
        let low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from), factor));
        let high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from.add(16)), factor));
        let low = _mm256_castsi128_si256(_mm512_cvtsepi32_epi8(low));
        _mm256_inserti128_si256::<1>(low, _mm512_cvtsepi32_epi8(high))
    }
}

/// # Safety
/// AVX-512 is there; all rows lie inside their buffer and the result has room for them.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_queries(head: &Head, factor: f32, to: *mut u8) {
    // SAFETY: passed on from the caller.
    unsafe {
        for token in 0..head.n {
            let from = head.qkv.as_ptr().add(token * head.stride + head.columns[0]);
            for i in (0..head.dim).step_by(32) {
                let numbers = whole(from.add(i), _mm512_set1_ps(factor));
                let numbers = _mm256_xor_si256(numbers, _mm256_set1_epi8(-128));
                _mm256_storeu_si256(to.add(token * head.dim + i).cast(), numbers);
            }
        }
    }
}

/// Panels of 32 keys: four numbers of each side by side, then the next four; zeros after the last
/// key. `starts` gets what a score of each key begins with.
///
/// # Safety
/// AVX-512 and VNNI are there; all rows lie inside their buffer and the results have room for panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn pack_keys(head: &Head, factor: f32, to: *mut u8, starts: *mut i32) {
    // SAFETY: passed on from the caller.
    unsafe {
        for first in (0..head.n).step_by(PANEL) {
            let panel = to.add(first * head.dim);
            let mut sums = [_mm512_setzero_si512(); 2];
            for i in (0..head.dim).step_by(32) {
                let mut block = keys_side_by_side(head, (first, i), factor);
                transpose(&mut block);
                let (low, high) = block.split_at(8);
                for (quad, (low, high)) in low.iter().zip(high).enumerate() {
                    let to = panel.add((i / 4 + quad) * PANEL * 4);
                    _mm512_storeu_si512(to.cast(), *low);
                    _mm512_storeu_si512(to.add(64).cast(), *high);
                    let ones = _mm512_set1_epi8(1);
                    sums[0] = _mm512_dpbusd_epi32(sums[0], ones, *low);
                    sums[1] = _mm512_dpbusd_epi32(sums[1], ones, *high);
                }
            }
            for (half, sum) in sums.into_iter().enumerate() {
                let start = _mm512_mullo_epi32(sum, _mm512_set1_epi32(-128));
                _mm512_storeu_si512(starts.add(first + 16 * half).cast(), start);
            }
        }
    }
}

/// 32 numbers of key j and of key j + 16, for j from 0 to 15.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn keys_side_by_side(head: &Head, (first, i): (usize, usize), factor: f32) -> [__m512i; 16] {
    // SAFETY: passed on from the caller.
    unsafe {
        let factor = _mm512_set1_ps(factor);
        let key = |token: usize| match token < head.n {
            true => whole(head.qkv.as_ptr().add(token * head.stride + head.columns[1] + i), factor),
            false => _mm256_setzero_si256(),
        };
        let mut block = [_mm512_setzero_si512(); 16];
        for (j, row) in block.iter_mut().enumerate() {
            let low = _mm512_castsi256_si512(key(first + j));
            *row = _mm512_inserti64x4::<1>(low, key(first + j + 16));
        }
        block
    }
}

/// Panels of 32 columns: four tokens of each side by side, then the next four; zeros after the last.
///
/// # Safety
/// AVX-512 is there; all rows lie inside their buffer and the result has room for whole fours.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_values(head: &Head, factor: f32, to: *mut u8) {
    // SAFETY: passed on from the caller.
    unsafe {
        let factor = _mm512_set1_ps(factor);
        let quads = head.n.div_ceil(4);
        for quad in 0..quads {
            for i in (0..head.dim).step_by(32) {
                let mut four = [_mm256_setzero_si256(); 4];
                for (token, value) in (4 * quad..head.n).zip(&mut four) {
                    let at = token * head.stride + head.columns[2] + i;
                    *value = whole(head.qkv.as_ptr().add(at), factor);
                }
                let to = to.add((i / 32 * quads + quad) * PANEL * 4);
                let (low, high) = interleave(four);
                _mm512_storeu_si512(to.cast(), low);
                _mm512_storeu_si512(to.add(64).cast(), high);
            }
        }
    }
}

/// The bytes of four registers in turns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn interleave([a, b, c, d]: [__m256i; 4]) -> (__m512i, __m512i) {
    let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
    // Columns 0 to 3 and 16 to 19, 4 to 7 and 20 to 23, and so on.
    let first = _mm512_castsi256_si512(_mm256_unpacklo_epi16(ab, cd));
    let first = _mm512_inserti64x4::<1>(first, _mm256_unpackhi_epi16(ab, cd));
    let second = _mm512_castsi256_si512(_mm256_unpacklo_epi16(ab_high, cd_high));
    let second = _mm512_inserti64x4::<1>(second, _mm256_unpackhi_epi16(ab_high, cd_high));
    (_mm512_shuffle_i64x2::<0x88>(first, second), _mm512_shuffle_i64x2::<0xdd>(first, second))
}
