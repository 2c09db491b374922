//! Embeddings that exist already, whoever made them: a folder that `xqg encode` wrote, with its
//! contract, or a plain `.npy` or `.fvecs` file with its ids in a text file, of which nobody knows
//! the encoder. Vectors stay mapped and ids are streamed, so the size does not matter.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::contract::EncoderContract;
use crate::embeddings::{Side, read_manifest, shard_files};
use crate::error::{DataError, Mismatch, quote};
use crate::fvecs::Fvecs;
use crate::lines::{BadLines, LineFile, SeenIds};
use crate::npy::Matrix;

/// Rows looked at together where all are looked at.
const CHECK_ROWS: usize = 1024;
/// How far from 1 a length may be that counts as 1: f16 rounds to about three digits.
const LENGTH_TOLERANCE: f64 = 2e-3;

/// Embeddings opened for reading.
#[derive(Debug)]
pub struct Embeddings {
    path: PathBuf,
    parts: Vec<Part>,
    ids: IdSource,
    rows: usize,
    dim: usize,
    known: Option<(EncoderContract, Side)>,
}

/// One file of vectors.
#[derive(Debug)]
enum Part {
    Npy(Matrix),
    Fvecs(Fvecs),
}

/// Where the ids of the rows stand.
#[derive(Debug)]
enum IdSource {
    Files(Vec<PathBuf>),
    RowNumbers,
}

