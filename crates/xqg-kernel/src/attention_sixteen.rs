//! Packing for the kernels of [`crate::attention`] in 16 bits.

use std::arch::x86_64::*;

use crate::attention::{Head, PANEL};
use crate::attention_avx512::transpose;

/// 32 numbers as 16-bit whole numbers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn whole(from: *const f32, factor: __m512) -> __m512i {
    // SAFETY: the caller vouches for 32 numbers.
    unsafe {
        let low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from), factor));
        let high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from.add(16)), factor));
        let low = _mm512_castsi256_si512(_mm512_cvtsepi32_epi16(low));
        _mm512_inserti64x4::<1>(low, _mm512_cvtsepi32_epi16(high))
    }
}

/// # Safety
/// AVX-512 is there; all rows lie inside their buffer and the result has room for them.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_queries(head: &Head, factor: f32, to: *mut i16) {
    // SAFETY: the caller vouches for all rows and for room for them.
    unsafe {
        for token in 0..head.n {
            let from = head.qkv.as_ptr().add(token * head.stride + head.columns[0]);
            for i in (0..head.dim).step_by(32) {
                let numbers = whole(from.add(i), _mm512_set1_ps(factor));
                _mm512_storeu_si512(to.add(token * head.dim + i).cast(), numbers);
            }
        }
    }
}

/// Panels of 32 keys: two numbers of each side by side, then the next two; zeros after the last key.
///
/// # Safety
/// AVX-512 is there; all rows lie inside their buffer and the result has room for whole panels.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_keys(head: &Head, factor: f32, to: *mut i16) {
    // SAFETY: the caller vouches for all rows and for room for whole panels.
    unsafe {
        for first in (0..head.n.next_multiple_of(PANEL)).step_by(16) {
            let panel = to.add(first / PANEL * PANEL * head.dim + first % PANEL * 2);
            for i in (0..head.dim).step_by(32) {
                let mut block = [_mm512_setzero_si512(); 16];
                for (token, row) in (first..head.n).zip(&mut block) {
                    let from = head.qkv.as_ptr().add(token * head.stride + head.columns[1] + i);
                    *row = whole(from, _mm512_set1_ps(factor));
                }
                transpose(&mut block);
                for (pair, row) in block.into_iter().enumerate() {
                    _mm512_storeu_si512(panel.add((i / 2 + pair) * PANEL * 2).cast(), row);
                }
            }
        }
    }
}

/// Panels of 32 columns: two tokens of each side by side, then the next two; zeros after the last.
///
/// # Safety
/// AVX-512 is there; all rows lie inside their buffer and the result has room for an even number.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_values(head: &Head, factor: f32, to: *mut i16) {
    // SAFETY: the caller vouches for all rows and for room for an even number of them.
    unsafe {
        let factor = _mm512_set1_ps(factor);
        let pairs = head.n.div_ceil(2);
        for pair in 0..pairs {
            for i in (0..head.dim).step_by(32) {
                let at = |token: usize| {
                    head.qkv.as_ptr().wrapping_add(token * head.stride + head.columns[2] + i)
                };
                let first = whole(at(2 * pair), factor);
                let second = match 2 * pair + 1 < head.n {
                    true => whole(at(2 * pair + 1), factor),
                    false => _mm512_setzero_si512(),
                };
                let (low, high) = interleave(first, second);
                let to = to.add((i / 32 * pairs + pair) * PANEL * 2);
                _mm512_storeu_si512(to.cast(), low);
                _mm512_storeu_si512(to.add(32).cast(), high);
            }
        }
    }
}

/// The 16-bit numbers of two registers in turns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn interleave(a: __m512i, b: __m512i) -> (__m512i, __m512i) {
    const fn order(first: i16) -> [i16; 32] {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i as usize] = first + i / 2 + i % 2 * 32;
            i += 1;
        }
        order
    }
    const LOW: [i16; 32] = order(0);
    const HIGH: [i16; 32] = order(16);
    // SAFETY: both orders have 32 numbers.
    unsafe {
        let (low, high) =
            (_mm512_loadu_si512(LOW.as_ptr().cast()), _mm512_loadu_si512(HIGH.as_ptr().cast()));
        (_mm512_permutex2var_epi16(a, low, b), _mm512_permutex2var_epi16(a, high, b))
    }
}
