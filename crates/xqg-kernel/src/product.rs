//! Products of rows of activations with packed panels of weights, in f32 and in 8 bits.
//!
//! Every kernel multiplies a few rows of activations with one panel of packed weights. A result
//! element is one chain of fused multiply-adds over k, in order, whatever the number of rows beside
//! it: so a text's vector is the same bit for bit in any batch and on any number of threads.

use crate::bytes::fetch;
use crate::isa::{Isa, Set};
use crate::ops::Activation;
use crate::row::activate;
use rayon::prelude::*;

#[cfg(target_arch = "aarch64")]
use crate::neon;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

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
    /// Whether the GELU of the sum is stored: exact in f32, to 2e-6 in 8 bits.
    pub gelu: bool,
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
    /// `scale · zero` of each row.
    pub offsets: Vec<f32>,
    /// Whether all numbers lie below 128, so that a kernel may add more of them in 16 bits.
    pub narrow: bool,
}

/// Weights as signed 8-bit numbers in panels: `w ≈ scale q`, column by column.
#[derive(Debug, Clone, Copy)]
pub struct Int8Panels<'a> {
    /// Blocks of `k4 / 4 x panel x 4` numbers, one a panel.
    pub values: &'a [i8],
    /// The scale of each column, whole panels.
    pub scales: &'a [f32],
    /// The sum of each column's numbers: what a row's zero has to be corrected by.
    pub sums: &'a [i32],
}

/// Rows that kernels of this set take at once.
fn tile_rows(isa: Isa) -> usize {
    if isa.0 == Set::Avx512Vnni { 12 } else { 6 }
}

/// Rows that a panel meets while it lies in the nearest cache: as many as a batch usually has, for
/// rows come along faster than panels.
const ROW_BLOCK: usize = 480;

/// Multiplies in f32 with the kernels of a set. A `team` of more than one divides the columns between
/// as many threads of the current pool: for one text alone, for which a batch has no second.
///
/// # Panics
/// When a buffer is shorter than the shapes say, or the set is the portable one.
pub fn product_f32(
    isa: Isa,
    rows: usize,
    o: Operands,
    (out, out_stride): (&mut [f32], usize),
    team: usize,
) {
    let panel = isa.panel();
    let panels = o.panels.len() / (o.k * panel).max(1);
    check(rows, panels * panel, &o, out, out_stride);
    let result = Result2d { at: out.as_mut_ptr(), stride: out_stride };
    each_tile(
        isa,
        rows,
        panels,
        team,
        result,
        |_, _| (),
        |p, place| {
            tile_f32(isa, &o, &o.panels[p * o.k * panel..], place);
        },
    );
    if o.gelu {
        activate_rows(isa, (rows, panels * panel), out, out_stride);
    }
}

/// The result's memory, which tiles of one product write at places of their own.
#[derive(Clone, Copy)]
struct Result2d {
    at: *mut f32,
    stride: usize,
}

// SAFETY: the pointer comes from a slice that the product borrows mutably for its whole time, and no
// two tiles write the same number of it.
unsafe impl Send for Result2d {}
// SAFETY: as above.
unsafe impl Sync for Result2d {}

/// Calls a kernel for every tile of a result, panels divided between the team's threads; before it
/// `fetch` hears of the next panel, and which of how many tiles this is.
fn each_tile(
    isa: Isa,
    rows: usize,
    panels: usize,
    team: usize,
    out: Result2d,
    fetch: impl Fn(usize, (usize, usize)) + Sync,
    tile: impl Fn(usize, Place) + Sync,
) {
    let some = |from: usize, to: usize| {
        for start in (0..rows).step_by(ROW_BLOCK) {
            let end = rows.min(start + ROW_BLOCK);
            let tiles = (end - start).div_ceil(tile_rows(isa));
            for p in from..to {
                for (i, row) in (start..end).step_by(tile_rows(isa)).enumerate() {
                    let (m, column) = (tile_rows(isa).min(end - row), p * isa.panel());
                    let Result2d { at, stride } = { out };
                    fetch(p + 1, (i, tiles));
                    tile(p, Place { row, column, rows: m, out: at, out_stride: stride });
                }
            }
        }
    };
    let team = team.min(panels / 2).max(1);
    if team == 1 {
        return some(0, panels);
    }
    let part = |i: usize| some(panels * i / team, panels * (i + 1) / team);
    (0..team).into_par_iter().with_max_len(1).for_each(part);
}

/// Where a tile lies in the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub row: usize,
    pub column: usize,
    pub rows: usize,
    /// The result's first number.
    pub out: *mut f32,
    pub out_stride: usize,
}

