//! Tiles of 6 rows x 16 columns for NEON: 24 accumulators of four lanes. The 8-bit tile lowers its
//! activations by 128, so that both sides are signed, and the row's zero with them. It multiplies
//! with the dot product of four where the machine has it, else widens: two products fit into 16
//! bits, 128 * 127 * 2 = 32512, for weights lie between -127 and 127.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::ops::Norm;
use crate::product::{Int8Panels, Operands, Place, Quantised};
use crate::rows;

const PANEL: usize = 16;

/// One tile of an f32 product.
///
/// # Safety
/// NEON is there; all rows and columns of the tile lie inside their buffers.
#[target_feature(enable = "neon")]
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

#[target_feature(enable = "neon")]
unsafe fn rows_f32<const M: usize>(o: &Operands, panel: &[f32], place: Place) {
    // SAFETY: the caller vouches for rows, columns and k of all buffers.
    unsafe {
        let a = o.a.as_ptr().add(place.row * o.a_stride);
        let mut sums = [[vdupq_n_f32(0.0); 4]; M];
        let mut b = panel.as_ptr();
        for step in 0..o.k {
            let weights = [0, 4, 8, 12].map(|at| vld1q_f32(b.add(at)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = *a.add(i * o.a_stride + step);
                for (sum, weights) in sum.iter_mut().zip(weights) {
                    *sum = vfmaq_n_f32(*sum, weights, x);
                }
            }
            b = b.add(PANEL);
        }
        store(sums, o, place);
    }
}

/// Adds bias and residual and stores the rows.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn store<const M: usize>(sums: [[float32x4_t; 4]; M], o: &Operands, place: Place) {
    for (i, sum) in sums.into_iter().enumerate() {
        for (quarter, mut v) in sum.into_iter().enumerate() {
            let column = place.column + quarter * 4;
            // SAFETY: the caller vouches for whole panels in bias, residual and result.
            unsafe {
                if let Some(bias) = o.bias {
                    v = vaddq_f32(v, vld1q_f32(bias.as_ptr().add(column)));
                }
                if let Some((residual, stride)) = o.residual {
                    let at = residual.as_ptr().add((place.row + i) * stride + column);
                    v = vaddq_f32(v, vld1q_f32(at));
                }
                vst1q_f32(place.out.add((place.row + i) * place.out_stride + column), v);
            }
        }
    }
}

/// Writes the entry point of an 8-bit tile, compiled for a set.
macro_rules! int8_entry_point {
    ($name:ident, $features:literal, $dot:literal) => {
        /// One tile of an 8-bit product.
        ///
        /// # Safety
        /// The set is there; all rows and columns of the tile lie inside their buffers.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn $name(
            k4: usize,
            factors: (&Quantised, &Int8Panels),
            o: &Operands,
            place: Place,
        ) {
            macro_rules! of {
                ($m:literal) => {
                    // SAFETY: passed on from the caller.
                    unsafe { rows_int8::<$m, $dot>(k4, factors, o, place) }
                };
            }
            match place.rows {
                1 => of!(1),
                2 => of!(2),
                3 => of!(3),
                4 => of!(4),
                5 => of!(5),
                6 => of!(6),
                _ => unreachable!("a tile has 1 to 6 rows"),
            }
        }
    };
}
int8_entry_point!(tile_int8, "neon", false);
int8_entry_point!(tile_int8_dot, "neon,dotprod", true);

/// # Safety
/// As for the entry points; `DOT` asks for a machine with the dot product.
#[inline(always)]
unsafe fn rows_int8<const M: usize, const DOT: bool>(
    k4: usize,
    (a, w): (&Quantised, &Int8Panels),
    o: &Operands,
    place: Place,
) {
    // SAFETY: the caller vouches for rows, columns and k of all buffers.
    unsafe {
        let rows = a.values.as_ptr().add(place.row * k4);
        let mut sums = [[vdupq_n_s32(0); 4]; M];
        let mut b = w.values.as_ptr().add(place.column * k4);
        for step in (0..k4).step_by(4) {
            let weights = [0, 16, 32, 48].map(|at| vld1q_s8(b.add(at)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let four = rows.add(i * k4 + step).cast::<u32>().read_unaligned();
                let x = vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x8080_8080));
                for (sum, weights) in sum.iter_mut().zip(weights) {
                    *sum = add_fours::<DOT>(*sum, x, weights);
                }
            }
            b = b.add(PANEL * 4);
        }
        scale_sums(sums, (a, w), o, place);
    }
}

/// Adds to each lane the four products of its bytes, of which one side is never -128.
///
/// # Safety
/// NEON is there, and for `DOT` its dot product.
#[inline(always)]
pub(crate) unsafe fn add_fours<const DOT: bool>(
    sum: int32x4_t,
    x: int8x16_t,
    weights: int8x16_t,
) -> int32x4_t {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        if DOT {
            return dot(sum, x, weights);
        }
        let low = vmull_s8(vget_low_s8(x), vget_low_s8(weights));
        let high = vmull_high_s8(x, weights);
        vpadalq_s16(sum, vpaddq_s16(low, high))
    }
}

/// The dot product of four signed bytes a lane. In assembly, for the standard library's function is
/// not stable yet.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot(mut sum: int32x4_t, x: int8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes the named registers only, and the function enables
    // the set that it belongs to.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {x:v}.16b, {weights:v}.16b",
            sum = inout(vreg) sum,
            x = in(vreg) x,
            weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Takes the zeros out of whole-number sums, scales them, and stores the rows.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn scale_sums<const M: usize>(
    sums: [[int32x4_t; 4]; M],
    (a, w): (&Quantised, &Int8Panels),
    o: &Operands,
    place: Place,
) {
    // SAFETY: the caller vouches for rows and columns of all buffers.
    unsafe {
        let mut scaled = [[vdupq_n_f32(0.0); 4]; M];
        for (i, (to, sum)) in scaled.iter_mut().zip(sums).enumerate() {
            // Activations were lowered by 128; wrapping, as the vector arithmetic of all sets.
            let zero = a.zeros[place.row + i].wrapping_sub(128);
            let scale = a.scales[place.row + i];
            for (quarter, (to, sum)) in to.iter_mut().zip(sum).enumerate() {
                let at = place.column + quarter * 4;
                let whole = vmlsq_n_s32(sum, vld1q_s32(w.sums.as_ptr().add(at)), zero);
                let scale = vmulq_n_f32(vld1q_f32(w.scales.as_ptr().add(at)), scale);
                *to = vmulq_f32(vcvtq_f32_s32(whole), scale);
            }
        }
        store(scaled, o, place);
    }
}

rows::entry_points!("neon", float32x4_t);
