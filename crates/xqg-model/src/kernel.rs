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

/// An instruction set that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 with the 8-bit dot product of VNNI.
    Avx512Vnni,
    /// AVX2 and FMA.
    Avx2,
    /// None of these: plain loops and a GEMM crate.
    Portable,
}

impl Isa {
    /// The best set of this machine.
    pub fn detect() -> Self {
        *Self::available().last().expect("the portable path is always there")
    }

    /// All sets of this machine, the best one last.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
                let wide = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni");
                if wide {
                    sets.push(Self::Avx512Vnni);
                }
            }
        }
        sets
    }

    /// Columns of a panel of packed weights; 1 where nothing is packed.
    pub fn panel(self) -> usize {
        match self {
            Self::Avx512Vnni => 32,
            Self::Avx2 => 16,
            Self::Portable => 1,
        }
    }
}

/// A product of activations and packed weights: `out = a · panels (+ bias) (+ residual)`.
///
/// Row i of `a` begins at `i * a_stride`, and likewise for the others. `panels` holds, one after
/// the other, blocks of `k x panel` numbers. Rows of `out` are written in whole panels, so its
/// stride and length leave room for the last one.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
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
pub struct Quantised {
    /// `rows x k4` numbers, k rounded up to a multiple of 4.
    pub values: Vec<u8>,
    /// The scale of each row.
    pub scales: Vec<f32>,
    /// The zero of each row.
    pub zeros: Vec<i32>,
}

/// Weights as signed 8-bit numbers in panels: `w ≈ scale q`, column by column.
#[derive(Debug, Default)]
pub struct Int8Panels {
    /// Blocks of `k4 / 4 x panel x 4` numbers, one a panel.
    pub values: Vec<i8>,
    /// The scale of each column, whole panels.
    pub scales: Vec<f32>,
    /// The sum of each column's numbers: what a row's zero has to be corrected by.
    pub sums: Vec<i32>,
}

/// Rows that kernels of this set take at once.
fn tile_rows(isa: Isa) -> usize {
    if isa == Isa::Avx512Vnni { 12 } else { 6 }
}

/// Rows whose panels are reused while they lie in the cache.
const ROW_BLOCK: usize = 96;

/// Multiplies in f32 with the kernels of a set.
///
/// # Panics
/// When a buffer is shorter than the shapes say, or the set is the portable one.
pub fn product_f32(isa: Isa, rows: usize, o: Operands, out: &mut [f32], out_stride: usize) {
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
    let fits = |length: usize, stride: usize, width: usize| {
        rows == 0 || (rows - 1) * stride + width <= length
    };
    assert!(fits(o.a.len(), o.a_stride, o.k), "the left factor has all its rows");
    assert!(fits(out.len(), out_stride, columns), "the result has room for whole panels");
    assert!(o.bias.is_none_or(|b| b.len() >= columns), "the bias has whole panels");
    let whole = o.residual.is_none_or(|(r, stride)| fits(r.len(), stride, columns));
    assert!(whole, "the residual has whole panels");
}

#[cfg(target_arch = "x86_64")]
fn tile_f32(isa: Isa, o: &Operands, panel: &[f32], place: Place, out: &mut [f32]) {
    // SAFETY: `product_f32` has checked all buffers against the shapes, and a set other than the
    // portable one was detected on this machine.
    unsafe {
        match isa {
            Isa::Avx512Vnni => avx512::tile_f32(o, panel, place, out),
            Isa::Avx2 => avx2::tile_f32(o, panel, place, out),
            Isa::Portable => unreachable!("the portable path has no tiles"),
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
pub fn product_int8(
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
    assert!(a.values.len() >= rows * k4 && a.scales.len() >= rows && a.zeros.len() >= rows);
    assert!(w.values.len() >= panels * panel * k4 && w.sums.len() >= panels * panel);
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
    // SAFETY: `product_int8` has checked all buffers against the shapes, and a set other than the
    // portable one was detected on this machine.
    unsafe {
        match isa {
            Isa::Avx512Vnni => avx512::tile_int8(k4, factors, o, place, out),
            Isa::Avx2 => avx2::tile_int8(k4, factors, o, place, out),
            Isa::Portable => unreachable!("the portable path has no tiles"),
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
