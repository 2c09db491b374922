//! Building an index from passages and their questions, in work units. Whatever moment the process
//! dies at, the same command goes on with the first unit that is not complete, and the finished
//! index has the same bytes as one built without a stop.
//!
//! The build lies in `INDEX.partial` until it is complete; an index that is replaced stays where
//! it is, and usable, until that moment.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_data::error::DataError;
use xqg_data::file::{
    Lock, output_path, partial_path, refuse_existing, remove, replace_folder, writable_folder,
};
use xqg_data::lines::{BadLines, Skipped};
use xqg_data::npy::Dtype;
use xqg_data::passage::{Passage, read_passages};

use crate::add::{encode_layer, spill_layer, spilled_path, unit_rows};
use crate::error::{IndexError, Result};
use crate::manifest::{IndexManifest, Layer, Plan, Shard, hash_file, write_json};
use crate::progress::{Observer, Progress, Stage};
use crate::questions::RowMap;
use crate::unit::Unit;

/// Texts handed to the encoder at a time: what may be lost to a kill is at most one unit, but
/// progress is told after each batch.
pub(crate) const BATCH: usize = 128;

/// Embeddings of a batch of texts, in their order.
#[derive(Debug, Clone, Default)]
pub struct Vectors {
    /// `texts x dim` numbers, row after row.
    pub values: Vec<f32>,
    /// How many texts were cut to the greatest length.
    pub truncated: usize,
}

/// The function that encodes: a side and texts in, vectors out.
pub type EncodeTexts<'a> =
    &'a dyn Fn(
        Side,
        &[String],
    ) -> std::result::Result<Vectors, Box<dyn std::error::Error + Send + Sync>>;

/// The encoder of a build: its contract, where it lies, and the function.
#[derive(Clone, Copy)]
pub struct Encode<'a> {
    /// What makes its embeddings comparable.
    pub contract: &'a EncoderContract,
    /// The model folder.
    pub model_path: &'a Path,
    /// The function.
    pub run: EncodeTexts<'a>,
}

/// What to build and how.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The passages file.
    pub corpus: PathBuf,
    /// The questions file, if any.
    pub queries: Option<PathBuf>,
    /// Which side of the encoder questions go through.
    pub side: Side,
    /// How numbers lie on disk.
    pub dtype: Dtype,
    /// Passages in a work unit.
    pub unit_rows: usize,
    /// Which part of the units to build.
    pub shard: Shard,
    /// What to do with bad lines.
    pub bad_lines: BadLines,
    /// Whether an existing index may be replaced and unfinished work thrown away.
    pub force: bool,
}

/// What a build did.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Passages in this folder.
    pub passages: u64,
    /// Questions in this folder.
    pub questions: u64,
    /// Texts encoded by this run, so without those of an interrupted one.
    pub encoded: u64,
    /// Texts that were cut to the greatest length, among those encoded by this run.
    pub truncated: u64,
    /// Bad lines of the passages file that were left out.
    pub skipped_passages: Skipped,
    /// Bad lines of the questions file that were left out.
    pub skipped_questions: Skipped,
}

/// Marks a build that is not finished; holds what it must go on with.
const BEGUN: &str = "begun.json";

/// What an unfinished build must go on with.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    #[serde(flatten)]
    pub(crate) plan: Plan,
    pub(crate) shard: Shard,
    pub(crate) queries: Option<String>,
    pub(crate) side: Side,
}

/// Builds an index folder.
///
/// # Errors
/// On bad input, on a full disk, when the output exists and `force` is not set, and when an
/// unfinished build began from something else. What was there before is left as it was.
pub fn build(
    out: &Path,
    options: &BuildOptions,
    encode: Encode,
    observer: Observer,
) -> Result<Summary> {
    check(options.unit_rows, options.shard)?;
    let begin = || begin(options, encode);
    in_partial(out, options.force, begin, |folder, begun, fresh| {
        let mut work = Work { folder, begun, encode, summary: Summary::default(), rows: 0 };
        let prepared = work.prepare(options, observer);
        let layer = drop_if_bad(prepared, folder, fresh)?;
        work.encode_units(layer.as_ref(), observer)?;
        let mut manifest = work.manifest();
        if let Some(layer) = layer {
            manifest.add_layer(layer);
        }
        Ok((manifest, work.summary))
    })
}

/// The frame of every build: takes the lock, finds or makes the folder of the unfinished work, and
/// moves it to its place when `work` has filled it. `work` is handed that folder, what it goes on
/// with, and whether it is a fresh one.
pub(crate) fn in_partial(
    out: &Path,
    force: bool,
    begin: impl FnOnce() -> Result<Begun>,
    work: impl FnOnce(&Path, Begun, bool) -> Result<(IndexManifest, Summary)>,
) -> Result<Summary> {
    let out = &output_path(out)?;
    refuse_finished(out, force)?;
    let _lock = Lock::take(out)?;
    let begun = begin()?;
    if read_begun(out).is_some_and(|old| old.is_same(&begun)) {
        return published_before(out);
    }
    refuse_existing(out, force)?;
    let folder = partial_path(out);
    let fresh = open_build(&folder, &begun, force)?;
    let (manifest, summary) = work(&folder, begun, fresh)?;
    manifest.write(&folder)?;
    replace_folder(&folder, out)?;
    remove_marks(out)?;
    Ok(summary)
}

