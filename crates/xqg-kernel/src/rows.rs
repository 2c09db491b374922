//! What happens to a row between two products: activation, softmax, layer norm, quantising. Written
//! once over a register of lanes; rows hold whole registers, which the callers see to. The formulas
//! are those of [`crate::ops`], which these are tested against.

use crate::lanes::Lanes;

/// The exponential for x <= 0, zero below -87; see `ops::exp`.
#[inline(always)]
unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let limit = L::splat(-87.0);
        let y = x.max(limit);
        let n = y.mul(L::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(L::splat(-0.693_359_4), y);
        let r = n.mul_add(L::splat(2.121_944_4e-4), r);
        let mut p = L::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
            p = p.mul_add(r, L::splat(c));
        }
        let mantissa = p.mul_add(r.mul(r), r.add(L::splat(1.0)));
        mantissa.times_power_of_two(n).zero_below(x, limit)
    }
}

/// The exact GELU of whole registers; see `ops::gelu`.
///
/// # Safety
/// The instruction set is there.
#[inline(always)]
pub(crate) unsafe fn gelu<L: Lanes>(numbers: &mut [f32]) {
    for block in numbers.chunks_exact_mut(L::N) {
        // SAFETY: a block has `N` numbers; the caller vouches for the instruction set.
        unsafe {
            let x = L::load(block.as_ptr());
            let z = x.abs().mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
            let one = L::splat(1.0);
            let t = one.div(z.mul_add(L::splat(0.327_591_1), one));
            let mut p = L::splat(1.061_405_4);
            for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
                p = p.mul_add(t, L::splat(c));
            }
            let tail = p.mul(t).mul(exp(z.mul(z).mul(L::splat(-1.0))));
            let half = x.mul(L::splat(0.5));
            half.abs().mul_add(one.sub(tail), half).store(block.as_mut_ptr());
        }
    }
}

/// Softmax of the first `columns` numbers of a row after a factor; the rest becomes zero.
///
/// # Safety
/// The instruction set is there; the row holds whole registers.
#[inline(always)]
pub(crate) unsafe fn softmax<L: Lanes>(row: &mut [f32], columns: usize, scale: f32) {
    row[columns..].fill(f32::MIN);
    // SAFETY: blocks have `N` numbers; the caller vouches for the instruction set.
    unsafe {
        let mut greatest = L::splat(f32::MIN);
        for block in row.chunks_exact(L::N) {
            greatest = greatest.max(L::load(block.as_ptr()));
        }
        let greatest = L::splat(greatest.greatest());
        let (scale, mut total) = (L::splat(scale), L::splat(0.0));
        for block in row.chunks_exact_mut(L::N) {
            let e = exp(L::load(block.as_ptr()).sub(greatest).mul(scale));
            total = total.add(e);
            e.store(block.as_mut_ptr());
        }
        let inverse = L::splat(1.0 / total.total());
        for block in row.chunks_exact_mut(L::N) {
            L::load(block.as_ptr()).mul(inverse).store(block.as_mut_ptr());
        }
    }
}

/// Layer norm of one row.
///
/// # Safety
/// The instruction set is there; row, weight and bias have one length, of whole registers.
#[inline(always)]
pub(crate) unsafe fn norm<L: Lanes>(row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = row.len() as f32;
    // SAFETY: blocks have `N` numbers; the caller vouches for lengths and instruction set.
    unsafe {
        // Two sums of each, for one would wait for itself.
        let mut total = [L::splat(0.0); 2];
        for (i, block) in row.chunks_exact(L::N).enumerate() {
            total[i % 2] = total[i % 2].add(L::load(block.as_ptr()));
        }
        let mean = L::splat(total[0].add(total[1]).total() / n);
        let mut squares = [L::splat(0.0); 2];
        for (i, block) in row.chunks_exact(L::N).enumerate() {
            let d = L::load(block.as_ptr()).sub(mean);
            squares[i % 2] = d.mul_add(d, squares[i % 2]);
        }
        let variance = squares[0].add(squares[1]).total() / n;
        let scale = L::splat(1.0 / (variance + eps).sqrt());
        for (i, block) in row.chunks_exact_mut(L::N).enumerate() {
            let w = L::load(weight.as_ptr().add(i * L::N)).mul(scale);
            let b = L::load(bias.as_ptr().add(i * L::N));
            L::load(block.as_ptr()).sub(mean).mul_add(w, b).store(block.as_mut_ptr());
        }
    }
}

