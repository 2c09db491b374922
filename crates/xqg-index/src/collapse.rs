//! Collapsing an index: a new one of the same format whose only matrix is the fused one, for those
//! who need the smallest. Share, sum or mean and the weights of languages are settled with it, and
//! its manifest says which. Unit by unit, so a killed run goes on where it was, in the memory of one
//! unit, with the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xqg_data::error::DataError;
use xqg_data::file::{
    Lock, PartialFile, output_path, partial_path, refuse_existing, remove, replace_folder,
    writable_folder,
};
use xqg_data::npy::Dtype;

use crate::add::{refuse_part, unit_rows};
use crate::build::refuse_finished;
use crate::error::{IndexError, Result};
use crate::fused::{BLOCK, FusedRows, Fusion};
use crate::graph::manifest::Content;
use crate::index::Index;
use crate::manifest::{IndexManifest, Plan, write_json};
use crate::progress::{Observer, Progress, Stage};
use crate::unit::Unit;

/// What was fused into a collapsed index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Collapsed {
    /// The setting.
    pub fusion: Fusion,
    /// A hash over the layers of questions that were there.
    pub questions: String,
    /// Whether the passages' texts are kept.
    pub texts: bool,
}

/// What to collapse and how.
#[derive(Debug, Clone, PartialEq)]
pub struct CollapseOptions {
    /// How passages and questions are fused.
    pub fusion: Fusion,
    /// How numbers lie on disk.
    pub dtype: Dtype,
    /// Whether the passages' texts are kept.
    pub texts: bool,
    /// Whether an existing index may be replaced and unfinished work thrown away.
    pub force: bool,
}

/// What an unfinished run must go on with.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    of: Content,
    plan: Plan,
    collapsed: Collapsed,
}

/// Writes the fused vectors of an index as an index of their own.
///
/// # Errors
/// When the output exists and `force` is not set, when an unfinished run began from something else,
/// when a number is too great for the dtype, on a full disk. The source is never written to.
pub fn collapse(
    index: &Index,
    out: &Path,
    options: &CollapseOptions,
    observer: Observer,
) -> Result<IndexManifest> {
    refuse_part(index.folder(), &index.manifest)?;
    let fused = FusedRows::new(index, &options.fusion)?;
    let out = &output_path(out)?;
    refuse_finished(out, options.force)?;
    let _lock = Lock::take(out)?;
    let begun = begin(index, options);
    if read_begun(out).is_some_and(|old| old == begun) {
        // Killed after the move to its place.
        remove(&begun_path(out))?;
        return IndexManifest::read(out);
    }
    refuse_existing(out, options.force)?;
    let folder = partial_path(out);
    open(&folder, &begun, options.force)?;
    for number in index.manifest.units() {
        let (from, to) = (Unit::new(index.folder(), number), Unit::new(&folder, number));
        write_unit(&fused, (&from, &to, number), options)?;
        let done = (number * index.manifest.plan.unit_rows) as u64;
        let rows = unit_rows(&index.manifest, number) as u64;
        let total = Some(index.manifest.passages);
        observer(Progress { stage: Stage::Fuse, done: done + rows, total });
    }
    let collapsed = Some(begun.collapsed);
    let (passages, shard) = (index.manifest.passages, index.manifest.shard());
    let manifest = IndexManifest { collapsed, ..IndexManifest::new(begun.plan, passages, shard) };
    manifest.write(&folder)?;
    replace_folder(&folder, out)?;
    remove(&begun_path(out))?;
    Ok(manifest)
}

/// Refuses to use a collapsed index as one that holds its parts.
///
/// # Errors
/// [`IndexError::Collapsed`].
pub fn refuse_collapsed(path: &Path, manifest: &IndexManifest, found: &str) -> Result<()> {
    let Some(collapsed) = &manifest.collapsed else { return Ok(()) };
    let (path, found) = (path.to_path_buf(), found.to_owned());
    Err(IndexError::Collapsed { path, found, fusion: collapsed.fusion.describe() })
}

fn begin(index: &Index, options: &CollapseOptions) -> Begun {
    let of = Content::of(&index.manifest);
    let plan = Plan { dtype: options.dtype, ..index.manifest.plan.clone() };
    let had = index.manifest.collapsed.as_ref();
    let collapsed = match had {
        // Fused before: only the dtype or the texts change now.
        Some(old) => Collapsed { texts: old.texts && options.texts, ..old.clone() },
        None => {
            let (fusion, questions) = (options.fusion.clone(), of.questions.clone());
            Collapsed { fusion, questions, texts: options.texts }
        }
    };
    Begun { of, plan, collapsed }
}

fn begun_path(folder: &Path) -> PathBuf {
    folder.join("begun.json")
}

fn read_begun(folder: &Path) -> Option<Begun> {
    serde_json::from_slice(&fs::read(begun_path(folder)).ok()?).ok()
}

/// Finds or makes the folder of the unfinished index.
fn open(folder: &Path, begun: &Begun, force: bool) -> Result<()> {
    let old = read_begun(folder);
    if old.as_ref() == Some(begun) {
        return Ok(());
    }
    let occupied = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !force {
        let difference = "another index, setting or dtype, or no collapse at all".to_owned();
        return Err(IndexError::OtherPlan { path: folder.to_path_buf(), difference });
    }
    // The mark goes first: a removal that is killed half-way must not be resumed.
    remove(&begun_path(folder))?;
    remove(folder)?;
    writable_folder(folder)?;
    write_json(&begun_path(folder), begun)
}

/// Writes one unit; its vectors, which come last, are the mark that it is complete.
fn write_unit(
    fused: &FusedRows,
    (from, to, number): (&Unit, &Unit, usize),
    options: &CollapseOptions,
) -> Result<()> {
    if to.has_vectors() {
        return Ok(());
    }
    to.create()?;
    copy(from, to, "ids.txt")?;
    let had_texts = fused.index().manifest.collapsed.as_ref().is_none_or(|c| c.texts);
    if options.texts && had_texts {
        copy(from, to, "passages.jsonl")?;
    }
    let manifest = &fused.index().manifest;
    let (rows, dim) = (unit_rows(manifest, number), manifest.plan.contract.dim);
    let first = number * manifest.plan.unit_rows;
    let mut vectors = vec![0.0; rows * dim];
    let blocks = vectors.par_chunks_mut(BLOCK * dim).enumerate();
    blocks.for_each(|(i, block)| fused.read(first + i * BLOCK, block));
    to.write_vectors(options.dtype, rows, &vectors)
}

/// Copies a file of a unit. Not linked: the two indexes may be moved and packed apart.
fn copy(from: &Unit, to: &Unit, name: &str) -> Result<()> {
    let (from, to) = (from.folder().join(name), to.folder().join(name));
    let mut source = fs::File::open(&from).map_err(DataError::io("reading", &from))?;
    let mut target = PartialFile::create(&to)?;
    std::io::copy(&mut source, &mut target).map_err(DataError::io("writing", &to))?;
    Ok(target.commit()?)
}
