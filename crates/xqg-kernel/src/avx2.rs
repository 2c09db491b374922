//! Tiles of 6 rows x 16 columns for AVX2 and FMA: 12 accumulators. The 8-bit tile multiplies pairs
//! with `maddubs`, whose 16-bit sums cannot saturate because weights are kept to 7 bits here:
//! 255 * 63 * 2 = 32130.

use std::arch::x86_64::*;

use crate::ops::Norm;
use crate::product::{Int8Panels, Operands, Place, Quantised};
use crate::rows;

const PANEL: usize = 16;

/// One tile of an f32 product.
///
/// # Safety
/// AVX2 and FMA are there; all rows and columns of the tile lie inside their buffers.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn tile_f32(o: &Operands, panel: &[f32], place: Place) {
    macro_rules! of {
        ($($m:literal)*) => {
            match place.rows {
                // SAFETY: passed on from the caller.
                $($m => unsafe { rows_f32::<$m>(o, panel, place) },)*
                _ => unreachable!("a tile has 1 to 6 rows"),
            }
        };
    }
    of!(1 2 3 4 5 6);
}

#[target_feature(enable = "avx2,fma")]
unsafe fn rows_f32<const M: usize>(o: &Operands, panel: &[f32], place: Place) {
    // SAFETY: the caller vouches for rows, columns and k of all buffers.
    unsafe {
        let a = o.a.as_ptr().add(place.row * o.a_stride);
        let mut sums = [[_mm256_setzero_ps(); 2]; M];
        let mut b = panel.as_ptr();
        for step in 0..o.k {
            let (left, right) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(i * o.a_stride + step));
                sum[0] = _mm256_fmadd_ps(x, left, sum[0]);
                sum[1] = _mm256_fmadd_ps(x, right, sum[1]);
            }
            b = b.add(PANEL);
        }
        store(sums, o, place);
    }
}

/// Adds bias and residual and stores the rows.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store<const M: usize>(sums: [[__m256; 2]; M], o: &Operands, place: Place) {
    for (i, sum) in sums.into_iter().enumerate() {
        for (half, mut v) in sum.into_iter().enumerate() {
            let column = place.column + half * 8;
            // SAFETY: the caller vouches for whole panels in bias, residual and result.
            unsafe {
                if let Some(bias) = o.bias {
                    v = _mm256_add_ps(v, _mm256_loadu_ps(bias.as_ptr().add(column)));
                }
                if let Some((residual, stride)) = o.residual {
                    let at = residual.as_ptr().add((place.row + i) * stride + column);
                    v = _mm256_add_ps(v, _mm256_loadu_ps(at));
                }
                let at = place.out.add((place.row + i) * place.out_stride + column);
                _mm256_storeu_ps(at, v);
            }
        }
    }
}

/// One tile of an 8-bit product.
///
/// # Safety
/// AVX2 and FMA are there; all rows and columns of the tile lie inside their buffers.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn tile_int8(
    k4: usize,
    factors: (&Quantised, &Int8Panels),
    o: &Operands,
    place: Place,
) {
    macro_rules! of {
        ($($m:literal)*) => {
            match place.rows {
                // SAFETY: passed on from the caller.
                $($m => unsafe {
                    let sums = match factors.0.narrow {
                        true => narrow_sums::<$m>(k4, factors, place),
                        false => wide_sums::<$m>(k4, factors, place),
                    };
                    scale_sums(sums, factors, o, place)
                },)*
                _ => unreachable!("a tile has 1 to 6 rows"),
            }
        };
    }
    of!(1 2 3 4 5 6);
}

/// The whole-number sums of a tile with 8-bit activations.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn wide_sums<const M: usize>(
    k4: usize,
    (a, w): (&Quantised, &Int8Panels),
    place: Place,
) -> [[__m256i; 2]; M] {
    // SAFETY: the caller vouches for rows, columns and k of all buffers.
    unsafe {
        let rows = a.values.as_ptr().add(place.row * k4);
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_si256(); 2]; M];
        let mut b = w.values.as_ptr().add(place.column * k4);
        for step in (0..k4).step_by(4) {
            let left = _mm256_loadu_si256(b.cast());
            let right = _mm256_loadu_si256(b.add(32).cast());
            for (i, sum) in sums.iter_mut().enumerate() {
                let four = rows.add(i * k4 + step).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(four);
                for (sum, weights) in sum.iter_mut().zip([left, right]) {
                    let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(x, weights), ones);
                    *sum = _mm256_add_epi32(*sum, pairs);
                }
            }
            b = b.add(PANEL * 4);
        }
        sums
    }
}

/// The same with 7-bit activations, where four products fit into 16 bits: 127 * 63 * 4 = 32004. One
/// widening serves two steps.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn narrow_sums<const M: usize>(
    k4: usize,
    (a, w): (&Quantised, &Int8Panels),
    place: Place,
) -> [[__m256i; 2]; M] {
    // SAFETY: the caller vouches for rows, columns and k of all buffers.
    unsafe {
        let rows = a.values.as_ptr().add(place.row * k4);
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_si256(); 2]; M];
        let mut b = w.values.as_ptr().add(place.column * k4);
        let four = |i: usize, step: usize| rows.add(i * k4 + step).cast::<i32>().read_unaligned();
        for step in (0..k4 & !7).step_by(8) {
            let weights = [0, 32, 64, 96].map(|at| _mm256_loadu_si256(b.add(at).cast()));
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(four(i, step));
                let next = _mm256_set1_epi32(four(i, step + 4));
                for (half, sum) in sum.iter_mut().enumerate() {
                    let pairs = _mm256_add_epi16(
                        _mm256_maddubs_epi16(x, weights[half]),
                        _mm256_maddubs_epi16(next, weights[half + 2]),
                    );
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                }
            }
            b = b.add(PANEL * 8);
        }
        if k4 & 4 != 0 {
            let weights = [0, 32].map(|at| _mm256_loadu_si256(b.add(at).cast()));
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(four(i, k4 - 4));
                for (sum, weights) in sum.iter_mut().zip(weights) {
                    let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(x, weights), ones);
                    *sum = _mm256_add_epi32(*sum, pairs);
                }
            }
        }
        sums
    }
}

/// Takes the zeros out of whole-number sums, scales them, and stores the rows.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn scale_sums<const M: usize>(
    sums: [[__m256i; 2]; M],
    (a, w): (&Quantised, &Int8Panels),
    o: &Operands,
    place: Place,
) {
    // SAFETY: the caller vouches for rows and columns of all buffers.
    unsafe {
        let mut scaled = [[_mm256_setzero_ps(); 2]; M];
        for (i, (to, sum)) in scaled.iter_mut().zip(sums).enumerate() {
            let zero = _mm256_set1_epi32(a.zeros[place.row + i]);
            let scale = _mm256_set1_ps(a.scales[place.row + i]);
            for half in 0..2 {
                let at = place.column + half * 8;
                let columns = _mm256_loadu_si256(w.sums.as_ptr().add(at).cast());
                let whole = _mm256_sub_epi32(sum[half], _mm256_mullo_epi32(zero, columns));
                let scale = _mm256_mul_ps(scale, _mm256_loadu_ps(w.scales.as_ptr().add(at)));
                to[half] = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), scale);
            }
        }
        store(scaled, o, place);
    }
}

rows::entry_points!("avx2,fma", __m256);
