//! Which files hold a folder's weights: one file, or the shards that an index names. Only finds
//! and reads the index; the tensors themselves are elsewhere.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::checkpoint::error::CheckpointError;

/// The weight files that are looked for, in this order.
const CANDIDATES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// What the names of index files end with.
const INDEX_SUFFIX: &str = ".index.json";

/// The first weight file or index that the folder holds.
///
/// # Errors
///
/// [`CheckpointError::NoWeights`] where there is none.
pub(super) fn find(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let paths = CANDIDATES.iter().map(|name| folder.join(name));
    let found = paths.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| CheckpointError::NoWeights { folder: folder.to_path_buf() })
}

/// Whether this is the index of a sharded checkpoint, by its name.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(INDEX_SUFFIX))
}

/// An index file, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Which tensor is in which shard, as an index says.
#[derive(Debug)]
pub(super) struct ShardMap {
    /// The shards' paths, sorted, each once.
    pub(super) shards: Vec<PathBuf>,
    /// Tensor names and the number of their shard in `shards`.
    pub(super) tensors: BTreeMap<String, usize>,
}

/// Reads an index and checks that each shard is a plain file beside it.
///
/// # Errors
///
/// Where it is no such JSON, names a shard by a path, or a shard is missing.
pub(super) fn read_index(contents: &[u8], path: &Path) -> Result<ShardMap, CheckpointError> {
    let index: Result<Index, _> = serde_json::from_slice(contents);
    let failed = |source| CheckpointError::Index { path: path.to_path_buf(), source };
    let weight_map = index.map_err(failed)?.weight_map;
    let mut names: Vec<&String> = weight_map.values().collect();
    names.sort();
    names.dedup();
    let number = |shard: &String| names.binary_search(&shard).unwrap_or_default();
    let tensors = weight_map.iter().map(|(name, shard)| (name.clone(), number(shard))).collect();
    let shards = names.iter().map(|name| shard_path(path, name)).collect::<Result<_, _>>()?;
    Ok(ShardMap { shards, tensors })
}

/// The shard's path; a name that leads out of the index's folder is refused.
fn shard_path(index: &Path, name: &str) -> Result<PathBuf, CheckpointError> {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !plain || name.contains(['/', '\\']) {
        let (path, shard) = (index.to_path_buf(), name.to_string());
        return Err(CheckpointError::ShardName { path, shard });
    }
    let shard = index.with_file_name(name);
    if shard.is_file() {
        return Ok(shard);
    }
    Err(CheckpointError::ShardMissing { index: index.to_path_buf(), shard })
}
