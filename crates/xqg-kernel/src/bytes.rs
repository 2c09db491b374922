//! Products of two rows of signed bytes: what a graph of quantised vectors is walked with. The sum
//! is whole-number arithmetic, so every instruction set gives the same bits. And bytes asked for before
//! their turn, so that nobody waits for memory.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::isa::{Isa, Set};

/// The longest row whose product cannot overflow: `2^31 / 2^14` bytes.
pub const LONGEST: usize = 1 << 17;

/// The dot product of two rows of bytes.
///
/// # Panics
/// When the rows have two lengths, or more than [`LONGEST`] bytes.
#[inline]
pub fn dot(isa: Isa, a: &[i8], b: &[i8]) -> i32 {
    assert!(a.len() == b.len() && a.len() <= LONGEST, "two rows of one length");
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this set is only made where the machine has it.
        Set::Avx2 => unsafe { avx2(a, b) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx512Vnni => unsafe { avx512(a, b) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Set::Neon | Set::NeonDot => unsafe { neon(a, b) },
        _ => portable(a, b),
    }
}

/// Asks for bytes that will soon be read. They need not come; nothing else depends on it.
#[inline(always)]
pub fn fetch(bytes: &[i8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        // SAFETY: every x86-64 processor can prefetch, and to prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

fn portable(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
}

/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(a: &[i8], b: &[i8]) -> i32 {
    let (blocks_a, blocks_b) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail = portable(blocks_a.remainder(), blocks_b.remainder());
    // SAFETY: each block has 16 bytes; the caller vouches for the instruction set.
    unsafe {
        let mut sum = _mm256_setzero_si256();
        for (x, y) in blocks_a.zip(blocks_b) {
            let x = _mm256_cvtepi8_epi16(_mm_loadu_si128(x.as_ptr().cast()));
            let y = _mm256_cvtepi8_epi16(_mm_loadu_si128(y.as_ptr().cast()));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
        }
        let mut lanes = [0i32; 8];
        _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum);
        lanes.iter().sum::<i32>() + tail
    }
}

/// VNNI multiplies unsigned by signed bytes: one row is lifted by 128, and 128 times the other
/// row's sum is taken off again.
///
/// # Safety
/// The machine has AVX-512 F, BW and VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512(a: &[i8], b: &[i8]) -> i32 {
    let (blocks_a, blocks_b) = (a.chunks_exact(64), b.chunks_exact(64));
    let tail = portable(blocks_a.remainder(), blocks_b.remainder());
    // SAFETY: each block has 64 bytes; the caller vouches for the instruction set.
    unsafe {
        let (lift, zero) = (_mm512_set1_epi8(-128), _mm512_setzero_si512());
        let (mut lifted, mut excess) = (zero, zero);
        for (x, y) in blocks_a.zip(blocks_b) {
            let x = _mm512_xor_si512(_mm512_loadu_si512(x.as_ptr().cast()), lift);
            let y = _mm512_loadu_si512(y.as_ptr().cast());
            lifted = _mm512_dpbusd_epi32(lifted, x, y);
            excess = _mm512_dpbusd_epi32(excess, lift, y);
        }
        _mm512_reduce_add_epi32(_mm512_sub_epi32(lifted, excess)) + tail
    }
}

/// # Safety
/// The machine has NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon(a: &[i8], b: &[i8]) -> i32 {
    let (blocks_a, blocks_b) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail = portable(blocks_a.remainder(), blocks_b.remainder());
    // SAFETY: each block has 16 bytes; the caller vouches for the instruction set.
    unsafe {
        let mut sum = vdupq_n_s32(0);
        for (x, y) in blocks_a.zip(blocks_b) {
            let (x, y) = (vld1q_s8(x.as_ptr()), vld1q_s8(y.as_ptr()));
            sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
            sum = vpadalq_s16(sum, vmull_high_s8(x, y));
        }
        vaddvq_s32(sum) + tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_set_gives_the_whole_number(
            pairs in proptest::collection::vec((any::<i8>(), any::<i8>()), 0..700)
        ) {
            let (a, b): (Vec<i8>, Vec<i8>) = pairs.into_iter().unzip();
            let plain: i64 = a.iter().zip(&b).map(|(&x, &y)| i64::from(x) * i64::from(y)).sum();
            for isa in Isa::available() {
                prop_assert_eq!(i64::from(dot(isa, &a, &b)), plain, "{}", isa.name());
            }
        }
    }

    #[test]
    fn the_extremes_do_not_overflow() {
        for value in [-128i8, 127] {
            let row = vec![value; LONGEST - 1];
            for isa in Isa::available() {
                let expected = i32::from(value).pow(2) * (LONGEST as i32 - 1);
                assert_eq!(dot(isa, &row, &row), expected, "{}", isa.name());
            }
        }
    }
}