/// Takes a fresh folder away when its input was bad: that is mended and comes back as another
/// file, which could not go on with this.
pub(crate) fn drop_if_bad<T>(prepared: Result<T>, folder: &Path, fresh: bool) -> Result<T> {
    if prepared.is_err() && fresh {
        let _ = remove(folder);
    }
    prepared
}

/// Refuses to go on where an index lies, unless `force` is set; one that was moved to its place by
/// a build that was killed before its very end may be finished.
///
/// # Errors
/// [`DataError::Exists`].
pub fn refuse_finished(out: &Path, force: bool) -> Result<()> {
    if out.join(BEGUN).exists() {
        return Ok(());
    }
    Ok(refuse_existing(out, force)?)
}

/// Ends a build that was killed after the move to its place.
fn published_before(out: &Path) -> Result<Summary> {
    let manifest = IndexManifest::read(out)?;
    remove_marks(out)?;
    let mut summary = Summary::default();
    for number in manifest.units() {
        let unit = Unit::new(out, number);
        summary.passages += unit_rows(&manifest, number) as u64;
        for layer in &manifest.layers {
            summary.questions += unit.read_questions(layer.id)?.len() as u64;
        }
    }
    Ok(summary)
}

/// Removes what only an unfinished build needs; the mark that it is unfinished last.
fn remove_marks(folder: &Path) -> Result<()> {
    remove(&spilled_path(folder, 1))?;
    Ok(remove(&folder.join(BEGUN))?)
}

/// Passages in a work unit where nobody says how many: 2048, and 8192 for a passages file above 256
/// MiB. A search maps up to six files a unit and four more for each added layer, and Linux allows a
/// process 65,530 maps: 18 million passages with seven layers are within it.
pub fn default_unit_rows(corpus: &Path) -> usize {
    let large = fs::metadata(corpus).is_ok_and(|file| file.len() > 256 << 20);
    if large { 8192 } else { 2048 }
}

/// Refuses settings that no build can have.
pub(crate) fn check(rows: usize, shard: Shard) -> Result<()> {
    if rows == 0 || rows > 1 << 20 {
        let (expected, found) = ("1 to 1048576 passages", rows.to_string());
        return Err(IndexError::Setting { name: "--unit-rows", expected, found });
    }
    if shard.number == 0 || shard.number > shard.of {
        let (expected, found) =
            ("I/N with I from 1 to N", format!("{}/{}", shard.number, shard.of));
        return Err(IndexError::Setting { name: "--shard", expected, found });
    }
    Ok(())
}

fn begin(options: &BuildOptions, encode: Encode) -> Result<Begun> {
    let plan = Plan {
        contract: encode.contract.clone(),
        model_path: encode.model_path.to_path_buf(),
        dtype: options.dtype,
        unit_rows: options.unit_rows,
        corpus: hash_file(&options.corpus)?,
    };
    let queries = options.queries.as_deref().map(hash_file).transpose()?;
    Ok(Begun { plan, shard: options.shard, queries, side: options.side })
}

fn read_begun(folder: &Path) -> Option<Begun> {
    let bytes = fs::read(folder.join(BEGUN)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Finds or makes the folder of the unfinished build; says whether it is a fresh one.
fn open_build(folder: &Path, begun: &Begun, force: bool) -> Result<bool> {
    let old = read_begun(folder);
    let resumed = old.as_ref().is_some_and(|old| old.is_same(begun));
    if old.is_none() && !force {
        refuse_unknown(folder)?;
    }
    match old {
        Some(old) if !resumed && !force => {
            let difference = begun.difference(&old);
            return Err(IndexError::OtherPlan { path: folder.to_path_buf(), difference });
        }
        _ if !resumed => {
            // The mark goes first: a removal that is killed half-way must not be resumed.
            remove(&folder.join(BEGUN))?;
            remove(folder)?;
        }
        _ => {}
    }
    writable_folder(folder)?;
    if !resumed {
        write_json(&folder.join(BEGUN), begun)?;
    }
    Ok(!resumed)
}

/// Refuses a folder in the place of the unfinished build that is not one.
fn refuse_unknown(folder: &Path) -> Result<()> {
    if !fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok(());
    }
    let difference = "it is not the beginning of such a build".to_owned();
    Err(IndexError::OtherPlan { path: folder.to_path_buf(), difference })
}

impl Begun {
    /// Whether one goes on where the other stopped; a model folder that has moved does not matter.
    fn is_same(&self, other: &Self) -> bool {
        let rest = |b: &Self| (b.shard, b.queries.clone(), b.side);
        self.plan.is_same(&other.plan) && rest(self) == rest(other)
    }

    fn difference(&self, old: &Self) -> String {
        let mut parts = vec![self.plan.difference(&old.plan)];
        if self.queries != old.queries {
            parts.push("another questions file".to_owned());
        }
        if (self.shard, self.side) != (old.shard, old.side) {
            parts.push("another shard or question side".to_owned());
        }
        parts.retain(|p| !p.is_empty());
        parts.join("; ")
    }
}

struct Work<'a> {
    folder: &'a Path,
    begun: Begun,
    encode: Encode<'a>,
    summary: Summary,
    rows: u64,
}

