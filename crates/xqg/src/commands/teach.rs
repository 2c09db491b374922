//! `xqg teach`: training rows in, the same rows out with a generator's opinion of every passage.

use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use xqg_data::error::DataError;
use xqg_data::file::{Lock, output_path};
use xqg_data::lang::Lang;
use xqg_data::lines::BadLines;
use xqg_data::passage::Passage;
use xqg_data::training::{TrainingExample, stream_examples, write_example};
use xqg_index::manifest::hash_file;
use xqg_model::generator::{Candidates, Generator, Likelihoods};

use crate::args::{TeachArgs, Usage};
use crate::commands::generate::{check_langs, no_generator, open_generator};
use crate::commands::model;
use crate::encoding;
use crate::generating::place::{hashes, own_generator};
use crate::output;
use crate::progress::Display;
use crate::units::{self, Work, refuse_finished};

/// What a unit, or all of them, came across.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Counts {
    rows: usize,
    passages: usize,
    /// Passages that were longer than what is read of them.
    truncated: usize,
    /// Questions that were longer than the generator can write.
    cut: usize,
    /// Rows with negatives, and those whose question is likelier for a positive than for all of them.
    judged: usize,
    positive_first: usize,
}

impl Counts {
    /// Counts what is told of a row's positives, then its negatives.
    fn add_row(&mut self, told: &Likelihoods, positives: usize) {
        let (positives, negatives) = told.values.split_at(positives);
        let best = |values: &[f32]| values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        self.rows += 1;
        self.passages += told.values.len();
        self.truncated += told.truncated;
        self.cut += usize::from(told.cut);
        self.judged += usize::from(!negatives.is_empty());
        let first = !negatives.is_empty() && best(positives) > best(negatives);
        self.positive_first += usize::from(first);
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.passages += other.passages;
        self.truncated += other.truncated;
        self.cut += other.cut;
        self.judged += other.judged;
        self.positive_first += other.positive_first;
    }
}

/// Runs the verb.
pub fn run(args: &TeachArgs) -> Result<()> {
    let out = output_path(&args.out)?;
    refuse_finished(&[&out], args.force)?;
    let _lock = Lock::take(&out)?;
    let (langs, total) = check(args)?;
    let folder = match args.model.as_deref() {
        Some(name) => model::fetch(name)?,
        None => own_generator(None).ok_or_else(no_generator)?,
    };
    output::note(format_args!("generator: {}", folder.display()));
    let generator = open_generator(&folder, args.encoder.as_deref(), &args.encoder_settings)?;
    check_langs(&generator, &langs)?;
    let plan = units::plan(&json!({
        "rows": hash_file(&args.rows)?,
        "generator": hashes(&folder)?,
        "lang": args.lang.map(|lang| lang.0),
        "unit-rows": args.unit_rows,
        "arithmetic": encoding::arithmetic(&args.encoder_settings)?,
        "passage-max-tokens": args.encoder_settings.passage_max_tokens,
    }));
    let work = Work::open(&out, &plan, args.force)?;
    let mut display = Display::new();
    let units = teach(args, &generator, &work, (&mut display, total))?;
    drop(display);
    finish(args, work, units)
}

/// Reads the whole file before anything is written; returns its languages and the number of rows.
fn check(args: &TeachArgs) -> Result<(Vec<Lang>, u64)> {
    let (mut langs, mut total) = (Vec::new(), 0);
    for row in stream_examples(&args.rows, BadLines::Stop)? {
        let row = row?;
        let Some(lang) = lang_of(args, &row) else {
            bail!(Usage(format!(
                "reading {}: expected rows with `lang`, found `{}` without\n\
                 hint: --lang says the language of rows that name none",
                args.rows.display(),
                row.query.qid
            )));
        };
        if !langs.contains(&lang) {
            langs.push(lang);
        }
        total += 1;
    }
    if total == 0 {
        return Err(DataError::unexpected(&args.rows, "at least one row", "none").into());
    }
    Ok((langs, total))
}

fn lang_of(args: &TeachArgs, row: &TrainingExample) -> Option<Lang> {
    row.query.lang.or(args.lang.map(|lang| lang.0))
}

/// Scores all units that are not finished yet; returns how many there are.
fn teach(
    args: &TeachArgs,
    generator: &Generator,
    work: &Work,
    (display, total): (&mut Display, u64),
) -> Result<usize> {
    let mut stream = stream_examples(&args.rows, BadLines::Stop)?;
    let (mut unit, mut done) = (0, 0);
    loop {
        let some: Vec<TrainingExample> =
            stream.by_ref().take(args.unit_rows).collect::<Result<_, DataError>>()?;
        if some.is_empty() {
            return Ok(unit);
        }
        let rows = some.len() as u64;
        if !work.has(unit) {
            display.show("teaching", "rows", done, Some(total));
            let (some, counts) = score(args, generator, some)?;
            let mut bytes = Vec::new();
            let written = some.iter().try_for_each(|row| write_example(&mut bytes, row));
            written.map_err(DataError::io("writing", &work.rows(unit)))?;
            work.write(unit, &bytes, &counts)?;
        }
        done += rows;
        unit += 1;
    }
}

/// The rows with a score for each of their passages.
fn score(
    args: &TeachArgs,
    generator: &Generator,
    mut rows: Vec<TrainingExample>,
) -> Result<(Vec<TrainingExample>, Counts)> {
    let passages: Vec<Vec<Passage>> = rows.iter().map(passages).collect();
    let asked = rows.iter().zip(&passages).filter_map(|(row, passages)| {
        let lang = lang_of(args, row)?;
        Some(Candidates { question: &row.query.text, lang, passages })
    });
    let told = generator.likelihoods(&asked.collect::<Vec<_>>())?;
    let mut counts = Counts::default();
    for (row, told) in rows.iter_mut().zip(told) {
        counts.add_row(&told, row.positives.len());
        let passages = row.positives.iter_mut().chain(&mut row.negatives);
        passages.zip(told.values).for_each(|(passage, value)| passage.score = Some(value));
    }
    Ok((rows, counts))
}

fn passages(row: &TrainingExample) -> Vec<Passage> {
    row.positives.iter().chain(&row.negatives).map(|p| p.passage.clone()).collect()
}

fn finish(args: &TeachArgs, work: Work, units: usize) -> Result<()> {
    let mut all = Counts::default();
    for unit in 0..units {
        all.add(&work.read_counts(unit)?);
    }
    let out: &Path = &args.out;
    work.finish(|work| work.join(0..units, &output_path(out)?))?;
    output::truncated(all.truncated as u64, all.passages as u64);
    if all.cut > 0 {
        let text =
            "questions are longer than the generator can write; their first tokens were judged";
        output::warn(format_args!("{} {text}", all.cut));
    }
    output::note(format_args!(
        "{}: {} rows, {} passages; in {} of {} rows with negatives a positive is the likeliest",
        out.display(),
        all.rows,
        all.passages,
        all.positive_first,
        all.judged
    ));
    if args.json {
        return output::line(json!({"out": args.out, "counts": all}));
    }
    Ok(())
}
