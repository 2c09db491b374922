//! Exports: the fused vectors of an index in one file that others read, with the docids beside it,
//! one a line in the order of the rows. Streamed, block by block.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use xqg_data::error::DataError;
use xqg_data::file::{Lock, PartialFile, output_path, refuse_existing};
use xqg_data::npy::{Dtype, MatrixWriter};

use crate::error::{IndexError, Result};
use crate::fused::{BLOCK, FusedRows};
use crate::progress::{Observer, Progress, Stage};

/// Blocks that are fused at once, on all threads.
const BLOCKS: usize = 32;

/// A format of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// numpy's: one matrix of f32.
    Npy,
    /// A FAISS `IndexFlatIP`, as `faiss.read_index` opens it.
    Faiss,
}

/// Writes all fused vectors to `out`, and the docids beside it, with the ending `.ids`; returns the
/// path of the latter. The vectors come last.
///
/// # Errors
/// When one of the files exists and `force` is not set, or the disk refuses.
pub fn export(
    fused: &FusedRows,
    format: Format,
    (out, force): (&Path, bool),
    observer: Observer,
) -> Result<PathBuf> {
    let out = &output_path(out)?;
    let ids = ids_path(out)?;
    for path in [out, &ids] {
        refuse_existing(path, force)?;
    }
    let _lock = Lock::take(out)?;
    let mut file = PartialFile::create(&ids)?;
    for id in fused.index().ids.iter() {
        writeln!(file, "{id}").map_err(DataError::io("writing", &ids))?;
    }
    file.commit()?;
    match format {
        Format::Npy => export_npy(fused, out, observer)?,
        Format::Faiss => export_faiss(fused, out, observer)?,
    }
    Ok(ids)
}

/// Where the docids of an export lie.
fn ids_path(out: &Path) -> Result<PathBuf> {
    let ids = out.with_extension("ids");
    if ids == out {
        let (name, expected) = ("--out", "a name that does not end in .ids, as the docids' does");
        return Err(IndexError::Setting { name, expected, found: out.display().to_string() });
    }
    Ok(ids)
}

fn export_npy(fused: &FusedRows, out: &Path, observer: Observer) -> Result<()> {
    let (rows, dim) = (fused.index().len(), fused.index().dim());
    let mut file = MatrixWriter::create(out, Dtype::F32, rows, dim)?;
    stream(fused, observer, |block| Ok(file.push(block)?))?;
    Ok(file.commit()?)
}

fn export_faiss(fused: &FusedRows, out: &Path, observer: Observer) -> Result<()> {
    let mut file = PartialFile::create(out)?;
    let failed = || DataError::io("writing", out);
    let header = faiss_header(fused.index().len(), fused.index().dim());
    file.write_all(&header).map_err(failed())?;
    stream(fused, observer, |block| {
        let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(file.write_all(&bytes).map_err(failed())?)
    })?;
    Ok(file.commit()?)
}

/// What comes before the vectors in a FAISS `IndexFlatIP` (`faiss/impl/index_write.cpp`,
/// `write_index_header` and `WRITEXBVECTOR`).
fn faiss_header(rows: usize, dim: usize) -> Vec<u8> {
    let mut head = b"IxFI".to_vec();
    head.extend((dim as i32).to_le_bytes());
    head.extend((rows as i64).to_le_bytes());
    // Two numbers that FAISS writes for older readers.
    head.extend([(1i64 << 20).to_le_bytes(); 2].as_flattened());
    head.push(1); // trained
    head.extend(0i32.to_le_bytes()); // the inner product
    head.extend((rows as u64 * dim as u64).to_le_bytes());
    head
}

/// Hands all fused vectors on, some blocks at a time, in order.
fn stream(
    fused: &FusedRows,
    observer: Observer,
    mut write: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let (rows, dim) = (fused.index().len(), fused.index().dim());
    for first in (0..rows).step_by(BLOCKS * BLOCK) {
        let some = (rows - first).min(BLOCKS * BLOCK);
        let mut vectors = vec![0.0; some * dim];
        let blocks = vectors.par_chunks_mut(BLOCK * dim).enumerate();
        blocks.for_each(|(i, block)| fused.read(first + i * BLOCK, block));
        write(&vectors)?;
        let (done, total) = ((first + some) as u64, Some(rows as u64));
        observer(Progress { stage: Stage::Fuse, done, total });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_faiss_writes() {
        // faiss.write_index(IndexFlatIP(3) with 2 vectors), faiss-cpu 1.15.1: its first 49 bytes.
        let golden = "49784649030000000200000000000000000010000000000000001000000000000100000000\
                      0600000000000000";
        let hex: String = faiss_header(2, 3).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
    }
}
