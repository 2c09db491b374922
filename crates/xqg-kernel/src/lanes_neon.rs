//! The register of four f32 numbers of NEON as [`Lanes`]. Greatest and least pass over what is not a
//! number, as the portable functions do.

use std::arch::aarch64::*;

use crate::lanes::{Lanes, one_to_one};

impl Lanes for float32x4_t {
    const N: usize = 4;

    one_to_one! {
        add(other) = vaddq_f32;
        sub(other) = vsubq_f32;
        mul(other) = vmulq_f32;
        div(other) = vdivq_f32;
        max(other) = vmaxnmq_f32;
        min(other) = vminnmq_f32;
        abs() = vabsq_f32;
        round() = vrndnq_f32;
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: passed on.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: passed on.
        unsafe { vst1q_f32(to, self) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: passed on.
        unsafe {
            let words = vqmovn_u32(vcvtnq_u32_f32(self));
            let bytes = vqmovn_u16(vcombine_u16(words, words));
            to.cast::<u32>().write_unaligned(vget_lane_u32::<0>(vreinterpret_u32_u8(bytes)));
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: passed on.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        // SAFETY: passed on.
        unsafe { vfmaq_f32(summand, self, factor) }
    }

    #[inline(always)]
    unsafe fn times_power_of_two(self, power: Self) -> Self {
        // SAFETY: passed on.
        unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(power), vdupq_n_s32(127));
            vmulq_f32(self, vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        }
    }

    #[inline(always)]
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self {
        // SAFETY: passed on.
        unsafe {
            let kept = vandq_u32(vcgeq_f32(x, limit), vreinterpretq_u32_f32(self));
            vreinterpretq_f32_u32(kept)
        }
    }
}
