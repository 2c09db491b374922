//! `xqg index`, `xqg index add` and `xqg index merge`.

use anyhow::{Context as _, Result};
use xqg_index::add::AddOptions;
use xqg_index::build::{BuildOptions, refuse_finished};
use xqg_index::manifest::{IndexManifest, Shard};

use crate::args::{IndexAddArgs, IndexBuildArgs, IndexMergeArgs, ShardArg, bad_lines};
use crate::encoding::{self, observe};
use crate::output;
use crate::progress::Display;

/// Builds an index.
pub fn build(args: &IndexBuildArgs) -> Result<()> {
    let (Some(model), Some(corpus), Some(out)) = (&args.model, &args.corpus, &args.out) else {
        unreachable!("clap requires all three where no verb follows")
    };
    refuse_finished(out, args.force)?;
    let shard = args.shard.map_or_else(slurm_shard, |ShardArg(shard)| Ok(shard))?;
    let opened = encoding::open(model, &args.encoder)?;
    encoding::announce(&opened);
    let options = BuildOptions {
        corpus: corpus.clone(),
        queries: args.queries.clone(),
        side: encoding::side(args.questions_as),
        dtype: encoding::dtype(args.dtype),
        unit_rows: args.unit_rows,
        shard,
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

/// The part of the work that a Slurm array gives this task.
fn slurm_shard() -> Result<Shard> {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(task), Some(count)) =
        (variable("SLURM_ARRAY_TASK_ID"), variable("SLURM_ARRAY_TASK_COUNT"))
    else {
        return Ok(Shard::WHOLE);
    };
    let first = variable("SLURM_ARRAY_TASK_MIN").unwrap_or_else(|| "0".to_owned());
    let number = |text: &str| text.parse::<u32>().context("reading SLURM_ARRAY_TASK_*: a number");
    let number = (number(&task)?.saturating_sub(number(&first)?) + 1, number(&count)?);
    let ShardArg(shard) = format!("{}/{}", number.0, number.1)
        .parse()
        .map_err(|e: String| anyhow::anyhow!("SLURM_ARRAY_TASK_*: {e}\nhint: set --shard I/N"))?;
    output::note(format_args!("shard {}/{} from the Slurm array task", shard.number, shard.of));
    Ok(shard)
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
