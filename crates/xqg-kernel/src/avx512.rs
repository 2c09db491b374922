//! Tiles of 12 rows x 32 columns for AVX-512: 24 accumulators, two loads of weights a step, the
//! activation broadcast from memory. The 8-bit tile is the same with VNNI's dot product of four.

use std::arch::x86_64::*;

use crate::ops::Norm;
use crate::product::{Int8Panels, Operands, Place, Quantised};
use crate::rows;

const PANEL: usize = 32;

/// The normal distribution less a half over [0, 5) in 16 cubic pieces, by powers from 3 to 0: the
/// output of `tables/gelu_pieces.py`, which also tells the error of the GELU made of it.
#[rustfmt::skip]
const GELU_PIECES: [[f32; 16]; 4] = [
    [ -0.0019468644, -0.0014137545, -0.00058335176, 0.00021433891, 0.0007322572, 0.00090104167, 0.00080416276, 0.0005848745, 0.0003618165, 0.00019439142, 9.178755e-05, 3.8375172e-05, 1.4277827e-05, 4.7442713e-06, 1.4116158e-06, 3.7685444e-07 ],
    [ -6.832909e-05, -0.0060142926, -0.010286501, -0.011993197, -0.011268376, -0.008994729, -0.0062457346, -0.0038207623, -0.002074856, -0.0010051646, -0.00043588, -0.00016960225, -5.9321832e-05, -1.8677327e-05, -5.299085e-06, -1.355961e-06 ],
    [ 0.1246848, 0.11877274, 0.10260468, 0.08037985, 0.05710084, 0.036782503, 0.021484936, 0.011379244, 0.005464792, 0.002379636, 0.00093955273, 0.00033635952, 0.00010918359, 3.213527e-05, 8.575868e-06, 2.075138e-06 ],
    [ -5.10573e-07, 0.12266831, 0.23401277, 0.3257479, 0.39434952, 0.4409148, 0.469604, 0.48564744, 0.49379075, 0.49754235, 0.49911112, 0.4997065, 0.4999116, 0.49997574, 0.49999392, 0.49999863 ],
];

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

/// The GELU from a table of cubic pieces, to 2e-6: see [`GELU_PIECES`].
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn gelu_near(x: __m512) -> __m512 {
    // SAFETY: a row of the table has 16 numbers.
    unsafe {
        let size = _mm512_abs_ps(x);
        let y = _mm512_min_ps(_mm512_mul_ps(size, _mm512_set1_ps(3.2)), _mm512_set1_ps(15.999_999));
        let piece = _mm512_cvttps_epi32(y);
        let u = _mm512_sub_ps(y, _mm512_cvtepi32_ps(piece));
        let of = |power: usize| {
            _mm512_permutexvar_ps(piece, _mm512_loadu_ps(GELU_PIECES[power].as_ptr()))
        };
        let above =
            _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_fmadd_ps(of(0), u, of(1)), u, of(2)), u, of(3));
        _mm512_fmadd_ps(size, above, _mm512_mul_ps(x, _mm512_set1_ps(0.5)))
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
        store_int8(sums, (a, w), o, place);
    }
}

/// Scales an 8-bit tile back to f32, adds bias and residual, applies the activation and stores it.
/// The zero of a row is taken off as its offset times the column's sum of weights.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_int8<const M: usize>(
    sums: [[__m512i; 2]; M],
    (a, w): (&Quantised, &Int8Panels),
    o: &Operands,
    place: Place,
) {
    // SAFETY: the caller vouches for whole panels in scales, sums, bias, residual and result.
    unsafe {
        let (row_scales, offsets) =
            (a.scales.as_ptr().add(place.row), a.offsets.as_ptr().add(place.row));
        for half in 0..2 {
            let column = place.column + half * 16;
            let scale = _mm512_loadu_ps(w.scales.as_ptr().add(column));
            let total = _mm512_loadu_si512(w.sums.as_ptr().add(column).cast());
            let total = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scale);
            let bias =
                o.bias.map_or(_mm512_setzero_ps(), |b| _mm512_loadu_ps(b.as_ptr().add(column)));
            for (i, sum) in sums.iter().enumerate() {
                let row_scale = _mm512_set1_ps(*row_scales.add(i));
                let zero = _mm512_fnmadd_ps(_mm512_set1_ps(*offsets.add(i)), total, bias);
                let v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[half]), row_scale);
                let mut v = _mm512_fmadd_ps(v, scale, zero);
                if let Some((residual, stride)) = o.residual {
                    let at = residual.as_ptr().add((place.row + i) * stride + column);
                    v = _mm512_add_ps(v, _mm512_loadu_ps(at));
                }
                if o.gelu {
                    v = gelu_near(v);
                }
                let at = place.out.add((place.row + i) * place.out_stride + column);
                _mm512_storeu_ps(at, v);
            }
        }
    }
}

rows::entry_points!("avx512f,avx512bw", __m512);