impl Work<'_> {
    /// Brings texts and questions to their units: all that can fail on bad input.
    fn prepare(&mut self, options: &BuildOptions, observer: Observer) -> Result<Option<Layer>> {
        let rows = self.lay_out(options, observer)?;
        self.spill(options, &rows, observer)
    }

    /// Reads all passages, writes the texts of this shard's units, and remembers every row.
    fn lay_out(&mut self, options: &BuildOptions, observer: Observer) -> Result<RowMap> {
        let mut file = read_passages(&options.corpus, options.bad_lines)?;
        let (mut map, mut unit_texts) = (RowMap::default(), Vec::new());
        for passage in file.by_ref() {
            let passage = passage?;
            if options.queries.is_some() {
                map.insert(&passage.docid, self.rows as u32);
            }
            self.rows += 1;
            unit_texts.push(passage);
            if unit_texts.len() == options.unit_rows {
                self.write_unit(&mut unit_texts)?;
                observer(Progress { stage: Stage::Passages, done: self.rows, total: None });
            }
        }
        self.write_unit(&mut unit_texts)?;
        self.summary.skipped_passages = file.skipped().clone();
        if self.rows == 0 {
            let path = &options.corpus;
            return Err(DataError::unexpected(path, "at least one passage", "none").into());
        }
        Ok(map)
    }

    fn write_unit(&mut self, passages: &mut Vec<Passage>) -> Result<()> {
        let unit_rows = self.begun.plan.unit_rows as u64;
        let number = (self.rows.saturating_sub(1) / unit_rows) as usize;
        if !passages.is_empty() && self.begun.shard.holds(number) {
            Unit::new(self.folder, number).write_passages(passages)?;
            self.summary.passages += passages.len() as u64;
        }
        passages.clear();
        Ok(())
    }

    fn spill(
        &mut self,
        options: &BuildOptions,
        rows: &RowMap,
        observer: Observer,
    ) -> Result<Option<Layer>> {
        let (Some(path), Some(input)) = (&options.queries, &self.begun.queries) else {
            return Ok(None);
        };
        let mut manifest = self.manifest();
        manifest.shard = (options.shard.number, options.shard.of);
        let layer = Layer { id: 1, side: options.side, input: input.clone(), langs: Vec::new() };
        let source = (path.as_path(), options.bad_lines);
        let (layer, skipped) =
            spill_layer(self.folder, &manifest, layer, (source, rows), observer)?;
        self.summary.skipped_questions = skipped;
        Ok(Some(layer))
    }

    fn manifest(&self) -> IndexManifest {
        IndexManifest::new(self.begun.plan.clone(), self.rows, self.begun.shard)
    }

    fn encode_units(&mut self, layer: Option<&Layer>, observer: Observer) -> Result<()> {
        let total = Some(self.summary.passages);
        let mut done = 0;
        for number in self.manifest().units() {
            let unit = Unit::new(self.folder, number);
            let passages = unit.read_passages()?;
            if !unit.has_vectors() {
                let report = &mut |n: u64| {
                    let stage = Stage::EncodePassages;
                    observer(Progress { stage, done: done + n, total });
                };
                self.encode_passages(&unit, &passages, report)?;
            }
            unit.sketch_vectors()?;
            done += passages.len() as u64;
        }
        if let Some(layer) = layer {
            let manifest = self.manifest();
            encode_layer(
                self.folder,
                &manifest,
                layer,
                self.encode,
                (&mut self.summary, observer),
            )?;
        }
        Ok(())
    }

    fn encode_passages(
        &mut self,
        unit: &Unit,
        passages: &[Passage],
        report: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let texts: Vec<String> = passages.iter().map(Passage::encoder_text).collect();
        let mut vectors = Vec::with_capacity(texts.len() * self.encode.contract.dim);
        for batch in texts.chunks(BATCH) {
            let encoded = (self.encode.run)(Side::Passage, batch).map_err(IndexError::Encode)?;
            vectors.extend(encoded.values);
            self.summary.encoded += batch.len() as u64;
            self.summary.truncated += encoded.truncated as u64;
            report((vectors.len() / self.encode.contract.dim) as u64);
        }
        unit.write_vectors(self.begun.plan.dtype, passages.len(), &vectors)
    }
}
