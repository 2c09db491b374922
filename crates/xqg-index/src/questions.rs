//! Sorting questions to the work units of their passages. A questions file may hold hundreds of
//! millions of lines in any order; they are spilled to one file a unit through a bounded buffer,
//! so that later each unit can be encoded alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use xqg_data::error::{DataError, Mismatch, quote};
use xqg_data::generated::{GeneratedQuery, read_generated};
use xqg_data::lang::Lang;
use xqg_data::lines::{BadLines, Skipped};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::Result;
use crate::manifest::{LangCount, Shard};
use crate::progress::{Observer, Progress, Stage};
use crate::unit::{Question, Unit};

/// Bytes of questions kept in memory before they go to the units' files.
const BUFFER_BYTES: usize = 64 << 20;

/// From docid to row, by a 128-bit hash: 64 bytes a passage at most, whatever the
/// ids look like.
#[derive(Debug, Default)]
pub struct RowMap(HashMap<u128, u32>);

impl RowMap {
    /// Adds a docid; rows are numbered over the whole collection.
    pub fn insert(&mut self, docid: &str, row: u32) {
        self.0.insert(xxh3_128(docid.as_bytes()), row);
    }

    /// The row of a docid.
    pub fn get(&self, docid: &str) -> Option<u32> {
        self.0.get(&xxh3_128(docid.as_bytes())).copied()
    }

    /// The number of passages.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no passage.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where questions go and which of them this build keeps.
pub struct Spill<'a> {
    /// The folder of the index in the making.
    pub folder: &'a Path,
    /// The layer they belong to.
    pub layer: u32,
    /// Rows in each unit.
    pub unit_rows: usize,
    /// Which units are kept.
    pub shard: Shard,
    /// From docid to row.
    pub rows: &'a RowMap,
}

/// What a questions file held.
#[derive(Debug, Clone, Default)]
pub struct Spilled {
    /// Questions by language over the whole file, whatever the shard.
    pub langs: Vec<LangCount>,
    /// Lines that were left out.
    pub skipped: Skipped,
    /// Questions that went to the units of this shard.
    pub kept: u64,
}

impl Spill<'_> {
    /// Reads a questions file and appends each question to the file of its passage's unit.
    ///
    /// # Errors
    /// On bad lines and unknown docids, unless they are to be skipped; when there is no question;
    /// when the disk refuses.
    pub fn run(&self, path: &Path, policy: BadLines, observer: Observer) -> Result<Spilled> {
        let mut file = read_generated(path, policy)?.checked_outside();
        let (mut counts, mut kept, mut seen) = (BTreeMap::<Lang, u64>::new(), 0u64, 0u64);
        let mut buffers = Buffers::default();
        while let Some(question) = file.next() {
            let question = question?;
            let Some(row) = self.rows.get(&question.docid) else {
                file.reject(Mismatch::new("a docid of the passages", quote(&question.docid)));
                continue;
            };
            *counts.entry(question.lang).or_default() += 1;
            kept += u64::from(self.keep(row, question, &mut buffers)?);
            seen += 1;
            if seen.is_multiple_of(10_000) {
                observer(Progress { stage: Stage::Questions, done: seen, total: None });
            }
        }
        if seen == 0 {
            return Err(DataError::unexpected(path, "at least one question", "none").into());
        }
        self.flush(&mut buffers)?;
        self.sync()?;
        let langs = counts.into_iter().map(|(lang, questions)| LangCount { lang, questions });
        Ok(Spilled { langs: langs.collect(), skipped: file.skipped().clone(), kept })
    }

    fn keep(&self, row: u32, question: GeneratedQuery, buffers: &mut Buffers) -> Result<bool> {
        let unit = row as usize / self.unit_rows;
        if !self.shard.holds(unit) {
            return Ok(false);
        }
        let row = (row as usize % self.unit_rows) as u32;
        let line = serde_json::json!(Question { row, lang: question.lang, text: question.text });
        buffers.push(unit, &line.to_string());
        if buffers.bytes > BUFFER_BYTES {
            self.flush(buffers)?;
        }
        Ok(true)
    }

    /// What the mark of a complete spill will vouch for must be on the disk before it.
    fn sync(&self) -> Result<()> {
        let units = self.rows.len().div_ceil(self.unit_rows);
        for unit in (0..units).filter(|&unit| self.shard.holds(unit)) {
            let path = Unit::new(self.folder, unit).spill_path(self.layer);
            if path.exists() {
                let file = fs::File::open(&path).map_err(DataError::io("reading", &path))?;
                file.sync_all().map_err(DataError::io("syncing", &path))?;
            }
        }
        Ok(())
    }

    fn flush(&self, buffers: &mut Buffers) -> Result<()> {
        for (unit, bytes) in std::mem::take(&mut buffers.units) {
            let path = Unit::new(self.folder, unit).spill_path(self.layer);
            let open = OpenOptions::new().append(true).create(true).open(&path);
            let mut file = open.map_err(DataError::io("writing", &path))?;
            file.write_all(&bytes).map_err(DataError::io("writing", &path))?;
        }
        buffers.bytes = 0;
        Ok(())
    }
}

#[derive(Default)]
struct Buffers {
    units: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    fn push(&mut self, unit: usize, line: &str) {
        let buffer = self.units.entry(unit).or_default();
        buffer.extend_from_slice(line.as_bytes());
        buffer.push(b'\n');
        self.bytes += line.len() + 1;
    }
}

/// Reads a unit's spilled questions in the order in which they are stored: by row, then language,
/// then as they came. A unit without any has none.
///
/// # Errors
/// When the file is damaged.
pub fn sorted_spill(unit: &Unit, layer: u32) -> Result<Vec<Question>> {
    let path = unit.spill_path(layer);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut questions = crate::unit::read_questions(&path)?;
    questions.sort_by_key(|q| (q.row, q.lang));
    Ok(questions)
}

/// Removes a unit's spilled questions, once its layer is complete.
///
/// # Errors
/// When the disk refuses.
pub fn remove_spill(unit: &Unit, layer: u32) -> Result<()> {
    let path = unit.spill_path(layer);
    if path.exists() {
        fs::remove_file(&path).map_err(DataError::io("removing", &path))?;
    }
    Ok(())
}
