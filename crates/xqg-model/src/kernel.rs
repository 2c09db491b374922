//! The inner loops that are written for an instruction set, and the choice between them at run time.
//!
//! Every kernel multiplies a few rows of activations with one panel of packed weights. A result
//! element is one chain of fused multiply-adds over k, in order, whatever the number of rows beside
//! it: so a text's vector is the same bit for bit in any batch and on any number of threads. Sets
//! that are not here take the portable path of [`crate::ops`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod rows;

use crate::config::Activation;
use crate::ops::{self, Norm};

/// Numbers in the widest register: rows that are a multiple of it take the kernels.
const WIDEST: usize = 16;

/// An instruction set that kernels are written for and that this machine has: a value of this type
/// is the proof, for only [`Isa::available`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// Plain loops and a GEMM crate.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 with the 8-bit dot product of VNNI.
    Avx512Vnni,
}

impl Isa {
    /// None of the sets below: what every machine has.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// The best set of this machine.
    pub fn detect() -> Self {
        *Self::available().last().expect("the portable path is always there")
    }

    /// All sets of this machine, the best one last.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self(Set::Avx2));
                let wide = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni");
                if wide {
                    sets.push(Self(Set::Avx512Vnni));
                }
            }
        }
        sets
    }

    /// The set of that name, where this machine has it: `portable`, `avx2` or `avx512`.
    pub fn named(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// The set's name.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            Set::Avx2 => "avx2",
            Set::Avx512Vnni => "avx512",
        }
    }

    /// The greatest 8-bit weight: AVX2's kernel keeps to 7 bits so that its sums cannot saturate.
    pub fn greatest_weight(self) -> f32 {
        if self.0 == Set::Avx2 { 63.0 } else { 127.0 }
    }

    /// Columns of a panel of packed weights; 1 where nothing is packed.
    pub fn panel(self) -> usize {
        match self.0 {
            Set::Avx512Vnni => 32,
            Set::Avx2 => 16,
            Set::Portable => 1,
        }
    }
}

/// A product of activations and packed weights: `out = a · panels (+ bias) (+ residual)`.
///
/// Row i of `a` begins at `i * a_stride`, and likewise for the others. `panels` holds, one after
/// the other, blocks of `k x panel` numbers. Rows of `out` are written in whole panels, so its
/// stride and length leave room for the last one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// Rows of the left factor.
    pub a: &'a [f32],
    /// Numbers between the beginnings of two rows of `a`.
    pub a_stride: usize,
    /// Length of the sums.
    pub k: usize,
    /// The packed right factor.
    pub panels: &'a [f32],
    /// Added to each row: one number a column, whole panels.
    pub bias: Option<&'a [f32]>,
    /// Added element by element, with its stride.
    pub residual: Option<(&'a [f32], usize)>,
}

/// Activations as unsigned 8-bit numbers: `x ≈ scale (q - zero)`, row by row.
#[derive(Debug, Default)]
pub(crate) struct Quantised {
    /// `rows x k4` numbers, k rounded up to a multiple of 4.
    pub values: Vec<u8>,
    /// The scale of each row.
    pub scales: Vec<f32>,
    /// The zero of each row.
    pub zeros: Vec<i32>,
}

/// Weights as signed 8-bit numbers in panels: `w ≈ scale q`, column by column.
#[derive(Debug, Default)]
pub(crate) struct Int8Panels {
    /// Blocks of `k4 / 4 x panel x 4` numbers, one a panel.
    pub values: Vec<i8>,
    /// The scale of each column, whole panels.
    pub scales: Vec<f32>,
    /// The sum of each column's numbers: what a row's zero has to be corrected by.
    pub sums: Vec<i32>,
}

/// Rows that kernels of this set take at once.
fn tile_rows(isa: Isa) -> usize {
    if isa.0 == Set::Avx512Vnni { 12 } else { 6 }
}

/// Rows whose panels are reused while they lie in the cache.
const ROW_BLOCK: usize = 96;

/// Multiplies in f32 with the kernels of a set.
///
/// # Panics
/// When a buffer is shorter than the shapes say, or the set is the portable one.
pub(crate) fn product_f32(isa: Isa, rows: usize, o: Operands, out: &mut [f32], out_stride: usize) {
    let panel = isa.panel();
    let panels = o.panels.len() / (o.k * panel).max(1);
    check(rows, panels * panel, &o, out, out_stride);
    for start in (0..rows).step_by(ROW_BLOCK) {
        let end = rows.min(start + ROW_BLOCK);
        for p in 0..panels {
            for row in (start..end).step_by(tile_rows(isa)) {
                let m = tile_rows(isa).min(end - row);
                let place = Place { row, column: p * panel, rows: m, out_stride };
                tile_f32(isa, &o, &o.panels[p * o.k * panel..], place, out);
            }
        }
    }
}

