//! numpy's `.npy` files of one or two dimensions: f32, f16 and u32, row by row, little-endian. Written
//! through a partial file, read through a memory map; any numpy can open them without our code.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, quote};
use crate::file::PartialFile;
use crate::map::MappedFile;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// numpy aligns the data to 64 bytes, so a map of the file can be cast.
const ALIGN: usize = 64;

/// How a number of an embedding lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Four bytes, IEEE single.
    F32,
    /// Two bytes, IEEE half: about three decimal digits.
    F16,
    /// One byte, with a scale for each row: in indexes only, which keep it in a file of their own.
    Int8,
}

impl Dtype {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Int8 => 1,
        }
    }

    fn descr(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F16 => "<f2",
            Self::Int8 => "|i1",
        }
    }
}

/// Writes a matrix of embeddings, row after row.
#[derive(Debug)]
pub struct MatrixWriter {
    file: PartialFile,
    dtype: Dtype,
    rows: usize,
    dim: usize,
    written: usize,
}

impl MatrixWriter {
    /// Opens a file for `rows` rows of `dim` numbers.
    ///
    /// # Errors
    /// When the file cannot be created.
    ///
    /// # Panics
    /// For [`Dtype::Int8`], whose numbers mean nothing without their scales.
    pub fn create(path: &Path, dtype: Dtype, rows: usize, dim: usize) -> Result<Self, DataError> {
        assert!(dtype != Dtype::Int8, "8-bit numbers lie in sketches");
        let mut file = PartialFile::create(path)?;
        let head = header(dtype.descr(), &format!("({rows}, {dim})"));
        file.write_all(&head).map_err(DataError::io("writing", path))?;
        Ok(Self { file, dtype, rows, dim, written: 0 })
    }

    /// Appends whole rows; `values` holds a multiple of `dim` numbers.
    ///
    /// # Errors
    /// When a number is not finite (or too great for f16), or the disk refuses.
    pub fn push(&mut self, values: &[f32]) -> Result<(), DataError> {
        let path = self.file.path().to_path_buf();
        let written = match self.dtype {
            Dtype::F32 => {
                refuse_non_finite(&path, values.iter().all(|v| v.is_finite()))?;
                self.file.write_all(bytemuck::cast_slice(values))
            }
            Dtype::F16 => {
                let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
                refuse_non_finite(&path, halves.iter().all(|v| v.is_finite()))?;
                self.file.write_all(bytemuck::cast_slice(&halves))
            }
            Dtype::Int8 => unreachable!("no such matrix is created"),
        };
        written.map_err(DataError::io("writing", &path))?;
        self.written += values.len();
        Ok(())
    }

    /// Syncs and renames.
    ///
    /// # Errors
    /// When the disk refuses.
    ///
    /// # Panics
    /// When fewer or more rows were pushed than announced: a bug of the caller.
    pub fn commit(self) -> Result<(), DataError> {
        assert_eq!(self.written, self.rows * self.dim, "all announced rows are pushed");
        self.file.commit()
    }
}

fn refuse_non_finite(path: &Path, finite: bool) -> Result<(), DataError> {
    if finite {
        return Ok(());
    }
    Err(DataError::Unexpected {
        path: path.to_path_buf(),
        expected: "finite numbers in every embedding".into(),
        found: "one that is NaN or too great for the dtype".into(),
        hint: "check the model's weights, or use --dtype f32",
    })
}

/// Writes a list of counts as one column of u32.
///
/// # Errors
/// When the disk refuses.
pub fn write_counts(path: &Path, counts: &[u32]) -> Result<(), DataError> {
    let mut file = PartialFile::create(path)?;
    let head = header("<u4", &format!("({},)", counts.len()));
    file.write_all(&head).map_err(DataError::io("writing", path))?;
    file.write_all(bytemuck::cast_slice(counts)).map_err(DataError::io("writing", path))?;
    file.commit()
}

