//! `xqg index`, `xqg index add`, `xqg index merge` and `xqg index sketch`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xqg_data::contract::EncoderContract;
use xqg_data::vectors::Embeddings;
use xqg_index::add::AddOptions;
use xqg_index::build::{BuildOptions, default_unit_rows, refuse_finished};
use xqg_index::import::ImportOptions;
use xqg_index::manifest::IndexManifest;

use crate::args::{IndexAddArgs, IndexBuildArgs, IndexMergeArgs, IndexSketchArgs, bad_lines};
use crate::encoding::{self, observe};
use crate::output;
use crate::progress::Display;
use crate::sharding::shard_and_output;

/// Builds an index.
pub fn build(args: &IndexBuildArgs) -> Result<()> {
    if let Some(embeddings) = &args.embeddings {
        return import(args, embeddings);
    }
    let (Some(model), Some(corpus), Some(out)) = (&args.model, &args.corpus, &args.out) else {
        unreachable!("clap requires all three where no verb follows")
    };
    let (shard, out) = &shard_and_output(args.shard, out)?;
    refuse_finished(out, args.force)?;
    let opened = encoding::open(model, &args.encoder)?;
    encoding::announce(&opened);
    let options = BuildOptions {
        corpus: corpus.clone(),
        queries: args.queries.clone(),
        side: encoding::side(args.questions_as),
        dtype: encoding::index_dtype(args.dtype),
        unit_rows: args.unit_rows.unwrap_or_else(|| default_unit_rows(corpus)),
        shard: *shard,
        bad_lines: bad_lines(args.skip_bad),
        force: args.force,
    };
    let run = |side, texts: &[String]| opened.run(side, texts);
    let mut display = Display::new();
    let encode = opened.as_encode(&run);
    let summary = xqg_index::build::build(out, &options, encode, &mut observe(&mut display))?;
    drop(display);
    output::skipped(corpus, &summary.skipped_passages);
    if let Some(queries) = &args.queries {
        output::skipped(queries, &summary.skipped_questions);
    }
    output::truncated(summary.truncated, summary.encoded);
    let (passages, questions) = (summary.passages, summary.questions);
    output::note(format_args!("{}: {passages} passages, {questions} questions", out.display()));
    Ok(())
}

/// Builds an index from embeddings that exist already.
fn import(args: &IndexBuildArgs, embeddings: &Path) -> Result<()> {
    let out = args.out.as_ref().expect("clap requires it where no verb follows");
    let (shard, out) = &shard_and_output(args.shard, out)?;
    refuse_finished(out, args.force)?;
    let vectors = encoding::open_vectors(embeddings, args.ids.as_deref(), "--ids")?;
    let options = ImportOptions {
        corpus: args.corpus.clone(),
        model_path: model_of(args, &vectors)?,
        dtype: encoding::index_dtype(args.dtype),
        unit_rows: args.unit_rows.unwrap_or_else(|| default_unit_rows(embeddings)),
        shard: *shard,
        bad_lines: bad_lines(args.skip_bad),
        force: args.force,
    };
    let mut display = Display::new();
    let summary = xqg_index::import::import(out, &vectors, &options, &mut observe(&mut display))?;
    drop(display);
    if let Some(corpus) = &args.corpus {
        output::skipped(corpus, &summary.skipped_passages);
    }
    let (passages, dim) = (summary.passages, vectors.dim());
    output::note(format_args!("{}: {passages} passages, {dim} dimensions", out.display()));
    Ok(())
}

/// The folder of the model that is said to have made the embeddings; empty where none is said.
fn model_of(args: &IndexBuildArgs, vectors: &Embeddings) -> Result<PathBuf> {
    let Some(model) = &args.model else { return Ok(PathBuf::new()) };
    let opened = encoding::open(model, &args.encoder)?;
    let unknown = EncoderContract::external(vectors.dim(), false);
    let what = format!("using {} with {model}", vectors.path().display());
    vectors.contract().unwrap_or(&unknown).check(opened.encoder.contract(), &what)?;
    Ok(opened.folder)
}

/// Adds questions to an index.
pub fn add(args: &IndexAddArgs) -> Result<()> {
    let manifest = IndexManifest::read(&args.index)?;
    let opened = encoding::open_for(&manifest, args.model.as_deref(), "adding questions")?;
    let options = AddOptions {
        queries: args.queries.clone(),
        side: encoding::side(args.questions_as),
        bad_lines: bad_lines(args.skip_bad),
        force: args.force,
    };
    let run = |side, texts: &[String]| opened.run(side, texts);
    let mut display = Display::new();
    let encode = opened.as_encode(&run);
    let summary = xqg_index::add::add(&args.index, &options, encode, &mut observe(&mut display))?;
    drop(display);
    output::skipped(&args.queries, &summary.skipped_questions);
    output::truncated(summary.truncated, summary.encoded);
    let (index, questions) = (args.index.display(), summary.questions);
    output::note(format_args!("{index}: {questions} questions added"));
    Ok(())
}

/// Merges the parts of a sharded build.
pub fn merge(args: &IndexMergeArgs) -> Result<()> {
    let manifest = xqg_index::merge::merge(&args.out, &args.parts, args.force)?;
    let (out, parts) = (args.out.display(), args.parts.len());
    output::note(format_args!("{out}: {} passages from {parts} parts", manifest.passages));
    Ok(())
}

/// Writes the sketches that an index lacks.
pub fn sketch(args: &IndexSketchArgs) -> Result<()> {
    let mut display = Display::new();
    let manifest = xqg_index::resketch::sketch(&args.index, &mut observe(&mut display))?;
    drop(display);
    let (index, passages) = (args.index.display(), manifest.passages);
    output::note(format_args!("{index}: {passages} passages have their 8-bit copies"));
    Ok(())
}
