//! Tiles of 12 rows x 32 columns for AVX-512: 24 accumulators, two loads of weights a step, the
//! activation broadcast from memory. The 8-bit tile is the same with VNNI's dot product of four.

use std::arch::x86_64::*;

use crate::ops::Norm;
use crate::product::{Int8Panels, Operands, Place, Quantised};
use crate::rows;

const PANEL: usize = 32;

/// One tile of an f32 product.
///
/// # Safety
/// AVX-512F is there; all rows and columns of the tile lie inside their buffers.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn tile_f32(o: &Operands, panel: &[f32], place: Place) {
    macro_rules! of {
        ($($m:literal)*) => {
            match place.rows {
                // SAFETY: passed on from the caller.
                $($m => unsafe { rows_f32::<$m>(o, panel, place) },)*
                _ => unreachable!("a tile has 1 to 12 rows"),
            }
        };
    }
    of!(1 2 3 4 5 6 7 8 9 10 11 12);
}

#[target_feature(enable = "avx512f")]
unsafe fn rows_f32<const M: usize>(o: &Operands, panel: &[f32], place: Place) {
    // SAFETY: the caller vouches for rows, columns and k of all buffers.
    unsafe {
        let a = o.a.as_ptr().add(place.row * o.a_stride);
        let mut sums = [[_mm512_setzero_ps(); 2]; M];
        let mut b = panel.as_ptr();
        for step in 0..o.k {
            let (left, right) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i * o.a_stride + step));
                sum[0] = _mm512_fmadd_ps(x, left, sum[0]);
                sum[1] = _mm512_fmadd_ps(x, right, sum[1]);
            }
            b = b.add(PANEL);
        }
        store(sums, o, place);
    }
}

/// Adds bias and residual and stores the rows.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store<const M: usize>(sums: [[__m512; 2]; M], o: &Operands, place: Place) {
    for (i, sum) in sums.into_iter().enumerate() {
        for (half, mut v) in sum.into_iter().enumerate() {
            let column = place.column + half * 16;
            // SAFETY: the caller vouches for whole panels in bias, residual and result.
            unsafe {
                if let Some(bias) = o.bias {
                    v = _mm512_add_ps(v, _mm512_loadu_ps(bias.as_ptr().add(column)));
                }
                if let Some((residual, stride)) = o.residual {
                    let at = residual.as_ptr().add((place.row + i) * stride + column);
                    v = _mm512_add_ps(v, _mm512_loadu_ps(at));
                }
                let at = place.out.add((place.row + i) * place.out_stride + column);
                _mm512_storeu_ps(at, v);
            }
        }
    }
}

/// One tile of an 8-bit product.
///
/// # Safety
/// AVX-512F and VNNI are there; all rows and columns of the tile lie inside their buffers.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
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
                $($m => unsafe { rows_int8::<$m>(k4, factors, o, place) },)*
                _ => unreachable!("a tile has 1 to 12 rows"),
            }
        };
    }
    of!(1 2 3 4 5 6 7 8 9 10 11 12);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rows_int8<const M: usize>(
    k4: usize,
    (a, w): (&Quantised, &Int8Panels),
    o: &Operands,
    place: Place,
) {
    // SAFETY: the caller vouches for rows, columns and k of all buffers.
    unsafe {
        let rows = a.values.as_ptr().add(place.row * k4);
        let mut sums = [[_mm512_setzero_si512(); 2]; M];
        let mut b = w.values.as_ptr().add(place.column * k4);
        for step in (0..k4).step_by(4) {
            let left = _mm512_loadu_si512(b.cast());
            let right = _mm512_loadu_si512(b.add(64).cast());
            for (i, sum) in sums.iter_mut().enumerate() {
                let four = rows.add(i * k4 + step).cast::<i32>().read_unaligned();
                let x = _mm512_set1_epi32(four);
                sum[0] = _mm512_dpbusd_epi32(sum[0], x, left);
                sum[1] = _mm512_dpbusd_epi32(sum[1], x, right);
            }
            b = b.add(PANEL * 4);
        }
        let mut scaled = [[_mm512_setzero_ps(); 2]; M];
        for (i, (to, sum)) in scaled.iter_mut().zip(sums).enumerate() {
            let zero = _mm512_set1_epi32(a.zeros[place.row + i]);
            let scale = _mm512_set1_ps(a.scales[place.row + i]);
            for half in 0..2 {
                let at = place.column + half * 16;
                let columns = _mm512_loadu_si512(w.sums.as_ptr().add(at).cast());
                let whole = _mm512_sub_epi32(sum[half], _mm512_mullo_epi32(zero, columns));
                let scale = _mm512_mul_ps(scale, _mm512_loadu_ps(w.scales.as_ptr().add(at)));
                to[half] = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
            }
        }
        store(scaled, o, place);
    }
}

rows::entry_points!("avx512f,avx512bw", __m512);