/// Divides a row by its root mean square; see `ops::rms_rows`.
///
/// # Safety
/// The instruction set is there; row and weight have one length, of whole registers.
#[inline(always)]
pub(crate) unsafe fn rms<L: Lanes>(row: &mut [f32], weight: &[f32], eps: f32) {
    // SAFETY: blocks have `N` numbers; the caller vouches for lengths and instruction set.
    unsafe {
        let mut squares = L::splat(0.0);
        for block in row.chunks_exact(L::N) {
            let x = L::load(block.as_ptr());
            squares = x.mul_add(x, squares);
        }
        let mean = squares.total() / row.len() as f32;
        let scale = L::splat(1.0 / (mean + eps).sqrt());
        for (i, block) in row.chunks_exact_mut(L::N).enumerate() {
            let w = L::load(weight.as_ptr().add(i * L::N));
            L::load(block.as_ptr()).mul(scale).mul(w).store(block.as_mut_ptr());
        }
    }
}

/// The greatest number of a row; see `ops::greatest`.
///
/// # Safety
/// The instruction set is there; the row holds whole registers.
#[inline(always)]
pub(crate) unsafe fn greatest<L: Lanes>(row: &[f32]) -> f32 {
    // SAFETY: blocks have `N` numbers; the caller vouches for the instruction set.
    unsafe {
        let mut found = L::splat(f32::MIN);
        for block in row.chunks_exact(L::N) {
            found = found.max(L::load(block.as_ptr()));
        }
        found.greatest()
    }
}

/// The sum of `exp(x - shift)`; see `ops::sum_exp`.
///
/// # Safety
/// The instruction set is there; the row holds whole registers.
#[inline(always)]
pub(crate) unsafe fn sum_exp<L: Lanes>(row: &[f32], shift: f32) -> f32 {
    // SAFETY: blocks have `N` numbers; the caller vouches for the instruction set.
    unsafe {
        let (shift, mut total) = (L::splat(shift), L::splat(0.0));
        for block in row.chunks_exact(L::N) {
            total = total.add(exp(L::load(block.as_ptr()).sub(shift)));
        }
        total.total()
    }
}

/// `gelu_tanh(x) · gate` of whole registers, in place of x; see `ops::gate`.
///
/// # Safety
/// The instruction set is there; both have one length, of whole registers.
#[inline(always)]
pub(crate) unsafe fn gate<L: Lanes>(numbers: &mut [f32], gate: &[f32]) {
    for (i, block) in numbers.chunks_exact_mut(L::N).enumerate() {
        // SAFETY: a block has `N` numbers; the caller vouches for lengths and instruction set.
        unsafe {
            let x = L::load(block.as_ptr());
            let one = L::splat(1.0);
            let cube = x.mul(x).mul(L::splat(0.044_715)).mul_add(x, x);
            let y = cube.mul(L::splat(1.595_769));
            // σ(y) = (y < 0 ? e : 1) / (1 + e) with e = exp(-|y|).
            let e = exp(y.abs().mul(L::splat(-1.0)));
            let below = one.sub(one.zero_below(y, L::splat(0.0)));
            let above = one.sub(below);
            let sigmoid = below.mul_add(e, above).div(one.add(e));
            x.mul(sigmoid).mul(L::load(gate.as_ptr().add(i * L::N))).store(block.as_mut_ptr());
        }
    }
}

/// The least and the greatest number of a row and zero.
#[inline(always)]
unsafe fn range<L: Lanes>(x: &[f32]) -> (f32, f32) {
    // SAFETY: blocks have `N` numbers; the caller vouches for lengths and instruction set.
    unsafe {
        // Four of each, for one would wait for itself.
        let (mut low, mut high) = ([L::splat(0.0); 4], [L::splat(0.0); 4]);
        let mut fours = x.chunks_exact(4 * L::N);
        for four in &mut fours {
            for i in 0..4 {
                let v = L::load(four.as_ptr().add(i * L::N));
                (low[i], high[i]) = (low[i].min(v), high[i].max(v));
            }
        }
        for block in fours.remainder().chunks_exact(L::N) {
            let v = L::load(block.as_ptr());
            (low[0], high[0]) = (low[0].min(v), high[0].max(v));
        }
        let low = low[0].min(low[1]).min(low[2].min(low[3]));
        let high = high[0].max(high[1]).max(high[2].max(high[3]));
        (low.least(), high.greatest())
    }
}

