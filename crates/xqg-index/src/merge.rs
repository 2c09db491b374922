//! Putting the parts of a sharded build together. Units are linked or copied, never encoded again,
//! and the result has the same bytes as an index built in one go.

use std::fs;
use std::path::{Path, PathBuf};

use xqg_data::error::DataError;
use xqg_data::file::{
    Lock, output_path, partial_path, refuse_existing, remove, replace_folder, writable_folder,
    write_whole,
};

use crate::error::{IndexError, Result};
use crate::manifest::{IndexManifest, Shard};
use crate::unit::Unit;

/// Marks the folder of an unfinished merge.
const MERGING: &str = "merging";

/// Merges all parts of a sharded build into one index folder.
///
/// # Errors
/// When a part is missing, comes twice or was built from something else; when the output exists.
pub fn merge(out: &Path, parts: &[PathBuf], force: bool) -> Result<IndexManifest> {
    let out = &output_path(out)?;
    refuse_existing(out, force)?;
    let _lock = Lock::take(out)?;
    let manifests: Vec<IndexManifest> =
        parts.iter().map(|p| IndexManifest::read(p)).collect::<Result<_>>()?;
    check_parts(parts, &manifests)?;
    let folder = partial_path(out);
    // A merge that was killed begins anew; anything else in its place needs a word.
    let mark = folder.join(MERGING);
    if !mark.exists() {
        refuse_existing(&folder, force)?;
    }
    remove(&folder)?;
    writable_folder(&folder)?;
    write_whole(&mark, b"")?;
    for (part, manifest) in parts.iter().zip(&manifests) {
        for number in manifest.units() {
            link_unit(&Unit::new(part, number), &Unit::new(&folder, number))?;
        }
    }
    let shard = (Shard::WHOLE.number, Shard::WHOLE.of);
    let whole = IndexManifest { shard, ..manifests[0].clone() };
    whole.write(&folder)?;
    remove(&mark)?;
    replace_folder(&folder, out)?;
    Ok(whole)
}

fn check_parts(parts: &[PathBuf], manifests: &[IndexManifest]) -> Result<()> {
    let error = |i: usize, expected: String, found: String| {
        let hint = "give each part of one build once: the folders made with --shard 1/N to N/N";
        Err(IndexError::Parts { path: parts[i].clone(), expected, found, hint })
    };
    let Some(first) = manifests.first() else {
        let (name, expected) = ("parts", "at least one index folder");
        return Err(IndexError::Setting { name, expected, found: "none".to_owned() });
    };
    for (i, manifest) in manifests.iter().enumerate() {
        let plan = first.plan.clone();
        let same = IndexManifest { shard: first.shard, plan, ..manifest.clone() } == *first
            && manifest.plan.is_same(&first.plan);
        if !same || manifest.shard.1 != first.shard.1 {
            let found = manifest.plan.difference(&first.plan);
            let found = if found.is_empty() { "another build".to_owned() } else { found };
            return error(i, "a part of the same build as the first".to_owned(), found);
        }
    }
    let mut numbers: Vec<u32> = manifests.iter().map(|m| m.shard.0).collect();
    numbers.sort_unstable();
    if numbers != (1..=first.shard.1).collect::<Vec<_>>() {
        let found = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        return error(0, format!("the parts 1 to {}", first.shard.1), found);
    }
    Ok(())
}

fn link_unit(from: &Unit, to: &Unit) -> Result<()> {
    to.create()?;
    let entries = fs::read_dir(from.folder()).map_err(DataError::io("reading", from.folder()))?;
    for entry in entries {
        let entry = entry.map_err(DataError::io("reading", from.folder()))?;
        let target = to.folder().join(entry.file_name());
        // Other file systems cannot be linked to.
        if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target).map_err(DataError::io("copying to", &target))?;
            let copy = fs::File::open(&target).map_err(DataError::io("copying to", &target))?;
            copy.sync_all().map_err(DataError::io("syncing", &target))?;
        }
    }
    Ok(())
}
