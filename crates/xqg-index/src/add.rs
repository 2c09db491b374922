//! Adding questions to an index: a new layer beside what is there. No passage vector and no earlier
//! sum is touched; the manifest that names the layer is written when all its units are complete.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xqg_data::embeddings::Side;
use xqg_data::file::{Lock, output_path, remove, writable_folder};
use xqg_data::lines::{BadLines, Skipped};

use crate::build::{BATCH, Encode, Summary};
use crate::collapse::refuse_collapsed;
use crate::error::{IndexError, Result};
use crate::manifest::{IndexManifest, Layer, hash_file, write_json};
use crate::progress::{Observer, Progress, Stage};
use crate::questions::{RowMap, Spill, remove_spill, sorted_spill};
use crate::unit::{Question, SumBlock, Unit};

/// What to add and how.
#[derive(Debug, Clone)]
pub struct AddOptions {
    /// The questions file.
    pub queries: PathBuf,
    /// Which side of the encoder the questions go through.
    pub side: Side,
    /// What to do with bad lines.
    pub bad_lines: BadLines,
    /// Whether an unfinished addition of something else may be thrown away.
    pub force: bool,
}

/// Adds a questions file to an index as a new layer.
///
/// # Errors
/// When the encoder is not the index's own, on bad input, on a full disk. The index stays as it
/// was until the last step.
pub fn add(
    index: &Path,
    options: &AddOptions,
    encode: Encode,
    observer: Observer,
) -> Result<Summary> {
    let index = &output_path(index)?;
    let _lock = Lock::take(index)?;
    let mut manifest = IndexManifest::read(index)?;
    manifest.plan.contract.check(encode.contract, "adding questions")?;
    refuse_part(index, &manifest)?;
    refuse_collapsed(index, &manifest, "more questions")?;
    writable_folder(index)?;
    let id = manifest.layers.last().map_or(1, |l| l.id + 1);
    let input = hash_file(&options.queries)?;
    let layer = Layer { id, side: options.side, input, langs: Vec::new() };
    if let Some(summary) = added_before(index, &manifest, &layer)? {
        return Ok(summary);
    }
    if !options.force {
        refuse_repeated(index, &manifest, &layer)?;
    }
    let fresh = begin(index, &manifest, &layer, options.force)?;
    let prepared = prepare(index, &manifest, layer, options, observer);
    if prepared.is_err() && fresh {
        // Bad input is mended and comes back as another file, which could not go on with this.
        let _ = abandon(index, &manifest, id);
    }
    let (layer, mut summary) = prepared?;
    encode_layer(index, &manifest, &layer, encode, (&mut summary, observer))?;
    manifest.add_layer(layer);
    manifest.write(index)?;
    remove_marks(index, id)?;
    Ok(summary)
}

/// The same file again would count each of its questions twice.
fn refuse_repeated(index: &Path, manifest: &IndexManifest, layer: &Layer) -> Result<()> {
    let same = |old: &&Layer| old.input == layer.input && old.side == layer.side;
    match manifest.layers.iter().find(same) {
        None => Ok(()),
        Some(old) => Err(IndexError::Repeated { path: index.to_path_buf(), layer: old.id }),
    }
}

/// Ends an addition that was killed after its layer was in the manifest, if it is this one.
fn added_before(index: &Path, manifest: &IndexManifest, layer: &Layer) -> Result<Option<Summary>> {
    let (Some(last), Some(begun)) = (manifest.layers.last(), read_begun(index)) else {
        return Ok(None);
    };
    let this = Layer { id: last.id, ..layer.clone() };
    if begun != this || last.input != this.input || last.side != this.side {
        return Ok(None);
    }
    remove_marks(index, last.id)?;
    let questions = last.langs.iter().map(|l| l.questions).sum();
    Ok(Some(Summary { passages: manifest.passages, questions, ..Summary::default() }))
}