fn header(descr: &str, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGN) - unpadded));
    text.push('\n');
    let length = u16::try_from(text.len()).expect("a short header");
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// A memory-mapped `.npy` file whose header and length have been checked.
#[derive(Debug)]
struct Mapped {
    map: MappedFile,
    start: usize,
}

impl Mapped {
    fn open(path: &Path) -> Result<(Self, String, Vec<usize>), DataError> {
        let map = MappedFile::open(path)?;
        let (descr, shape, start) =
            parse_header(map.bytes()).ok_or_else(|| wrong_header(path, map.bytes()))?;
        Ok((Self { map, start }, descr, shape))
    }

    fn data(&self) -> &[u8] {
        &self.map.bytes()[self.start..]
    }

    fn check_length(&self, path: &Path, bytes: Option<usize>) -> Result<(), DataError> {
        let found = self.data().len();
        if bytes == Some(found) {
            return Ok(());
        }
        let expected =
            bytes.map_or("a possible shape".to_owned(), |b| format!("{b} bytes of data"));
        Err(DataError::Unexpected {
            path: path.to_path_buf(),
            expected,
            found: format!("{found} bytes"),
            hint: "the file is damaged: restore it, or build the whole folder again with --force",
        })
    }
}

/// The error of a header that is not the kind that is read: Fortran order and other versions are
/// told from files that are no arrays at all.
fn wrong_header(path: &Path, bytes: &[u8]) -> DataError {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
    let (found, hint) = match bytes.get(..7) {
        Some(start) if start.starts_with(MAGIC) && start[6] != 1 => {
            (format!("version {}", start[6]), "")
        }
        Some(start) if start.starts_with(MAGIC) && head.contains("'fortran_order': True") => {
            let hint = "np.save(path, np.ascontiguousarray(array)) writes row after row";
            ("Fortran order, column after column".to_owned(), hint)
        }
        _ => ("something else".to_owned(), ""),
    };
    let (path, expected) = (path.to_path_buf(), "a .npy file, version 1, C order".to_owned());
    DataError::Unexpected { path, expected, found, hint }
}

fn parse_header(bytes: &[u8]) -> Option<(String, Vec<usize>, usize)> {
    if bytes.get(..6)? != MAGIC || *bytes.get(6)? != 1 {
        return None;
    }
    let length = usize::from(u16::from_le_bytes([*bytes.get(8)?, *bytes.get(9)?]));
    let text = std::str::from_utf8(bytes.get(10..10 + length)?).ok()?;
    if text.contains("'fortran_order': True") || (10 + length) % ALIGN != 0 {
        return None;
    }
    let descr = text.split("'descr':").nth(1)?.split('\'').nth(1)?.to_owned();
    let inside = text.split("'shape':").nth(1)?.split(['(', ')']).nth(1)?;
    let numbers = inside.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape = numbers.map(|n| n.parse().ok()).collect::<Option<Vec<usize>>>()?;
    Some((descr, shape, 10 + length))
}

/// A memory-mapped matrix of embeddings: `rows` x `dim`, f32 or f16.
#[derive(Debug)]
pub struct Matrix {
    path: PathBuf,
    mapped: Mapped,
    dtype: Dtype,
    rows: usize,
    dim: usize,
}

impl Matrix {
    /// Opens a file and checks type, shape and length; nothing is read yet.
    ///
    /// # Errors
    /// When it is no such matrix, or shorter than its header says.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let (mapped, descr, shape) = Mapped::open(path)?;
        let dtype = match descr.as_str() {
            "<f4" => Dtype::F32,
            "<f2" => Dtype::F16,
            other => {
                let expected = "little-endian f32 or f16 numbers, `<f4` or `<f2`";
                return Err(DataError::unexpected(path, expected, quote(other)));
            }
        };
        let [rows, dim] = shape[..] else {
            return Err(DataError::unexpected(path, "2 dimensions", format!("{}", shape.len())));
        };
        let bytes = rows.checked_mul(dim).and_then(|n| n.checked_mul(dtype.bytes()));
        mapped.check_length(path, bytes)?;
        Ok(Self { path: path.to_path_buf(), mapped, dtype, rows, dim })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How the numbers lie on disk.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As [`MappedFile::expect_scattered`].
    pub fn expect_scattered(&self, scattered: bool) {
        self.mapped.map.expect_scattered(scattered);
    }