/// Quantises a row; returns scale and zero. See `ops::quantise_row`.
///
/// # Safety
/// The instruction set is there; both rows have one length, of whole registers.
#[inline(always)]
pub(crate) unsafe fn quantise<L: Lanes>(x: &[f32], steps: f32, out: &mut [u8]) -> (f32, i32) {
    // SAFETY: blocks have `N` numbers; the caller vouches for lengths and instruction set.
    unsafe {
        let (low, high) = range::<L>(x);
        let scale = ((high - low) / steps).max(f32::MIN_POSITIVE);
        let zero = (-low / scale).round();
        let (inverse, shift) = (L::splat(1.0 / scale), L::splat(zero));
        // Rounded, a level is at most `steps + 1`, and below zero only by the last digits.
        let mut done = 0;
        while done + 4 * L::N <= x.len() {
            let mut four = [shift; 4];
            for (i, level) in four.iter_mut().enumerate() {
                *level = L::load(x.as_ptr().add(done + i * L::N)).mul_add(inverse, shift);
            }
            L::store_four(four, out.as_mut_ptr().add(done));
            done += 4 * L::N;
        }
        while done < x.len() {
            let level = L::load(x.as_ptr().add(done)).mul_add(inverse, shift);
            level.max(L::splat(0.0)).store_bytes(out.as_mut_ptr().add(done));
            done += L::N;
        }
        (scale, zero as i32)
    }
}

/// Writes the entry points of a set: the functions above, compiled for it.
macro_rules! entry_points {
    ($features:literal, $register:ty) => {
        /// The exact GELU of every number.
        ///
        /// # Safety
        /// The set is there; the buffer holds whole registers.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn gelu(numbers: &mut [f32]) {
            // SAFETY: passed on.
            unsafe { rows::gelu::<$register>(numbers) }
        }

        /// Softmax of rows that lie `stride` apart.
        ///
        /// # Safety
        /// The set is there; a stride holds whole registers.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn softmax(
            scores: &mut [f32],
            stride: usize,
            columns: usize,
            scale: f32,
        ) {
            for row in scores.chunks_exact_mut(stride) {
                // SAFETY: passed on.
                unsafe { rows::softmax::<$register>(row, columns, scale) }
            }
        }

        /// Layer norm of rows that lie `stride` apart.
        ///
        /// # Safety
        /// The set is there; weight and bias hold whole registers and are no longer than a stride.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn norm(data: &mut [f32], stride: usize, norm: &Norm) {
            for row in data.chunks_exact_mut(stride) {
                let row = &mut row[..norm.weight.len()];
                // SAFETY: passed on.
                unsafe { rows::norm::<$register>(row, &norm.weight, &norm.bias, norm.eps) }
            }
        }

        /// Root-mean-square norm of rows that lie `stride` apart.
        ///
        /// # Safety
        /// The set is there; the weight holds whole registers and is no longer than a stride.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn rms(data: &mut [f32], stride: usize, weight: &[f32], eps: f32) {
            for row in data.chunks_exact_mut(stride) {
                // SAFETY: passed on.
                unsafe { rows::rms::<$register>(&mut row[..weight.len()], weight, eps) }
            }
        }

        /// The greatest number of a row.
        ///
        /// # Safety
        /// The set is there; the row holds whole registers.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn greatest(row: &[f32]) -> f32 {
            // SAFETY: passed on.
            unsafe { rows::greatest::<$register>(row) }
        }

        /// The sum of `exp(x - shift)`.
        ///
        /// # Safety
        /// The set is there; the row holds whole registers.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn sum_exp(row: &[f32], shift: f32) -> f32 {
            // SAFETY: passed on.
            unsafe { rows::sum_exp::<$register>(row, shift) }
        }

        /// `gelu_tanh(x) · gate` in place of x.
        ///
        /// # Safety
        /// The set is there; both have one length, of whole registers.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn gate(numbers: &mut [f32], gate: &[f32]) {
            // SAFETY: passed on.
            unsafe { rows::gate::<$register>(numbers, gate) }
        }

        /// Quantises one row; returns scale and zero.
        ///
        /// # Safety
        /// The set is there; row and result have one length, of whole registers.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn quantise(x: &[f32], steps: f32, out: &mut [u8]) -> (f32, i32) {
            // SAFETY: passed on.
            unsafe { rows::quantise::<$register>(x, steps, out) }
        }
    };
}
pub(crate) use entry_points;
