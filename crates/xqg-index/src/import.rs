//! Building an index from embeddings that exist already, with or without their texts. Nothing is
//! encoded; otherwise it is a build like any other: in work units, and a killed one goes on where
//! it was and ends with the same bytes.

use std::path::{Path, PathBuf};

use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_data::error::{DataError, quote};
use xqg_data::lines::{BadLines, LineFile, Skipped};
use xqg_data::npy::Dtype;
use xqg_data::passage::{Passage, read_passages};
use xqg_data::vectors::{Embeddings, IdLines};

use crate::build::{Begun, Summary, check, drop_if_bad, in_partial};
use crate::error::Result;
use crate::manifest::{IndexManifest, Plan, Shard, hash_file};
use crate::progress::{Observer, Progress, Stage};
use crate::unit::Unit;

/// What to make of the embeddings.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The passages' texts, in the order of the rows, if they are to be in the index.
    pub corpus: Option<PathBuf>,
    /// The model folder, where it is known, to find the encoder again.
    pub model_path: PathBuf,
    /// How numbers lie on disk.
    pub dtype: Dtype,
    /// Passages in a work unit.
    pub unit_rows: usize,
    /// Which part of the units to build.
    pub shard: Shard,
    /// What to do with bad lines of the passages file.
    pub bad_lines: BadLines,
    /// Whether an existing index may be replaced and unfinished work thrown away.
    pub force: bool,
}

/// Builds an index folder from embeddings of passages.
///
/// # Errors
/// When a number is not finite, when ids or texts do not fit the rows, on a full disk, when the
/// output exists and `force` is not set. What was there before is left as it was.
pub fn import(
    out: &Path,
    vectors: &Embeddings,
    options: &ImportOptions,
    observer: Observer,
) -> Result<Summary> {
    check(options.unit_rows, options.shard)?;
    refuse_queries(vectors)?;
    let begin = || begin(vectors, options);
    in_partial(out, options.force, begin, |folder, begun, fresh| {
        let manifest = IndexManifest::new(begun.plan, vectors.rows() as u64, options.shard);
        let mut work = Work { folder, manifest, vectors, options, summary: Summary::default() };
        drop_if_bad(work.lay_out(observer), folder, fresh)?;
        work.copy_units(observer)?;
        Ok((work.manifest, work.summary))
    })
}

fn refuse_queries(vectors: &Embeddings) -> Result<()> {
    let (path, expected) = (vectors.path(), "embeddings of passages".to_owned());
    if vectors.side() == Some(Side::Query) {
        let (path, found) = (path.to_path_buf(), "those of queries".to_owned());
        let hint = "xqg encode --corpus makes the former";
        return Err(DataError::Unexpected { path, expected, found, hint }.into());
    }
    if u32::try_from(vectors.rows()).is_err() {
        let (expected, found) = ("fewer than 2^32 rows", vectors.rows().to_string());
        return Err(DataError::unexpected(path, expected, found).into());
    }
    Ok(())
}

/// Looks at every number, so that nothing is written where one is wrong, and says what the build
/// goes on with.
fn begin(vectors: &Embeddings, options: &ImportOptions) -> Result<Begun> {
    let unit_length = vectors.check()?;
    let external = || EncoderContract::external(vectors.dim(), unit_length);
    let mut hashes = Vec::new();
    for path in vectors.files().into_iter().chain(options.corpus.as_deref()) {
        hashes.push(hash_file(path)?);
    }
    let plan = Plan {
        contract: vectors.contract().cloned().unwrap_or_else(external),
        model_path: options.model_path.clone(),
        dtype: options.dtype,
        unit_rows: options.unit_rows,
        corpus: blake3::hash(hashes.concat().as_bytes()).to_hex().to_string(),
    };
    Ok(Begun { plan, shard: options.shard, queries: None, side: Side::Query })
}

struct Work<'a> {
    folder: &'a Path,
    manifest: IndexManifest,
    vectors: &'a Embeddings,
    options: &'a ImportOptions,
    summary: Summary,
}

