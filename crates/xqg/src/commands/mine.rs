//! `xqg mine`: queries to training examples with positives and hard negatives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;
use xqg_data::error::DataError;
use xqg_data::file::{Lock, output_path, remove};
use xqg_data::lines::BadLines;
use xqg_data::passage::read_passages;
use xqg_data::qrels::Qrels;
use xqg_data::query::{Query, stream_queries};
use xqg_data::training::write_example;
use xqg_data::translations::{Translations, single_spaced};
use xqg_index::index::Index;
use xqg_index::manifest::hash_file;

use crate::args::{FinderArg, MatchArg, MineArgs, PickArg, Usage};
use crate::encoding;
use crate::mining::answers::Rule;
use crate::mining::counts::Counts;
use crate::mining::passages::{Passages, sample};
use crate::mining::retriever::Retriever;
use crate::mining::select::{Choice, Finder, Margin, Pick};
use crate::mining::unit::{Known, Miner};
use crate::output;
use crate::progress::Display;
use crate::units::{self, Plan, Work, refuse_finished};

/// Runs the verb.
pub fn run(args: &MineArgs) -> Result<()> {
    let choice = choice(args)?;
    let out = output_path(&args.out)?;
    refuse_finished(&[&out], args.force)?;
    let _lock = Lock::take(&out)?;
    let total = count_queries(&args.queries)?;
    let mut known = Known {
        translations: Translations::read(&args.translations)?,
        left_out: left_out(&args.leave_out)?,
        ..Known::default()
    };
    let qrels = args.qrels.as_deref().map(Qrels::read).transpose()?;
    let work = Work::open(&out, &plan(args, &choice)?, args.force)?;
    let mut display = Display::new();
    let prepared = open_retriever(args, &work, &mut display).and_then(|retriever| {
        known.judged = judged_rows(&retriever, qrels.as_ref())?;
        Ok(retriever)
    });
    let (retriever, luck) = (work.prepared(prepared)?, f64::from(args.positive.luck));
    let miner = Miner {
        sample: if luck < 1.0 { sample(&retriever)? } else { Vec::new() },
        luck,
        retriever,
        known,
        choice,
        rule: rule(args),
        shortest_answer: args.positive.shortest_answer,
    };
    let units = mine(args, &miner, &work, (&mut display, total))?;
    drop(display);
    finish(args, work, units)
}

/// Mines all units that are not finished yet; returns how many there are.
fn mine(
    args: &MineArgs,
    miner: &Miner,
    work: &Work,
    (display, total): (&mut Display, u64),
) -> Result<usize> {
    let mut queries = stream_queries(&args.queries, BadLines::Stop)?;
    let (mut unit, mut done, mut passages) = (0, 0, Passages::default());
    loop {
        let batch: Vec<Query> =
            queries.by_ref().take(args.unit_queries).collect::<Result<_, DataError>>()?;
        if batch.is_empty() {
            return Ok(unit);
        }
        if !work.has(unit) {
            display.show("mining", "queries", done, Some(total));
            let (examples, counts) = miner.unit(&batch, &mut passages)?;
            let mut rows = Vec::new();
            let written = examples.iter().try_for_each(|e| write_example(&mut rows, e));
            written.map_err(DataError::io("writing", &work.rows(unit)))?;
            work.write(unit, &rows, &counts)?;
        }
        done += batch.len() as u64;
        unit += 1;
    }
}

fn finish(args: &MineArgs, work: Work, units: usize) -> Result<()> {
    let mut counts = Counts::default();
    for unit in 0..units {
        counts.add(&work.read_counts(unit)?);
    }
    let total = counts.total();
    if total.rows == 0 {
        remove(&work.folder)?;
        bail!(
            "mining {}: expected a query with a positive, found none among {}\n{}\
             hint: give answers or --qrels, --translations, or a greater --positives-to",
            args.queries.display(),
            total.queries,
            counts.table()
        );
    }
    work.finish(|work| work.join(0..units, &output_path(&args.out)?))?;
    output::note(format_args!("{}: {} rows", args.out.display(), total.rows));
    print(args, &counts)
}

fn print(args: &MineArgs, counts: &Counts) -> Result<()> {
    if args.json {
        let summary = json!({"out": args.out, "total": counts.total(), "languages": counts});
        return output::line(summary);
    }
    output::line(counts.table().trim_end())
}

/// Reads the whole file before anything is searched or written, so that a bad line at its end costs
/// a second and not an hour.
fn count_queries(path: &Path) -> Result<u64> {
    let mut total = 0;
    for query in stream_queries(path, BadLines::Stop)? {
        query?;
        total += 1;
    }
    if total == 0 {
        return Err(DataError::unexpected(path, "at least one query", "none").into());
    }
    Ok(total)
}

fn left_out(paths: &[PathBuf]) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for path in paths {
        for query in stream_queries(path, BadLines::Stop)? {
            let query = query?;
            all.extend([query.qid, single_spaced(&query.text)]);
        }
    }
    Ok(all)
}

