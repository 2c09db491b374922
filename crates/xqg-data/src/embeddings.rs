//! An embeddings folder: `.npy` shards of a fixed number of rows, the ids beside each, and one
//! `manifest.json` that carries the encoder contract. Shards are work units: each appears whole or
//! not at all, so a killed `encode` goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::contract::EncoderContract;
use crate::error::DataError;
use crate::file::write_whole;
use crate::npy::{Dtype, MatrixWriter};

/// The version that this code writes and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
const FORMAT: &str = "xqg-embeddings";

/// Which side of the encoder a text goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// With the query prefix and the query length.
    Query,
    /// With the passage prefix and the passage length.
    Passage,
}

/// The description of an embeddings folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingsManifest {
    /// Always `xqg-embeddings`.
    pub format: String,
    /// See [`FORMAT_VERSION`].
    pub version: u32,
    /// What the rows are.
    pub side: Side,
    /// The encoder that made them.
    pub contract: EncoderContract,
    /// How the numbers lie on disk.
    pub dtype: Dtype,
    /// Rows in each shard but the last.
    pub shard_rows: usize,
    /// A hash of the input file's content, so that a resumed run is known to be the same.
    pub input: String,
    /// Rows in all shards together.
    pub rows: usize,
}

impl EmbeddingsManifest {
    /// A manifest with the format's name and version filled in.
    pub fn new(side: Side, contract: EncoderContract, dtype: Dtype, shard_rows: usize) -> Self {
        let (format, input) = (FORMAT.to_owned(), String::new());
        Self { format, version: FORMAT_VERSION, side, contract, dtype, shard_rows, input, rows: 0 }
    }
}

/// The path of shard `unit`, without extension.
fn shard(folder: &Path, unit: usize) -> PathBuf {
    folder.join(format!("shard-{unit:05}"))
}

/// The vectors and the ids of each shard that a manifest speaks of.
pub fn shard_files(
    folder: &Path,
    manifest: &EmbeddingsManifest,
) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let stems = (0..manifest.rows.div_ceil(manifest.shard_rows.max(1))).map(|i| shard(folder, i));
    stems.map(|stem| (stem.with_extension("npy"), stem.with_extension("ids")))
}

/// Whether shard `unit` is complete: its vectors come last, so their file is the mark.
pub fn has_shard(folder: &Path, unit: usize) -> bool {
    shard(folder, unit).with_extension("npy").exists()
}

/// Writes shard `unit`: the ids first, then the vectors.
///
/// # Errors
/// When a number is not finite or the disk refuses.
pub fn write_shard(
    folder: &Path,
    unit: usize,
    dtype: Dtype,
    ids: &[&str],
    vectors: &[f32],
) -> Result<(), DataError> {
    let stem = shard(folder, unit);
    let mut lines = ids.join("\n");
    lines.push('\n');
    write_whole(&stem.with_extension("ids"), lines.as_bytes())?;
    let dim = vectors.len().checked_div(ids.len()).unwrap_or(0);
    let mut writer = MatrixWriter::create(&stem.with_extension("npy"), dtype, ids.len(), dim)?;
    writer.push(vectors)?;
    writer.commit()
}

/// Writes `manifest.json`.
///
/// # Errors
/// When the disk refuses.
pub fn write_manifest(folder: &Path, manifest: &EmbeddingsManifest) -> Result<(), DataError> {
    let mut text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
    text.push('\n');
    write_whole(&folder.join("manifest.json"), text.as_bytes())
}

/// Reads and checks `manifest.json`.
///
/// # Errors
/// When it is missing, no manifest of ours, or of a newer version.
pub fn read_manifest(folder: &Path) -> Result<EmbeddingsManifest, DataError> {
    let path = folder.join("manifest.json");
    let text = fs::read_to_string(&path).map_err(DataError::io("reading", &path))?;
    check_format(&path, &text, (FORMAT, FORMAT_VERSION))?;
    serde_json::from_str(&text)
        .map_err(|e| DataError::unexpected(&path, "a manifest of embeddings", e.to_string()))
}

/// Refuses a manifest of another format or of a version newer than ours, before its other fields
/// are read: a newer one may have others. A text that names no format passes.
///
/// # Errors
/// [`DataError::Unexpected`], with both formats.
pub fn check_format(path: &Path, text: &str, ours: (&str, u32)) -> Result<(), DataError> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
        version: u32,
    }
    let Ok(Head { format, version }) = serde_json::from_str(text) else { return Ok(()) };
    if format == ours.0 && version <= ours.1 {
        return Ok(());
    }
    Err(DataError::Unexpected {
        path: path.to_path_buf(),
        expected: format!("{} version {} or older", ours.0, ours.1),
        found: format!("{format} version {version}"),
        hint: if format == ours.0 { "use the newer xqg that wrote it" } else { "" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(rows: usize) -> EmbeddingsManifest {
        let contract = EncoderContract {
            model: "m".into(),
            weights: String::new(),
            tokenizer: String::new(),
            pooling: "mean".into(),
            normalize: false,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            query_max_tokens: 8,
            passage_max_tokens: 8,
            dim: 2,
            precision: "f32".into(),
            passage_weights: None,
        };
        EmbeddingsManifest { rows, ..EmbeddingsManifest::new(Side::Query, contract, Dtype::F32, 2) }
    }

    #[test]
    fn a_shard_is_there_when_its_vectors_are() {
        let folder = tempfile::tempdir().unwrap();
        write_shard(folder.path(), 1, Dtype::F32, &["c"], &[5.0, 6.0]).unwrap();
        assert!(has_shard(folder.path(), 1) && !has_shard(folder.path(), 2));
        write_manifest(folder.path(), &manifest(3)).unwrap();
        let read = read_manifest(folder.path()).unwrap();
        let names: Vec<_> = shard_files(folder.path(), &read).map(|(vectors, _)| vectors).collect();
        assert_eq!(
            names,
            [folder.path().join("shard-00000.npy"), folder.path().join("shard-00001.npy")]
        );
    }
}