/// Where a tile lies in the result.
#[derive(Debug, Clone, Copy)]
struct Place {
    row: usize,
    column: usize,
    rows: usize,
    out_stride: usize,
}

fn check(rows: usize, columns: usize, o: &Operands, out: &[f32], out_stride: usize) {
    assert!(fits(o.a.len(), rows, o.a_stride, o.k), "the left factor has all its rows");
    assert!(fits(out.len(), rows, out_stride, columns), "the result has room for whole panels");
    assert!(o.bias.is_none_or(|b| b.len() >= columns), "the bias has whole panels");
    let whole = o.residual.is_none_or(|(r, stride)| fits(r.len(), rows, stride, columns));
    assert!(whole, "the residual has whole panels");
}

/// Whether rows of `width` numbers, `stride` apart, lie inside a buffer of that length.
pub(crate) fn fits(length: usize, rows: usize, stride: usize, width: usize) -> bool {
    let end = rows.checked_sub(1).map_or(Some(0), |last| last.checked_mul(stride));
    rows == 0 || end.and_then(|end| end.checked_add(width)).is_some_and(|end| end <= length)
}

#[cfg(target_arch = "x86_64")]
fn tile_f32(isa: Isa, o: &Operands, panel: &[f32], place: Place, out: &mut [f32]) {
    // SAFETY: `product_f32` has checked all buffers against the shapes, and an `Isa` of another
    // set than the portable one is only made where the machine has it.
    unsafe {
        match isa.0 {
            Set::Avx512Vnni => avx512::tile_f32(o, panel, place, out),
            Set::Avx2 => avx2::tile_f32(o, panel, place, out),
            Set::Portable => unreachable!("the portable path has no tiles"),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn tile_f32(_: Isa, _: &Operands, _: &[f32], _: Place, _: &mut [f32]) {
    unreachable!("the portable path has no tiles")
}

/// Multiplies 8-bit activations with 8-bit weights and scales the result back to f32.
///
/// # Panics
/// When a buffer is shorter than the shapes say, or the set is the portable one.
pub(crate) fn product_int8(
    isa: Isa,
    (rows, k4): (usize, usize),
    a: &Quantised,
    w: &Int8Panels,
    o: Operands,
    (out, out_stride): (&mut [f32], usize),
) {
    let panel = isa.panel();
    let panels = w.scales.len() / panel;
    check(rows, panels * panel, &Operands { a: &[], a_stride: 0, k: 0, ..o }, out, out_stride);
    assert!(k4.is_multiple_of(4), "four activations a step");
    assert!(fits(a.values.len(), rows, k4, k4) && a.scales.len() >= rows && a.zeros.len() >= rows);
    assert!(fits(w.values.len(), panels * panel, k4, k4) && w.sums.len() >= panels * panel);
    for start in (0..rows).step_by(ROW_BLOCK) {
        let end = rows.min(start + ROW_BLOCK);
        for p in 0..panels {
            for row in (start..end).step_by(tile_rows(isa)) {
                let m = tile_rows(isa).min(end - row);
                let place = Place { row, column: p * panel, rows: m, out_stride };
                tile_int8(isa, k4, (a, w), &o, place, out);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn tile_int8(
    isa: Isa,
    k4: usize,
    factors: (&Quantised, &Int8Panels),
    o: &Operands,
    place: Place,
    out: &mut [f32],
) {
    // SAFETY: `product_int8` has checked all buffers against the shapes, and an `Isa` of another
    // set than the portable one is only made where the machine has it.
    unsafe {
        match isa.0 {
            Set::Avx512Vnni => avx512::tile_int8(k4, factors, o, place, out),
            Set::Avx2 => avx2::tile_int8(k4, factors, o, place, out),
            Set::Portable => unreachable!("the portable path has no tiles"),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn tile_int8(
    _: Isa,
    _: usize,
    _: (&Quantised, &Int8Panels),
    _: &Operands,
    _: Place,
    _: &mut [f32],
) {
    unreachable!("the portable path has no tiles")
}

/// Calls a kernel of the detected set, or the portable function where the rows do not fit.
macro_rules! by_set {
    ($isa:expr, $fits:expr, $kernel:ident($($arg:expr),*), $portable:expr) => {
        match $isa.0 {
            // SAFETY: the machine has the set, and the rows hold whole registers.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni if $fits => unsafe { avx512::$kernel($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 if $fits => unsafe { avx2::$kernel($($arg),*) },
            _ => $portable,
        }
    };
}

/// Applies the activation to every number; see [`ops::activate`].
pub(crate) fn activate(isa: Isa, numbers: &mut [f32], activation: Activation) {
    let fits = numbers.len().is_multiple_of(WIDEST) && activation == Activation::Gelu;
    by_set!(isa, fits, gelu(numbers), ops::activate(numbers, activation));
}

/// Softmax of the first `columns` numbers of rows that lie `stride` apart; see
/// [`ops::softmax_rows`]. What is beyond the columns may be changed.
pub(crate) fn softmax_rows(
    isa: Isa,
    scores: &mut [f32],
    stride: usize,
    columns: usize,
    scale: f32,
) {
    assert!(columns <= stride, "columns lie inside a row");
    let fits = stride.is_multiple_of(WIDEST);
    by_set!(
        isa,
        fits,
        softmax(scores, stride, columns, scale),
        ops::softmax_rows(scores, stride, columns, scale)
    );
}

/// Layer norm of rows that lie `stride` apart; see [`ops::norm_rows`].
pub(crate) fn norm_rows(isa: Isa, data: &mut [f32], stride: usize, norm: &Norm) {
    let n = norm.weight.len();
    assert!(norm.bias.len() == n && n <= stride, "a norm as long as its rows");
    let fits = n.is_multiple_of(WIDEST);
    by_set!(isa, fits, norm(data, stride, norm), ops::norm_rows(data, stride, norm));
}

/// Quantises rows of `k` numbers, `stride` apart, to 8 bits: a scale and a zero for each row, and
/// `k` rounded up to a multiple of 4, which is returned; what is added multiplies zero weights.
pub(crate) fn quantise_rows(
    isa: Isa,
    (rows, k): (usize, usize),
    x: &[f32],
    stride: usize,
    out: &mut Quantised,
) -> usize {
    let k4 = k.next_multiple_of(4);
    out.values.resize(out.values.len().max(rows * k4), 0);
    out.scales.resize(out.scales.len().max(rows), 0.0);
    out.zeros.resize(out.zeros.len().max(rows), 0);
    let fits = k.is_multiple_of(WIDEST);
    for i in 0..rows {
        let (from, to) = (&x[i * stride..][..k], &mut out.values[i * k4..][..k]);
        (out.scales[i], out.zeros[i]) =
            by_set!(isa, fits, quantise(from, to), ops::quantise_row(from, to));
    }
    k4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: &[f32], b: &[f32], tolerance: f32) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
    }

    proptest! {
        #[test]
        fn row_kernels_equal_the_portable_functions(
            values in proptest::collection::vec(-9f32..9.0, 96), columns in 1usize..33
        ) {
            for isa in Isa::available() {
                let (mut ours, mut plain) = (values.clone(), values.clone());
                activate(isa, &mut ours, Activation::Gelu);
                ops::activate(&mut plain, Activation::Gelu);
                prop_assert!(close(&ours, &plain, 1e-6), "{isa:?} gelu");

                let (mut ours, mut plain) = (values.clone(), values.clone());
                softmax_rows(isa, &mut ours, 32, columns, 0.7);
                ops::softmax_rows(&mut plain, 32, columns, 0.7);
                for (a, b) in ours.chunks(32).zip(plain.chunks(32)) {
                    prop_assert!(close(&a[..columns], &b[..columns], 1e-6), "{isa:?} softmax");
                }

                let norm = Norm { weight: values[..32].into(), bias: values[32..64].into(), eps: 1e-5 };
                let (mut ours, mut plain) = (values.clone(), values.clone());
                norm_rows(isa, &mut ours, 48, &norm);
                ops::norm_rows(&mut plain, 48, &norm);
                prop_assert!(close(&ours, &plain, 1e-4), "{isa:?} norm");

                let mut bytes = Quantised::default();
                quantise_rows(isa, (2, 48), &values, 48, &mut bytes);
                for (i, &x) in values.iter().enumerate() {
                    let (scale, zero) = (bytes.scales[i / 48], bytes.zeros[i / 48]);
                    let back = scale * (i32::from(bytes.values[i]) - zero) as f32;
                    prop_assert!((back - x).abs() <= scale * 1.01, "{isa:?} quantise");
                }
            }
        }
    }
}