fn choice(args: &MineArgs) -> Result<Choice> {
    let (positive, negative) = (&args.positive, &args.negative);
    if negative.from > negative.to {
        let (from, to) = (negative.from, negative.to);
        bail!(Usage(format!("--from: expected at most --to, {to}, found {from}")));
    }
    Ok(Choice {
        positives: positive.positives,
        finder: match positive.found_by {
            FinderArg::Translation => Finder::Translation,
            FinderArg::Question => Finder::Question,
            FinderArg::Best => Finder::Best,
        },
        positives_to: positive.positives_to,
        negatives: negative.negatives,
        from: negative.from,
        to: negative.to,
        margin: negative.margin.map(|m| m.0),
        pick: match negative.pick {
            PickArg::Random => Pick::Random,
            PickArg::First => Pick::First,
        },
        seed: negative.seed,
    })
}

fn rule(args: &MineArgs) -> Rule {
    match args.positive.rule {
        MatchArg::Words => Rule::Words,
        MatchArg::Characters => Rule::Characters,
    }
}

/// What decides the bytes of the output.
fn plan(args: &MineArgs, choice: &Choice) -> Result<Plan> {
    let hashes =
        |paths: &[PathBuf]| paths.iter().map(|p| hash_file(p)).collect::<Result<Vec<_>, _>>();
    let against = match (&args.index, &args.corpus) {
        (Some(index), _) => hash_file(&index.join("manifest.json"))?,
        (None, Some(corpus)) => hash_file(corpus)?,
        (None, None) => unreachable!("clap requires one of the two"),
    };
    let margin = choice.margin.map(|margin| match margin {
        Margin::Absolute(by) => json!({"absolute": by}),
        Margin::Relative(part) => json!({"relative": part}),
    });
    let settings = json!({
        "queries": hash_file(&args.queries)?,
        "translations": hashes(&args.translations)?,
        "qrels": args.qrels.as_deref().map(hash_file).transpose()?,
        "leave-out": hashes(&args.leave_out)?,
        "against": against,
        "bm25": args.bm25,
        "positives": [choice.positives, choice.positives_to],
        "found-by": format!("{:?}", choice.finder).to_lowercase(),
        "match": format!("{:?}", args.positive.rule).to_lowercase(),
        "shortest-answer": args.positive.shortest_answer,
        "luck": args.positive.luck,
        "negatives": [choice.negatives, choice.from, choice.to],
        "margin": margin,
        "pick": format!("{:?}", choice.pick).to_lowercase(),
        "seed": choice.seed,
        "unit-queries": args.unit_queries,
    });
    Ok(units::plan(&settings))
}

fn open_retriever(args: &MineArgs, work: &Work, display: &mut Display) -> Result<Retriever> {
    let Some(folder) = &args.index else {
        let corpus = args.corpus.as_deref().expect("clap requires it with --bm25");
        let passages = read_passages(corpus, BadLines::Stop)?;
        let mut show = |done| display.show("indexing words", "passages", done, None);
        let lexical = xqg_lexical::index::build(&work.folder.join("bm25"), passages, &mut show)?;
        if lexical.is_empty() {
            return Err(DataError::unexpected(corpus, "at least one passage", "none").into());
        }
        return Ok(Retriever::Words(lexical));
    };
    let index = Index::open(folder)?;
    check_corpus(&index, args.corpus.as_deref())?;
    let what = format!("mining {}", folder.display());
    let opened = encoding::open_for(&index.manifest, args.model.as_deref(), &what)?;
    Ok(Retriever::Vectors { index: Box::new(index), opened: Box::new(opened) })
}

fn check_corpus(index: &Index, corpus: Option<&Path>) -> Result<()> {
    let shard = index.manifest.shard();
    if shard.of > 1 {
        output::warn(format_args!("this is part {} of {} of an index", shard.number, shard.of));
    }
    let Some(corpus) = corpus else { return Ok(()) };
    if hash_file(corpus)? == index.manifest.plan.corpus {
        return Ok(());
    }
    Err(DataError::Unexpected {
        path: corpus.to_path_buf(),
        expected: format!("the passages that {} was built from", index.folder().display()),
        found: "a file of another content".into(),
        hint: "the index has its passages with it; leave --corpus out, or build the index anew",
    }
    .into())
}

/// The rows of each judged query's relevant passages, in their order; docids that are not there
/// are counted in a warning.
fn judged_rows(retriever: &Retriever, qrels: Option<&Qrels>) -> Result<BTreeMap<String, Vec<u32>>> {
    let Some(qrels) = qrels else { return Ok(BTreeMap::new()) };
    let relevant = |(qid, judged): (&str, &BTreeMap<String, i32>)| {
        let docids = judged.iter().filter(|(_, grade)| **grade > 0).map(|(docid, _)| docid.clone());
        (qid.to_owned(), docids.collect::<Vec<String>>())
    };
    let relevant: Vec<(String, Vec<String>)> = qrels.iter().map(relevant).collect();
    let docids: BTreeSet<&str> =
        relevant.iter().flat_map(|(_, docids)| docids).map(String::as_str).collect();
    let rows = retriever.rows_of(&docids)?;
    if rows.len() < docids.len() {
        let (missing, all) = (docids.len() - rows.len(), docids.len());
        output::warn(format_args!("{missing} of {all} judged passages are not in the corpus"));
    }
    let to_rows = |(qid, docids): (String, Vec<String>)| {
        (qid, docids.iter().filter_map(|docid| rows.get(docid).copied()).collect())
    };
    Ok(relevant.into_iter().map(to_rows).collect())
}
