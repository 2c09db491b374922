//! The vectors of a unit as they lie on disk: a `.npy` matrix of f32 or f16, or, for `--dtype int8`,
//! nothing but the sketch, whose decoded rows are then the vectors.

use std::path::Path;
use std::sync::Arc;

use xqg_data::npy::{Counts, Matrix};

use crate::sketch::{Rows, Sketch};

/// How often the centre of a sketch is in each of its rows.
#[derive(Debug, Clone)]
pub enum Times {
    /// Once: the rows are embeddings.
    Once,
    /// As many times as there are questions: the rows are sums.
    Counted(Arc<Counts>),
}

impl Times {
    /// The times of a row; 0 where there is no such row.
    pub fn of(&self, row: usize) -> u32 {
        match self {
            Self::Once => 1,
            Self::Counted(counts) => counts.as_slice().get(row).copied().unwrap_or(0),
        }
    }
}

/// Stored vectors, `rows` x `dim`.
#[derive(Debug)]
pub enum Stored {
    /// All numbers.
    Matrix(Matrix),
    /// Their sketch alone.
    Sketch(Arc<Sketch>, Times),
}

impl Stored {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.rows(),
            Self::Sketch(sketch, _) => sketch.rows(),
        }
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.dim(),
            Self::Sketch(sketch, _) => sketch.dim(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Matrix(matrix) => matrix.path(),
            Self::Sketch(sketch, _) => sketch.path(),
        }
    }

    /// As [`xqg_data::map::MappedFile::expect_scattered`]; a sketch is always read as a whole.
    pub fn expect_scattered(&self, scattered: bool) {
        if let Self::Matrix(matrix) = self {
            matrix.expect_scattered(scattered);
        }
    }

    /// Copies rows `start .. start + out.len() / dim` as f32.
    ///
    /// # Panics
    /// When the range is outside the matrix: a bug of the caller.
    pub fn read_rows(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::Matrix(matrix) => matrix.read_rows(start, out),
            Self::Sketch(sketch, times) => {
                for (i, out) in out.chunks_exact_mut(sketch.dim()).enumerate() {
                    sketch.read_row(start + i, times.of(start + i), out);
                }
            }
        }
    }

    /// Rows `start .. start + n` as f32: where they lie, or copied into the buffer.
    ///
    /// # Panics
    /// When the range is outside the matrix: a bug of the caller.
    pub fn rows_at<'a>(&'a self, start: usize, n: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        if let Self::Matrix(matrix) = self
            && let Some(rows) = matrix.rows_in_place(start, n)
        {
            return rows;
        }
        buffer.resize(n * self.dim(), 0.0);
        self.read_rows(start, buffer);
        buffer
    }
}

/// Stored vectors with their times, to be sketched.
pub(crate) struct StoredRows<'a>(pub &'a Matrix, pub &'a Times);

impl Rows for StoredRows<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.0.rows(), self.0.dim())
    }

    fn read(&self, row: usize, out: &mut [f32]) {
        self.0.read_rows(row, out);
    }

    fn times(&self, row: usize) -> u32 {
        self.1.of(row)
    }
}

/// Vectors in memory with their times, to be sketched.
pub(crate) struct MadeRows<'a> {
    pub values: &'a [f32],
    pub dim: usize,
    pub counts: Option<&'a [u32]>,
}

impl Rows for MadeRows<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.values.len() / self.dim.max(1), self.dim)
    }

    fn read(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.values[row * self.dim..][..self.dim]);
    }

    fn times(&self, row: usize) -> u32 {
        self.counts.map_or(1, |counts| counts[row])
    }
}