/// Brings the questions to their units: all that can fail on bad input.
fn prepare(
    index: &Path,
    manifest: &IndexManifest,
    layer: Layer,
    options: &AddOptions,
    observer: Observer,
) -> Result<(Layer, Summary)> {
    let rows = row_map(index, manifest)?;
    let source = (options.queries.as_path(), options.bad_lines);
    let (layer, skipped) = spill_layer(index, manifest, layer, (source, &rows), observer)?;
    let passages = rows.len() as u64;
    Ok((layer, Summary { passages, skipped_questions: skipped, ..Summary::default() }))
}

/// Takes away all that an addition left in the index.
fn abandon(index: &Path, manifest: &IndexManifest, layer: u32) -> Result<()> {
    // The marks go first: a removal that is killed half-way must not be resumed.
    remove_marks(index, layer)?;
    for unit in manifest.units() {
        Unit::new(index, unit).remove_layer(layer)?;
    }
    Ok(())
}

/// Removes what only an unfinished addition needs; the mark that it is unfinished last.
fn remove_marks(index: &Path, layer: u32) -> Result<()> {
    remove(&spilled_path(index, layer))?;
    Ok(remove(&begun_path(index))?)
}

/// A part of a sharded build knows only its own docids.
pub(crate) fn refuse_part(index: &Path, manifest: &IndexManifest) -> Result<()> {
    let shard = manifest.shard();
    if shard.of == 1 {
        return Ok(());
    }
    let expected = "a whole index".to_owned();
    let found = format!("part {} of {}", shard.number, shard.of);
    let (path, hint) = (index.to_path_buf(), "merge the parts first: xqg index merge");
    Err(IndexError::Parts { path, expected, found, hint })
}

fn begun_path(index: &Path) -> PathBuf {
    index.join("adding.json")
}

/// Says that the questions of a layer are all with their units.
pub(crate) fn spilled_path(folder: &Path, layer: u32) -> PathBuf {
    folder.join(format!("q{layer:04}.spilled.json"))
}