/// The passages of the rows, in order: of a corpus file, or ids alone.
struct Rows {
    ids: IdLines,
    corpus: Option<(PathBuf, LineFile<Passage>)>,
    row: usize,
}

impl Rows {
    fn open(vectors: &Embeddings, options: &ImportOptions) -> Result<Self> {
        let open = |path: &PathBuf| -> Result<_> {
            Ok((path.clone(), read_passages(path, options.bad_lines)?))
        };
        let corpus = options.corpus.as_ref().map(open).transpose()?;
        Ok(Self { ids: vectors.ids(), corpus, row: 0 })
    }

    /// The next row's passage; `None` after the last id.
    fn next(&mut self) -> Result<Option<Passage>> {
        let Some(docid) = self.ids.next().transpose()? else { return self.end() };
        self.row += 1;
        let Some((path, corpus)) = &mut self.corpus else {
            return Ok(Some(Passage { docid, title: String::new(), text: String::new() }));
        };
        match corpus.next().transpose()? {
            Some(passage) if passage.docid == docid => Ok(Some(passage)),
            other => {
                let found = other.map_or("the end of the file".to_owned(), |p| quote(&p.docid));
                Err(unlike(path, format!("{} as passage {}", quote(&docid), self.row), found))
            }
        }
    }

    fn end(&mut self) -> Result<Option<Passage>> {
        let Some((path, corpus)) = &mut self.corpus else { return Ok(None) };
        match corpus.next().transpose()? {
            None => Ok(None),
            Some(more) => Err(unlike(
                path,
                format!("{} passages", self.row),
                format!("{} too", quote(&more.docid)),
            )),
        }
    }

    fn skipped(self) -> Skipped {
        self.corpus.map(|(_, file)| file.skipped().clone()).unwrap_or_default()
    }
}

fn unlike(path: &Path, expected: String, found: String) -> crate::error::IndexError {
    let hint = "the passages must be those of the embeddings, in their order";
    DataError::Unexpected { path: path.to_path_buf(), expected, found, hint }.into()
}

impl Work<'_> {
    /// Brings ids and texts to their units: all that can fail on bad input.
    fn lay_out(&mut self, observer: Observer) -> Result<()> {
        let mut rows = Rows::open(self.vectors, self.options)?;
        let (mut unit_texts, mut done) = (Vec::new(), 0);
        while let Some(passage) = rows.next()? {
            unit_texts.push(passage);
            done += 1;
            if unit_texts.len() == self.options.unit_rows {
                self.write_texts(done, &mut unit_texts)?;
                observer(Progress { stage: Stage::Passages, done: done as u64, total: None });
            }
        }
        self.write_texts(done, &mut unit_texts)?;
        self.summary.skipped_passages = rows.skipped();
        Ok(())
    }

    fn write_texts(&mut self, done: usize, passages: &mut Vec<Passage>) -> Result<()> {
        let number = done.saturating_sub(1) / self.options.unit_rows;
        if !passages.is_empty() && self.options.shard.holds(number) {
            Unit::new(self.folder, number).write_passages(passages)?;
            self.summary.passages += passages.len() as u64;
        }
        passages.clear();
        Ok(())
    }

    fn copy_units(&self, observer: Observer) -> Result<()> {
        let (dim, unit_rows) = (self.vectors.dim(), self.options.unit_rows);
        let (mut block, mut done) = (Vec::new(), 0);
        for number in self.manifest.units() {
            let unit = Unit::new(self.folder, number);
            let rows = unit_rows.min(self.vectors.rows() - number * unit_rows);
            if !unit.has_vectors() {
                block.resize(rows * dim, 0.0);
                self.vectors.read_rows(number * unit_rows, &mut block);
                unit.write_vectors(self.options.dtype, rows, &block)?;
            }
            unit.sketch_vectors()?;
            done += rows as u64;
            let total = Some(self.summary.passages);
            observer(Progress { stage: Stage::Copy, done, total });
        }
        Ok(())
    }
}
