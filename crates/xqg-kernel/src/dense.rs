//! Dot products of f32 rows that are the same bit for bit everywhere: sixteen sums, each multiplied
//! and added without fusing, then added up in order. Every instruction set runs the same source, so a
//! score depends neither on the machine nor on what is computed beside it.

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Set;

const LANES: usize = 16;
/// Rows and queries of a tile: their sums stay in registers.
const ROWS: usize = 4;
const QUERIES: usize = 4;

/// A dot product in sixteen lanes.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    tile([a], [b])[0][0]
}

#[inline(always)]
fn tile<const M: usize, const N: usize>(a: [&[f32]; M], b: [&[f32]; N]) -> [[f32; N]; M] {
    let n = a.iter().chain(&b).map(|x| x.len()).min().unwrap_or(0);
    let (a, b) = (a.map(|x| &x[..n]), b.map(|x| &x[..n]));
    let mut lanes = [[[0f32; LANES]; N]; M];
    let whole = n / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        for (row, lanes) in a.iter().zip(&mut lanes) {
            let x = &row[at..at + LANES];
            for (query, lanes) in b.iter().zip(lanes) {
                let y = &query[at..at + LANES];
                for ((sum, x), y) in lanes.iter_mut().zip(x).zip(y) {
                    *sum += x * y;
                }
            }
        }
    }
    let mut out = [[0.0; N]; M];
    for ((row, lanes), out) in a.iter().zip(&lanes).zip(&mut out) {
        for ((query, lanes), out) in b.iter().zip(lanes).zip(out) {
            let tail = row[whole..].iter().zip(&query[whole..]);
            *out = lanes.iter().sum::<f32>() + tail.map(|(x, y)| x * y).sum::<f32>();
        }
    }
    out
}

/// Multiplies rows with queries: `out[i * queries + j]` for row i and query j, each as [`dot`].
///
/// # Panics
/// When a side holds no whole rows of `dim` numbers, or `out` has another size.
pub fn dots(isa: Isa, dim: usize, rows: &[f32], queries: &[f32], out: &mut [f32]) {
    assert!(dim > 0 && rows.len().is_multiple_of(dim) && queries.len().is_multiple_of(dim));
    assert_eq!(Some(out.len()), (rows.len() / dim).checked_mul(queries.len() / dim));
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a value of `Isa` proves that the machine has the set.
        Set::Avx512Vnni => unsafe { dots_avx512(dim, rows, queries, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx2 => unsafe { dots_avx2(dim, rows, queries, out) },
        _ => all(dim, rows, queries, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dots_avx512(dim: usize, rows: &[f32], queries: &[f32], out: &mut [f32]) {
    all(dim, rows, queries, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dots_avx2(dim: usize, rows: &[f32], queries: &[f32], out: &mut [f32]) {
    all(dim, rows, queries, out);
}

#[inline(always)]
fn all(dim: usize, rows: &[f32], queries: &[f32], out: &mut [f32]) {
    let n = queries.len() / dim;
    for (i, block) in rows.chunks(ROWS * dim).enumerate() {
        let out = &mut out[i * ROWS * n..];
        let row = |i: usize| &block[i * dim..][..dim];
        for (j, some) in queries.chunks(QUERIES * dim).enumerate() {
            let query = |j: usize| &some[j * dim..][..dim];
            if (block.len(), some.len()) == (ROWS * dim, QUERIES * dim) {
                let found = tile::<ROWS, QUERIES>(
                    [row(0), row(1), row(2), row(3)],
                    [query(0), query(1), query(2), query(3)],
                );
                for (i, found) in found.iter().enumerate() {
                    out[i * n + j * QUERIES..][..QUERIES].copy_from_slice(found);
                }
                continue;
            }
            for i in 0..block.len() / dim {
                for k in 0..some.len() / dim {
                    out[i * n + j * QUERIES + k] = tile([row(i)], [query(k)])[0][0];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_set_and_every_tile_gives_the_same_bits(
            values in proptest::collection::vec(-1e3f32..1e3, 1200),
            dim in 1usize..70, rows in 0usize..9, queries in 0usize..8,
        ) {
            let (a, b) = (&values[..rows * dim], &values[600..600 + queries * dim]);
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; rows * queries];
                dots(isa, dim, a, b, &mut out);
                for i in 0..rows {
                    for j in 0..queries {
                        let one = dot(&a[i * dim..][..dim], &b[j * dim..][..dim]);
                        prop_assert_eq!(one.to_bits(), out[i * queries + j].to_bits());
                    }
                }
            }
        }
    }
}