fn read_begun(index: &Path) -> Option<Layer> {
    let bytes = fs::read(begun_path(index)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Goes on with an unfinished addition of the same file; clears away one of another with `force`.
/// Says whether the addition is a fresh one.
fn begin(index: &Path, manifest: &IndexManifest, layer: &Layer, force: bool) -> Result<bool> {
    match read_begun(index) {
        Some(old) if old == *layer => return Ok(false),
        Some(old) if old.id == layer.id && !force => {
            let difference = "another questions file".to_owned();
            return Err(IndexError::OtherPlan { path: index.to_path_buf(), difference });
        }
        _ => abandon(index, manifest, layer.id)?,
    }
    write_json(&begun_path(index), layer)?;
    Ok(true)
}

fn row_map(index: &Path, manifest: &IndexManifest) -> Result<RowMap> {
    let mut map = RowMap::default();
    for number in manifest.units() {
        let first = number * manifest.plan.unit_rows;
        for (i, docid) in Unit::new(index, number).read_ids()?.lines().enumerate() {
            map.insert(docid, (first + i) as u32);
        }
    }
    Ok(map)
}

/// What the spilling of a layer found: kept, so that a resumed build need not read the file again.
#[derive(Serialize, Deserialize)]
struct SpilledLayer {
    layer: Layer,
    skipped: usize,
    /// Questions with the units of this folder: as many must be encoded in the end.
    kept: u64,
}

/// A questions file with what to do about its bad lines, and where its docids are.
type Source<'a> = ((&'a Path, BadLines), &'a RowMap);

fn read_spilled(mark: &Path) -> Option<SpilledLayer> {
    let bytes = fs::read(mark).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Refuses a layer that lacks questions because their file was removed under the build.
fn check_complete(folder: &Path, layer: u32, questions: u64) -> Result<()> {
    match read_spilled(&spilled_path(folder, layer)) {
        Some(spilled) if spilled.kept == questions => Ok(()),
        spilled => {
            let kept = spilled.map_or(0, |s| s.kept);
            let difference = format!("{questions} of {kept} questions are left");
            Err(IndexError::OtherPlan { path: folder.to_path_buf(), difference })
        }
    }
}

/// Sorts a questions file to the units, unless an earlier run already did; returns the layer with
/// its languages.
pub(crate) fn spill_layer(
    folder: &Path,
    manifest: &IndexManifest,
    layer: Layer,
    source: Source,
    observer: Observer,
) -> Result<(Layer, Skipped)> {
    let mark = spilled_path(folder, layer.id);
    if let Some(done) = read_spilled(&mark) {
        return Ok((done.layer, Skipped { total: done.skipped, shown: Vec::new() }));
    }
    for unit in manifest.units() {
        Unit::new(folder, unit).remove_layer(layer.id)?;
    }
    let ((path, policy), rows) = source;
    let (unit_rows, shard) = (manifest.plan.unit_rows, manifest.shard());
    let spill = Spill { folder, layer: layer.id, unit_rows, shard, rows };
    let found = spill.run(path, policy, observer)?;
    let layer = Layer { langs: found.langs, ..layer };
    let (skipped, kept) = (found.skipped.total, found.kept);
    write_json(&mark, &SpilledLayer { layer: layer.clone(), skipped, kept })?;
    Ok((layer, found.skipped))
}

/// Encodes the questions of a layer, unit by unit, and keeps only their sums.
pub(crate) fn encode_layer(
    folder: &Path,
    manifest: &IndexManifest,
    layer: &Layer,
    encode: Encode,
    report: (&mut Summary, Observer),
) -> Result<()> {
    let (summary, observer) = report;
    let all: u64 = layer.langs.iter().map(|l| l.questions).sum();
    let total = (manifest.shard().of == 1).then_some(all);
    let layers: Vec<Layer> = manifest.layers.iter().chain([layer]).cloned().collect();
    for number in manifest.units() {
        let unit = Unit::new(folder, number);
        if unit.has_layer(layer.id) {
            summary.questions += unit.read_questions(layer.id)?.len() as u64;
            // A kill may have come between the two.
            remove_spill(&unit, layer.id)?;
            continue;
        }
        let questions = sorted_spill(&unit, layer.id)?;
        let rows = unit_rows(manifest, number);
        let langs = layer.langs.len();
        let mut sums = SumBlock::new(langs, rows, encode.contract.dim);
        for batch in questions.chunks(BATCH) {
            summary.truncated += sum_batch(batch, layer, encode, &mut sums)?;
            summary.encoded += batch.len() as u64;
            summary.questions += batch.len() as u64;
            let stage = Stage::EncodeQuestions;
            observer(Progress { stage, done: summary.questions, total });
        }
        unit.write_sums(layer.id, manifest.plan.dtype, &sums)?;
        unit.sketch_layer(manifest.plan.dtype, &layers, (rows, sums.dim))?;
        unit.write_questions(layer.id, &questions)?;
        remove_spill(&unit, layer.id)?;
    }
    check_complete(folder, layer.id, summary.questions)
}

/// Passages in a unit: all full but the last.
pub(crate) fn unit_rows(manifest: &IndexManifest, number: usize) -> usize {
    let (rows, all) = (manifest.plan.unit_rows, manifest.passages as usize);
    rows.min(all.saturating_sub(number * rows))
}

/// Adds the embeddings of some questions to their sums; returns how many texts were cut.
fn sum_batch(
    questions: &[Question],
    layer: &Layer,
    encode: Encode,
    sums: &mut SumBlock,
) -> Result<u64> {
    let texts: Vec<String> = questions.iter().map(|q| q.text.clone()).collect();
    let encoded = (encode.run)(layer.side, &texts).map_err(IndexError::Encode)?;
    for (question, vector) in questions.iter().zip(encoded.values.chunks_exact(sums.dim)) {
        let block = layer.langs.iter().position(|l| l.lang == question.lang);
        let block = block.expect("a layer lists the languages of all its questions");
        sums.add(block, question.row as usize, vector);
    }
    Ok(encoded.truncated as u64)
}
