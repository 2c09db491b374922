//! `.fvecs` files, as the collections of nearest-neighbour research have them: each row is its
//! length as a 32-bit whole number and then as many f32, little-endian. Read through a memory map.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::DataError;

/// The longest row that is believed: a greater number is some other file's content.
const MAX_DIM: usize = 1 << 16;

/// A memory-mapped `.fvecs` file of rows of one length.
#[derive(Debug)]
pub struct Fvecs {
    path: PathBuf,
    map: Mmap,
    rows: usize,
    dim: usize,
}

impl Fvecs {
    /// Opens a file and checks that it holds whole rows of the first row's length; the other rows'
    /// lengths are checked by [`check_rows`](Self::check_rows).
    ///
    /// # Errors
    /// When it is empty, no such file, or cut short.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("reading", path))?;
        // SAFETY: the file is only read, and every access is checked against the map's length; a
        // person who truncates it under a running program gets a bus error, as with any map.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io("mapping", path))?;
        let dim = row_length(&map, 0).filter(|dim| (1..=MAX_DIM).contains(dim));
        let wrong = |found: String| {
            let expected = "an .fvecs file: rows of a length and as many little-endian f32";
            DataError::unexpected(path, expected, found)
        };
        let dim = dim.ok_or_else(|| wrong("no length from 1 to 65536 at its start".into()))?;
        let row_bytes = 4 + 4 * dim;
        if !map.len().is_multiple_of(row_bytes) {
            return Err(wrong(format!("{} bytes, no multiple of {row_bytes}", map.len())));
        }
        let rows = map.len() / row_bytes;
        Ok(Self { path: path.to_path_buf(), map, rows, dim })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that each row of a range has the first row's length.
    ///
    /// # Errors
    /// With the first row that has another.
    pub fn check_rows(&self, rows: std::ops::Range<usize>) -> Result<(), DataError> {
        for row in rows {
            let found = row_length(&self.map, row * (4 + 4 * self.dim));
            if found != Some(self.dim) {
                let expected = format!("{} numbers in every row", self.dim);
                let found = found.map_or("none".to_owned(), |n| n.to_string());
                let found = format!("{found} in row {row}");
                return Err(DataError::unexpected(&self.path, expected, found));
            }
        }
        Ok(())
    }

    /// Copies rows `start .. start + out.len() / dim`.
    ///
    /// # Panics
    /// When the range is outside the file: a bug of the caller.
    pub fn read_rows(&self, start: usize, out: &mut [f32]) {
        let row_bytes = 4 + 4 * self.dim;
        for (i, out) in out.chunks_exact_mut(self.dim).enumerate() {
            let at = (start + i) * row_bytes + 4;
            out.copy_from_slice(bytemuck::cast_slice(&self.map[at..at + 4 * self.dim]));
        }
    }
}

/// The length that stands at a place, if there are four bytes and it is no negative one.
fn row_length(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(i32::from_le_bytes(four)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(dim: usize, values: &[f32]) -> Vec<u8> {
        let row = |row: &[f32]| {
            let numbers = row.iter().flat_map(|v| v.to_le_bytes());
            (dim as i32).to_le_bytes().into_iter().chain(numbers).collect::<Vec<u8>>()
        };
        values.chunks_exact(dim).flat_map(row).collect()
    }

    #[test]
    fn rows_come_back_and_another_length_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.fvecs");
        let mut content = bytes(2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        std::fs::write(&path, &content).unwrap();
        let file = Fvecs::open(&path).unwrap();
        assert_eq!((file.rows(), file.dim()), (3, 2));
        let mut out = [0.0; 4];
        file.read_rows(1, &mut out);
        assert_eq!(out, [3.0, 4.0, 5.0, 6.0]);
        assert!(file.check_rows(0..3).is_ok());
        content[12] = 7;
        std::fs::write(&path, &content).unwrap();
        let error = Fvecs::open(&path).unwrap().check_rows(0..3).unwrap_err().to_string();
        assert!(error.contains("expected 2 numbers in every row, found 7 in row 1"), "{error}");
    }

    proptest! {
        #[test]
        fn no_damaged_file_panics(cut in 0usize..24, flip in 0usize..24, byte in 0u8..=255) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.fvecs");
            let mut content = bytes(2, &[1.0, 2.0, 3.0, 4.0]);
            content[flip] = byte;
            content.truncate(24 - cut);
            std::fs::write(&path, &content).unwrap();
            if let Ok(file) = Fvecs::open(&path) {
                let _ = file.check_rows(0..file.rows());
                file.read_rows(0, &mut vec![0.0; file.rows() * file.dim()]);
            }
        }
    }
}
