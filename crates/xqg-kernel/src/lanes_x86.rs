//! The registers of AVX-512 and of AVX2 as [`Lanes`].

use std::arch::x86_64::*;

use crate::lanes::{Lanes, one_to_one};

impl Lanes for __m512 {
    const N: usize = 16;

    one_to_one! {
        add(other) = _mm512_add_ps;
        sub(other) = _mm512_sub_ps;
        mul(other) = _mm512_mul_ps;
        div(other) = _mm512_div_ps;
        mul_add(factor, summand) = _mm512_fmadd_ps;
        max(other) = _mm512_max_ps;
        min(other) = _mm512_min_ps;
        abs() = _mm512_abs_ps;
        times_power_of_two(power) = _mm512_scalef_ps;
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: passed on.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: passed on.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: passed on.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(self))) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: passed on.
        unsafe { _mm512_reduce_add_ps(self) }
    }

    #[inline(always)]
    unsafe fn least(self) -> f32 {
        // SAFETY: passed on.
        unsafe { _mm512_reduce_min_ps(self) }
    }

    #[inline(always)]
    unsafe fn greatest(self) -> f32 {
        // SAFETY: passed on.
        unsafe { _mm512_reduce_max_ps(self) }
    }

    #[inline(always)]
    unsafe fn store_four(four: [Self; 4], to: *mut u8) {
        // SAFETY: passed on.
        unsafe {
            let [a, b, c, d] = four;
            let left = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
            let right = _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
            let bytes = _mm512_packus_epi16(left, right);
            // Packing goes by quarters of a register; this puts the four back side by side.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi32(order, bytes));
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: passed on.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: passed on.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    }

    #[inline(always)]
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self {
        // SAFETY: passed on.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, limit), self) }
    }
}

impl Lanes for __m256 {
    const N: usize = 8;

    one_to_one! {
        add(other) = _mm256_add_ps;
        sub(other) = _mm256_sub_ps;
        mul(other) = _mm256_mul_ps;
        div(other) = _mm256_div_ps;
        mul_add(factor, summand) = _mm256_fmadd_ps;
        max(other) = _mm256_max_ps;
        min(other) = _mm256_min_ps;
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: passed on.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: passed on.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: passed on.
        unsafe {
            let whole = _mm256_cvtps_epi32(self);
            let (low, high) = (_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            let words = _mm_packs_epi32(low, high);
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: passed on.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: passed on.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self) }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: passed on.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    }

    #[inline(always)]
    unsafe fn times_power_of_two(self, power: Self) -> Self {
        // SAFETY: passed on.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127));
            _mm256_mul_ps(self, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }

    #[inline(always)]
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self {
        // SAFETY: passed on.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x, limit), self) }
    }
}