impl Embeddings {
    /// Opens a folder of embeddings, or a `.npy` or `.fvecs` file; `ids` names a text file with one
    /// id a line for the latter two, whose rows are otherwise numbered from 0.
    ///
    /// # Errors
    /// When it is none of these, damaged, or of parts that do not fit.
    pub fn open(path: &Path, ids: Option<&Path>) -> Result<Self, DataError> {
        if path.is_dir() {
            return Self::open_folder(path);
        }
        let part = match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => Part::Npy(Matrix::open(path)?),
            Some("fvecs") => Part::Fvecs(Fvecs::open(path)?),
            _ => {
                let expected = "a folder that xqg encode wrote, a .npy or a .fvecs file";
                let found = if path.exists() { "another file" } else { "nothing" };
                return Err(DataError::unexpected(path, expected, found));
            }
        };
        let ids = ids.map(|file| IdSource::Files(vec![file.to_path_buf()]));
        Self::of_parts(path, vec![part], ids.unwrap_or(IdSource::RowNumbers), None)
    }

    fn open_folder(folder: &Path) -> Result<Self, DataError> {
        let manifest = read_manifest(folder)?;
        let (mut parts, mut ids) = (Vec::new(), Vec::new());
        for (vectors, names) in shard_files(folder, &manifest) {
            let matrix = Matrix::open(&vectors)?;
            if matrix.dim() != manifest.contract.dim {
                let expected = format!("{} numbers a row", manifest.contract.dim);
                let found = matrix.dim().to_string();
                return Err(DataError::unexpected(&vectors, expected, found));
            }
            parts.push(Part::Npy(matrix));
            ids.push(names);
        }
        let known = Some((manifest.contract, manifest.side));
        let all = Self::of_parts(folder, parts, IdSource::Files(ids), known)?;
        if all.rows != manifest.rows {
            let (expected, found) = (format!("{} rows", manifest.rows), all.rows.to_string());
            return Err(DataError::unexpected(folder, expected, found));
        }
        Ok(all)
    }

    fn of_parts(
        path: &Path,
        parts: Vec<Part>,
        ids: IdSource,
        known: Option<(EncoderContract, Side)>,
    ) -> Result<Self, DataError> {
        let rows = parts.iter().map(Part::rows).sum();
        let dim = parts.first().map_or(0, Part::dim);
        if rows == 0 || dim == 0 {
            let found = format!("{rows} x {dim}");
            return Err(DataError::unexpected(path, "at least one embedding", found));
        }
        Ok(Self { path: path.to_path_buf(), parts, ids, rows, dim, known })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The encoder that made them, where the folder says so.
    pub fn contract(&self) -> Option<&EncoderContract> {
        self.known.as_ref().map(|(contract, _)| contract)
    }

    /// What the rows are, where the folder says so.
    pub fn side(&self) -> Option<Side> {
        self.known.as_ref().map(|(_, side)| *side)
    }

    /// All files that decide what is in it, in a fixed order.
    pub fn files(&self) -> Vec<&Path> {
        let names = match &self.ids {
            IdSource::Files(files) => files.as_slice(),
            IdSource::RowNumbers => &[],
        };
        self.parts.iter().map(Part::path).chain(names.iter().map(PathBuf::as_path)).collect()
    }

    /// Copies rows `start .. start + out.len() / dim` as f32.
    ///
    /// # Panics
    /// When the range is outside: a bug of the caller.
    pub fn read_rows(&self, mut start: usize, mut out: &mut [f32]) {
        for part in &self.parts {
            if start >= part.rows() {
                start -= part.rows();
                continue;
            }
            let here = (part.rows() - start).min(out.len() / self.dim);
            let (block, rest) = out.split_at_mut(here * self.dim);
            part.read_rows(start, block);
            (start, out) = (0, rest);
            if out.is_empty() {
                return;
            }
        }
        assert!(out.is_empty(), "rows within the matrix are asked for");
    }

    /// All vectors as one block, row after row.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.rows * self.dim];
        self.read_rows(0, &mut all);
        all
    }

    /// Reads everything once: all numbers must be finite and all rows of one length. Says whether
    /// every row has length one.
    ///
    /// # Errors
    /// With the first row that is not as it must be.
    pub fn check(&self) -> Result<bool, DataError> {
        let (mut block, mut unit) = (Vec::new(), true);
        for part in &self.parts {
            for start in (0..part.rows()).step_by(CHECK_ROWS) {
                let end = part.rows().min(start + CHECK_ROWS);
                block.resize((end - start) * self.dim, 0.0);
                part.check_rows(start..end)?;
                part.read_rows(start, &mut block);
                for (i, row) in block.chunks_exact(self.dim).enumerate() {
                    let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                    if !square.is_finite() {
                        let found = format!("NaN or infinity in row {}", start + i);
                        return Err(DataError::unexpected(part.path(), "finite numbers", found));
                    }
                    unit &= (square.sqrt() - 1.0).abs() < LENGTH_TOLERANCE;
                }
            }
        }
        Ok(unit)
    }

    /// The id of each row, in order: as many as rows, each once, or an error.
    pub fn ids(&self) -> IdLines {
        let named = |(ids, part): (&PathBuf, &Part)| IdFile {
            path: ids.clone(),
            of: part.path().to_path_buf(),
            rows: part.rows(),
        };
        let (files, numbers) = match &self.ids {
            IdSource::Files(files) => (files.iter().zip(&self.parts).map(named).collect(), 0..0),
            IdSource::RowNumbers => (VecDeque::new(), 0..self.rows),
        };
        IdLines { files, numbers, current: None, seen: SeenIds::default() }
    }

    /// The ids of all rows in memory, for as few as queries are.
    ///
    /// # Errors
    /// On an id that cannot be used or comes twice, and when they are not as many as the rows.
    pub fn all_ids(&self) -> Result<Vec<String>, DataError> {
        self.ids().collect()
    }
}

impl Part {
    fn rows(&self) -> usize {
        match self {
            Self::Npy(m) => m.rows(),
            Self::Fvecs(f) => f.rows(),
        }
    }

    fn dim(&self) -> usize {
        match self {
            Self::Npy(m) => m.dim(),
            Self::Fvecs(f) => f.dim(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Npy(m) => m.path(),
            Self::Fvecs(f) => f.path(),
        }
    }

    fn check_rows(&self, rows: Range<usize>) -> Result<(), DataError> {
        match self {
            Self::Npy(_) => Ok(()),
            Self::Fvecs(f) => f.check_rows(rows),
        }
    }

    fn read_rows(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::Npy(m) => m.read_rows(start, out),
            Self::Fvecs(f) => f.read_rows(start, out),
        }
    }
}

/// A file of ids and the vectors that they belong to.
struct IdFile {
    path: PathBuf,
    of: PathBuf,
    rows: usize,
}

