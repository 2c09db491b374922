//! The dot products between a passage's own vectors, from which the length of any fusion follows:
//! `q0001.gram.npy` beside the sums of a layer, one row of f32 for each pair of vectors, one column
//! for each passage. With seven languages that is 36 numbers a passage, 5% of the sketches.
//!
//! A passage's vectors are numbered: 0 is `d`, then come the sums of layer 1 in the order of its
//! languages, then those of layer 2, and so on. A layer's file has the pairs (i, j), i <= j, whose j is
//! new with it: for the first layer j begins at 0, for others at its first sum.

use std::path::Path;

use xqg_data::npy::{Dtype, MatrixWriter};

use crate::error::Result;
use crate::stored::Stored;

/// Some consecutive vectors of each passage: `d`, or the sums of one layer, language by language.
#[derive(Debug, Clone, Copy)]
pub struct Family<'a> {
    /// Where they are.
    pub vectors: &'a Stored,
    /// How many of each passage.
    pub blocks: usize,
}

/// The pairs of a file that brings the vectors `from..to`, in the order of its rows.
pub fn pairs(from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    let first = if from == 1 { 0 } else { from };
    (first..to).flat_map(|j| (0..=j).map(move |i| (i, j)))
}

/// Writes the file of the last family, whose sums are new, over `rows` passages.
///
/// # Errors
/// When the disk refuses.
pub fn write_gram(path: &Path, families: &[Family], rows: usize) -> Result<()> {
    let to: usize = families.iter().map(|f| f.blocks).sum();
    let from = to - families.last().map_or(0, |f| f.blocks);
    let pairs: Vec<(usize, usize)> = pairs(from, to).collect();
    let dim = families.first().map_or(0, |f| f.vectors.dim());
    let (mut vectors, mut gram) = (vec![0.0; to * dim], vec![0f32; pairs.len() * rows]);
    for row in 0..rows {
        read_vectors(families, row, rows, &mut vectors);
        for (k, &(i, j)) in pairs.iter().enumerate() {
            let (a, b) = (&vectors[i * dim..][..dim], &vectors[j * dim..][..dim]);
            gram[k * rows + row] = dot(a, b).clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        }
    }
    let mut writer = MatrixWriter::create(path, Dtype::F32, pairs.len(), rows)?;
    writer.push(&gram)?;
    Ok(writer.commit()?)
}

fn read_vectors(families: &[Family], row: usize, rows: usize, out: &mut [f32]) {
    let blocks = families.iter().flat_map(|f| (0..f.blocks).map(move |b| (f.vectors, b)));
    for (out, (vectors, block)) in out.chunks_exact_mut(families[0].vectors.dim()).zip(blocks) {
        vectors.read_rows(block * rows + row, out);
    }
}

/// A dot product in double precision, in eight lanes that vectorise.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0f64; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let tail: f64 = tail.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..8 {
            lanes[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    lanes.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_in_one_file() {
        let mut all: Vec<(usize, usize)> =
            pairs(1, 3).chain(pairs(3, 4)).chain(pairs(4, 6)).collect();
        all.sort_unstable();
        let expected: Vec<(usize, usize)> =
            (0..6).flat_map(|i| (i..6).map(move |j| (i, j))).collect();
        assert_eq!(all, expected);
    }
}