fn check(rows: usize, columns: usize, o: &Operands, out: &[f32], out_stride: usize) {
    assert!(fits(o.a.len(), rows, o.a_stride, o.k), "the left factor has all its rows");
    assert!(fits(out.len(), rows, out_stride, columns), "the result has room for whole panels");
    assert!(o.bias.is_none_or(|b| b.len() >= columns), "the bias has whole panels");
    let whole = o.residual.is_none_or(|(r, stride)| fits(r.len(), rows, stride, columns));
    assert!(whole, "the residual has whole panels");
}

/// Whether rows of `width` numbers, `stride` apart, lie inside a buffer of that length.
pub fn fits(length: usize, rows: usize, stride: usize, width: usize) -> bool {
    let end = rows.checked_sub(1).map_or(Some(0), |last| last.checked_mul(stride));
    rows == 0 || end.and_then(|end| end.checked_add(width)).is_some_and(|end| end <= length)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tile_f32(isa: Isa, o: &Operands, panel: &[f32], place: Place) {
    // SAFETY: `product_f32` has checked all buffers against the shapes, and an `Isa` of another
    // set than the portable one is only made where the machine has it.
    unsafe {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => avx512::tile_f32(o, panel, place),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => avx2::tile_f32(o, panel, place),
            #[cfg(target_arch = "aarch64")]
            Set::Neon | Set::NeonDot => neon::tile_f32(o, panel, place),
            _ => unreachable!("the portable path has no tiles"),
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tile_f32(_: Isa, _: &Operands, _: &[f32], _: Place) {
    unreachable!("the portable path has no tiles")
}

/// Multiplies 8-bit activations with 8-bit weights and scales the result back to f32; the team is
/// that of [`product_f32`].
///
/// # Panics
/// When a buffer is shorter than the shapes say, or the set is the portable one.
pub fn product_int8(
    isa: Isa,
    (rows, k4): (usize, usize),
    (a, w): (&Quantised, &Int8Panels),
    o: Operands,
    (out, out_stride): (&mut [f32], usize),
    team: usize,
) {
    let panel = isa.panel();
    let panels = w.scales.len() / panel;
    check(rows, panels * panel, &Operands { a: &[], a_stride: 0, k: 0, ..o }, out, out_stride);
    assert!(k4.is_multiple_of(4), "four activations a step");
    assert!(fits(a.values.len(), rows, k4, k4) && a.scales.len() >= rows);
    assert!(a.zeros.len() >= rows && a.offsets.len() >= rows);
    assert!(fits(w.values.len(), panels * panel, k4, k4) && w.sums.len() >= panels * panel);
    let result = Result2d { at: out.as_mut_ptr(), stride: out_stride };
    let fetch = |p: usize, (tile, tiles): (usize, usize)| {
        let size = k4 * panel;
        if let Some(next) = w.values.get(p * size..(p + 1) * size) {
            fetch(&next[size * tile / tiles..size * (tile + 1) / tiles]);
        }
    };
    each_tile(isa, rows, panels, team, result, fetch, |_, place| {
        tile_int8(isa, k4, (a, w), &o, place)
    });
    if o.gelu && isa.0 != Set::Avx512Vnni {
        activate_rows(isa, (rows, panels * panel), out, out_stride);
    }
}

/// The exact GELU of a product's rows.
fn activate_rows(isa: Isa, (rows, columns): (usize, usize), out: &mut [f32], stride: usize) {
    for row in out.chunks_mut(stride.max(1)).take(rows) {
        activate(isa, &mut row[..columns], Activation::Gelu);
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tile_int8(isa: Isa, k4: usize, factors: (&Quantised, &Int8Panels), o: &Operands, place: Place) {
    // SAFETY: `product_int8` has checked all buffers against the shapes, and an `Isa` of another
    // set than the portable one is only made where the machine has it.
    unsafe {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => avx512::tile_int8(k4, factors, o, place),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => avx2::tile_int8(k4, factors, o, place),
            #[cfg(target_arch = "aarch64")]
            Set::Neon => neon::tile_int8(k4, factors, o, place),
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => neon::tile_int8_dot(k4, factors, o, place),
            _ => unreachable!("the portable path has no tiles"),
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tile_int8(_: Isa, _: usize, _: (&Quantised, &Int8Panels), _: &Operands, _: Place) {
    unreachable!("the portable path has no tiles")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use proptest::prelude::*;
    use std::iter::zip;

    /// Bytes or numbers of the activations: 14 rows of up to 40.
    const ACTIVATIONS: usize = 14 * 40;
    /// The greatest number of columns: three panels of 32.
    const COLUMNS: usize = 96;

    fn kernels() -> impl Iterator<Item = Isa> {
        Isa::available().into_iter().filter(|&isa| isa != Isa::PORTABLE)
    }

    /// All places of a result.
    fn places(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
    }

    /// Every number of the product must be one chain of fused sums.
    fn check_f32(
        isa: Isa,
        (rows, k, panels): (usize, usize, usize),
        a: &[f32],
        b: &[f32],
        team: usize,
    ) {
        let (panel, n) = (isa.panel(), panels * isa.panel());
        let (bias, residual) = (Some(&b[..n]), Some((b, n)));
        let o = Operands { a, a_stride: 40, k, panels: &b[..n * k], bias, residual, gelu: false };
        let mut out = vec![f32::NAN; rows * n];
        product_f32(isa, rows, o, (&mut out, n), team);
        for (i, j) in places(rows, n) {
            let weight = |l: usize| b[j / panel * panel * k + l * panel + j % panel];
            let sum = (0..k).fold(0f32, |s, l| a[i * 40 + l].mul_add(weight(l), s));
            assert_eq!(out[i * n + j], sum + b[j] + b[i * n + j], "{} {i} {j}", isa.name());
        }
    }

    /// Every number of the product must be the scaled whole number.
    fn check_int8(
        isa: Isa,
        (rows, k4, panels): (usize, usize, usize),
        a: &Quantised,
        values: &[i8],
        gelu: bool,
    ) {
        let (panel, n) = (isa.panel(), panels * isa.panel());
        let values = &values[..n * k4];
        let weight = |l: usize, j: usize| {
            i32::from(values[j / panel * panel * k4 + l / 4 * 4 * panel + j % panel * 4 + l % 4])
        };
        let sums: Vec<i32> = (0..n).map(|j| (0..k4).map(|l| weight(l, j)).sum()).collect();
        let scales: Vec<f32> = (0..n).map(|j| 0.1 + j as f32 / 7.0).collect();
        let w = Int8Panels { values, scales: &scales, sums: &sums };
        let o =
            Operands { a: &[], a_stride: 0, k: 0, panels: &[], bias: None, residual: None, gelu };
        let mut out = vec![f32::NAN; rows * n];
        product_int8(isa, (rows, k4), (a, &w), o, (&mut out, n), 1);
        for (i, j) in places(rows, n) {
            let level = |l: usize| i32::from(a.values[i * k4 + l]) - a.zeros[i];
            let whole: i32 = (0..k4).map(|l| level(l) * weight(l, j)).sum();
            let scale = a.scales[i] * scales[j];
            let mut expected = [whole as f32 * scale];
            if gelu {
                ops::activate(&mut expected, Activation::Gelu);
            }
            // The zero's part is taken off after scaling, so its size counts too.
            let size = scale * (whole.abs() + (a.zeros[i] * sums[j]).abs()) as f32;
            let bound = 3e-6 + size * 1e-6;
            let found = out[i * n + j];
            assert!(
                (found - expected[0]).abs() <= bound,
                "{} {i} {j}: {found} {expected:?}",
                isa.name()
            );
        }
    }

    /// A number between the ends, or for extremes the nearer end: where 16-bit sums overflow first.
    fn between(x: i32, (least, most): (i32, i32), extreme: bool) -> i32 {
        let end = if x * 2 < least + most { least } else { most };
        if extreme { end } else { x.clamp(least, most) }
    }

    proptest! {
        #[test]
        fn f32_products_are_chains_of_fused_sums(
            (rows, k, panels) in (0usize..14, 1usize..40, 1usize..4),
            a in proptest::collection::vec(-2f32..2.0, ACTIVATIONS),
            b in proptest::collection::vec(-2f32..2.0, COLUMNS * 40),
            team in 1usize..3,
        ) {
            for isa in kernels() {
                check_f32(isa, (rows, k, panels), &a, &b, team);
            }
        }

        #[test]
        fn int8_products_are_scaled_whole_numbers_to_the_last_digits(
            (rows, steps, panels) in (0usize..14, 0usize..10, 1usize..4),
            levels in proptest::collection::vec(any::<u8>(), ACTIVATIONS),
            weights in proptest::collection::vec(any::<i8>(), COLUMNS * 40),
            zeros in proptest::collection::vec(0i32..256, 14),
            (narrow, extreme, gelu) in any::<(bool, bool, bool)>(),
        ) {
            for isa in kernels() {
                let most = if narrow { 127 } else { 255 };
                let w = isa.greatest_weight() as i32;
                let level = |&x: &u8| between(x.into(), (0, most), extreme) as u8;
                let weight = |&x: &i8| between(x.into(), (-w, w), extreme) as i8;
                let scales: Vec<f32> = (0..14).map(|i| 0.3 + i as f32 / 9.0).collect();
                let a = Quantised {
                    values: levels.iter().map(level).collect(),
                    offsets: zip(&scales, &zeros).map(|(s, &z)| s * z as f32).collect(),
                    scales: scales.clone(),
                    zeros: zeros.clone(),
                    narrow,
                };
                let weights: Vec<i8> = weights.iter().map(weight).collect();
                check_int8(isa, (rows, steps * 4, panels), &a, &weights, gelu);
            }
        }
    }
}
