//! `xqg encode`: queries or passages to a folder of embeddings, shard by shard.

use std::path::Path;

use anyhow::{Result, bail};
use xqg_data::embeddings::{
    EmbeddingsManifest, Side, has_shard, read_manifest, write_manifest, write_shard,
};
use xqg_data::error::DataError;
use xqg_data::file::{
    Lock, output_path, partial_path, refuse_existing, remove, replace_folder, writable_folder,
};
use xqg_data::lines::LineFile;
use xqg_data::passage::read_passages;
use xqg_data::query::stream_queries;
use xqg_index::manifest::hash_file;

use crate::args::{EncodeArgs, bad_lines};
use crate::encoding::{self, Opened};
use crate::output;
use crate::progress::Display;

/// Texts encoded between two reports of progress.
const BATCH: usize = 128;

/// An id and the text that the encoder reads.
type Row = (String, String);

/// Runs the verb.
pub fn run(args: &EncodeArgs) -> Result<()> {
    let out = output_path(&args.out)?;
    refuse_existing(&out, args.force)?;
    let _lock = Lock::take(&out)?;
    let opened = encoding::open(&args.model, &args.encoder)?;
    encoding::announce(&opened);
    let (side, input) = input(args);
    let mut manifest = EmbeddingsManifest::new(
        side,
        opened.encoder.contract().clone(),
        encoding::dtype(args.dtype),
        args.shard_rows,
    );
    manifest.input = hash_file(input)?;
    let folder = partial_path(&out);
    let queries = || stream_queries(input, bad_lines(args.skip_bad));
    let passages = || read_passages(input, bad_lines(args.skip_bad));
    let total = match side {
        Side::Query => check(input, queries()?)?,
        Side::Passage => check(input, passages()?)?,
    };
    resume(&folder, &manifest, args.force)?;
    let mut work = Work { opened: &opened, manifest, folder: &folder, encoded: 0, truncated: 0 };
    match side {
        Side::Query => work.all(total, queries()?, |q| (q.qid, q.text))?,
        Side::Passage => work.all(total, passages()?, |p| (p.docid.clone(), p.encoder_text()))?,
    }
    finish(&work, &out)
}

/// Reads a whole file before anything is encoded or written, so that a bad line at its end costs a
/// minute and not a day; returns the number of texts.
fn check<T>(input: &Path, mut file: LineFile<T>) -> Result<u64> {
    let mut texts = 0;
    for noun in file.by_ref() {
        noun?;
        texts += 1;
    }
    output::skipped(input, file.skipped());
    if texts == 0 {
        return Err(DataError::unexpected(input, "at least one text", "none").into());
    }
    Ok(texts)
}

fn input(args: &EncodeArgs) -> (Side, &Path) {
    match (&args.queries, &args.corpus) {
        (Some(path), _) => (Side::Query, path),
        (None, Some(path)) => (Side::Passage, path),
        (None, None) => unreachable!("clap requires one of the two"),
    }
}

/// Finds the unfinished folder of the same work, or begins one. Rows are counted at the end only,
/// and a folder without a manifest has no shard yet.
fn resume(folder: &Path, manifest: &EmbeddingsManifest, force: bool) -> Result<()> {
    let same = |old| EmbeddingsManifest { rows: manifest.rows, ..old } == *manifest;
    let begun = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if begun && !read_manifest(folder).is_ok_and(same) {
        if !force {
            bail!(
                "resuming {}: expected the input and settings it began with, found others\n\
                 hint: --force throws the unfinished work away and starts anew",
                folder.display()
            );
        }
        remove(folder)?;
    }
    writable_folder(folder)?;
    Ok(write_manifest(folder, manifest)?)
}

struct Work<'a> {
    opened: &'a Opened,
    manifest: EmbeddingsManifest,
    folder: &'a Path,
    encoded: u64,
    truncated: u64,
}

impl Work<'_> {
    /// Encodes a file shard by shard, passing over shards that an earlier run finished.
    fn all<T>(&mut self, total: u64, mut file: LineFile<T>, row: impl Fn(T) -> Row) -> Result<()> {
        let (mut display, mut unit) = (Display::new(), 0);
        let mut report = |done: usize| display.show("encoding", "texts", done as u64, Some(total));
        loop {
            let rows: Vec<Row> = file
                .by_ref()
                .take(self.manifest.shard_rows)
                .map(|noun| Ok(row(noun?)))
                .collect::<Result<_>>()?;
            if rows.is_empty() {
                break;
            }
            self.manifest.rows += rows.len();
            if !has_shard(self.folder, unit) {
                self.shard(unit, &rows, &mut report)?;
            }
            unit += 1;
        }
        Ok(())
    }

    fn shard(&mut self, unit: usize, rows: &[Row], report: &mut impl FnMut(usize)) -> Result<()> {
        let mut vectors = Vec::with_capacity(rows.len() * self.manifest.contract.dim);
        let before = self.manifest.rows - rows.len();
        for (i, batch) in rows.chunks(BATCH).enumerate() {
            let texts: Vec<String> = batch.iter().map(|(_, text)| text.clone()).collect();
            let encoded = self.opened.encode(self.manifest.side, &texts)?;
            vectors.extend(encoded.vectors);
            self.encoded += texts.len() as u64;
            self.truncated += encoded.truncated as u64;
            report(before + i * BATCH + batch.len());
        }
        let ids: Vec<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
        Ok(write_shard(self.folder, unit, self.manifest.dtype, &ids, &vectors)?)
    }
}

fn finish(work: &Work, out: &Path) -> Result<()> {
    write_manifest(work.folder, &work.manifest)?;
    replace_folder(work.folder, out)?;
    output::truncated(work.truncated, work.encoded);
    work.opened.report_speed();
    let (rows, dim) = (work.manifest.rows, work.manifest.contract.dim);
    output::note(format_args!("{}: {rows} x {dim} embeddings", out.display()));
    Ok(())
}