/// The ids of rows, read as they are asked for.
pub struct IdLines {
    files: VecDeque<IdFile>,
    numbers: Range<usize>,
    current: Option<OpenIds>,
    seen: SeenIds,
}

/// A file of ids that is being read.
struct OpenIds {
    file: IdFile,
    lines: LineFile<String>,
    read: usize,
}

impl OpenIds {
    fn open(file: IdFile) -> Result<Self, DataError> {
        let parse = Box::new(|line: &str| checked_id(line));
        let lines = LineFile::open(&file.path, BadLines::Stop, parse)?.checked_outside();
        Ok(Self { file, lines, read: 0 })
    }

    /// The next id; at the end there must have been one for each row.
    fn next(&mut self, seen: &mut SeenIds) -> Result<Option<String>, DataError> {
        while let Some(id) = self.lines.next().transpose()? {
            match seen.insert("line", &id) {
                Err(mismatch) => self.lines.reject(mismatch),
                Ok(()) if self.read == self.file.rows => return Err(self.wrong_count("more")),
                Ok(()) => {
                    self.read += 1;
                    return Ok(Some(id));
                }
            }
        }
        if self.read == self.file.rows {
            return Ok(None);
        }
        Err(self.wrong_count(&self.read.to_string()))
    }

    fn wrong_count(&self, found: &str) -> DataError {
        let IdFile { path, of, rows } = &self.file;
        let expected = format!("{rows} ids, one for each row of {}", of.display());
        DataError::unexpected(path, expected, found)
    }
}

impl IdLines {
    fn step(&mut self) -> Result<Option<String>, DataError> {
        if let Some(number) = self.numbers.next() {
            return Ok(Some(number.to_string()));
        }
        loop {
            if let Some(open) = &mut self.current
                && let Some(id) = open.next(&mut self.seen)?
            {
                return Ok(Some(id));
            }
            let Some(file) = self.files.pop_front() else { return Ok(None) };
            self.current = Some(OpenIds::open(file)?);
        }
    }
}

impl Iterator for IdLines {
    type Item = Result<String, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step().transpose();
        if matches!(next, None | Some(Err(_))) {
            (self.current, self.numbers) = (None, 0..0);
            self.files.clear();
        }
        next
    }
}

/// An id as it stands on a line of its own.
fn checked_id(line: &str) -> Result<String, Mismatch> {
    if line.contains(char::is_whitespace) {
        return Err(Mismatch::new("one id, without white space", quote(line)));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy::{Dtype, MatrixWriter};

    fn npy(folder: &Path, name: &str, values: &[f32]) -> PathBuf {
        let path = folder.join(name);
        let mut writer = MatrixWriter::create(&path, Dtype::F16, values.len() / 2, 2).unwrap();
        writer.push(values).unwrap();
        writer.commit().unwrap();
        path
    }

    #[test]
    fn a_plain_matrix_numbers_its_rows_and_tells_whether_they_have_length_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = npy(folder.path(), "a.npy", &[1.0, 0.0, 0.6, 0.8]);
        let vectors = Embeddings::open(&path, None).unwrap();
        assert_eq!(vectors.all_ids().unwrap(), ["0", "1"]);
        assert!(vectors.check().unwrap() && vectors.contract().is_none());
        let path = npy(folder.path(), "b.npy", &[1.0, 0.0, 3.0, 4.0]);
        assert!(!Embeddings::open(&path, None).unwrap().check().unwrap());
    }

    #[test]
    fn ids_are_checked_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = npy(folder.path(), "a.npy", &[1.0, 0.0, 0.6, 0.8]);
        let ids = folder.path().join("ids.txt");
        for (content, word) in [
            ("a\n", "expected 2 ids, one for each row of"),
            ("a\nb\nc\n", "found more"),
            ("a\na\n", "found `a` again"),
            ("a\nb c\n", "line 2: expected one id, without white space, found `b c`"),
        ] {
            std::fs::write(&ids, content).unwrap();
            let error = Embeddings::open(&path, Some(&ids)).unwrap().all_ids().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        std::fs::write(&ids, "a\r\nb").unwrap();
        assert_eq!(Embeddings::open(&path, Some(&ids)).unwrap().all_ids().unwrap(), ["a", "b"]);
    }
}