    /// As [`MappedFile::fetch`].
    pub fn fetch(&self) {
        self.mapped.map.fetch();
    }

    /// Rows `start .. start + n` where they lie, if they lie as f32.
    ///
    /// # Panics
    /// When the range is outside the matrix: a bug of the caller.
    pub fn rows_in_place(&self, start: usize, n: usize) -> Option<&[f32]> {
        let all: &[f32] = match self.dtype {
            Dtype::F32 => bytemuck::cast_slice(self.mapped.data()),
            _ => return None,
        };
        Some(&all[start * self.dim..][..n * self.dim])
    }

    /// Copies rows `start .. start + out.len() / dim` as f32.
    ///
    /// # Panics
    /// When the range is outside the matrix: a bug of the caller.
    pub fn read_rows(&self, start: usize, out: &mut [f32]) {
        let (from, n) = (start * self.dim, out.len());
        match self.dtype {
            Dtype::F32 => {
                let all: &[f32] = bytemuck::cast_slice(self.mapped.data());
                out.copy_from_slice(&all[from..from + n]);
            }
            Dtype::F16 => {
                let all: &[f16] = bytemuck::cast_slice(self.mapped.data());
                all[from..from + n].convert_to_f32_slice(out);
            }
            Dtype::Int8 => unreachable!("no such matrix is opened"),
        }
    }
}

/// A memory-mapped column of counts.
#[derive(Debug)]
pub struct Counts {
    mapped: Mapped,
}

impl Counts {
    /// Opens a file and checks type, shape and length; nothing is read yet.
    ///
    /// # Errors
    /// When it is no list of u32, or shorter than its header says.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let (mapped, descr, shape) = Mapped::open(path)?;
        let ("<u4", [rows]) = (descr.as_str(), &shape[..]) else {
            return Err(DataError::unexpected(path, "one column of u32", quote(&descr)));
        };
        mapped.check_length(path, rows.checked_mul(4))?;
        Ok(Self { mapped })
    }

    /// All counts.
    pub fn as_slice(&self) -> &[u32] {
        bytemuck::cast_slice(self.mapped.data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_matrix_survives_the_disk(values in proptest::collection::vec(-1e3f32..1e3, 6..60)) {
            let rows = values.len() / 3;
            let values = &values[..rows * 3];
            let folder = tempfile::tempdir().unwrap();
            for dtype in [Dtype::F32, Dtype::F16] {
                let path = folder.path().join("m.npy");
                let mut writer = MatrixWriter::create(&path, dtype, rows, 3).unwrap();
                writer.push(values).unwrap();
                writer.commit().unwrap();
                let matrix = Matrix::open(&path).unwrap();
                let mut back = vec![0.0; (rows - 1) * 3];
                matrix.read_rows(1, &mut back);
                for (a, b) in values[3..].iter().zip(&back) {
                    let tolerance = if dtype == Dtype::F32 { 0.0 } else { a.abs() * 1e-3 + 1e-6 };
                    prop_assert!((a - b).abs() <= tolerance);
                }
            }
        }

        #[test]
        fn no_damaged_file_panics(cut in 0usize..200, flip in 0usize..200, byte in 0u8..=255) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("c.npy");
            write_counts(&path, &[1, 2, 3]).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let n = bytes.len();
            bytes[flip % n] = byte;
            bytes.truncate(n - cut % n);
            std::fs::write(&path, &bytes).unwrap();
            let _ = Counts::open(&path);
            let _ = Matrix::open(&path);
        }
    }

    #[test]
    fn a_nan_is_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.npy");
        let mut writer = MatrixWriter::create(&path, Dtype::F16, 1, 2).unwrap();
        assert!(writer.push(&[1e6, 0.0]).is_err());
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
