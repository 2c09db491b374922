//! `xqg filter`: the good ones of questions that are there; and what `xqg generate --filter` shares
//! with it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use xqg_data::error::DataError;
use xqg_data::file::{Lock, output_path};
use xqg_data::lang::Lang;
use xqg_data::lines::{BadLines, LineFile, json_object};
use xqg_data::passage::{Passage, read_passages};
use xqg_index::collapse::refuse_collapsed;
use xqg_index::index::Index;
use xqg_index::manifest::hash_file;

use crate::args::{FilterArgs, GateArgs};
use crate::commands::generate::summarise;
use crate::encoding::{self, Opened};
use crate::generating::counts::Counts;
use crate::generating::gate::{Block, Gate, Lengths};
use crate::generating::judged::Judged;
use crate::generating::language::Languages;
use crate::generating::round_trip::RoundTrip;
use crate::generating::work::{Output, judge};
use crate::output;
use crate::progress::Display;
use crate::units::{self, Plan, Work};

/// What a gate needs that outlives it.
pub struct Judge<'a> {
    args: &'a GateArgs,
    retriever: Option<(Index, Opened)>,
}

impl<'a> Judge<'a> {
    /// Opens the index of the round trip, if there is one.
    pub fn open(args: &'a GateArgs) -> Result<Self> {
        let Some(folder) = &args.round_trip else { return Ok(Self { args, retriever: None }) };
        let index = Index::open(folder)?;
        // Fused for good, its questions would help to find their own passages.
        refuse_collapsed(folder, &index.manifest, "a round trip")?;
        let shard = index.manifest.shard();
        if shard.of > 1 {
            output::warn(format_args!("this is part {} of {} of an index", shard.number, shard.of));
        }
        let what = format!("asking {}", folder.display());
        let opened = encoding::open_for(&index.manifest, args.round_trip_model.as_deref(), &what)?;
        Ok(Self { args, retriever: Some((index, opened)) })
    }

    /// The gate for questions in these languages.
    pub fn gate(&self, langs: &[Lang]) -> Result<Gate<'_>> {
        let (shortest, longest) = (self.args.shortest, self.args.longest);
        let within = self.args.within;
        let unknown: Vec<&str> =
            langs.iter().filter(|l| !Languages::knows(**l)).map(Lang::code).collect();
        if !self.args.any_language && !unknown.is_empty() {
            let unknown = unknown.join(", ");
            output::warn(format_args!(
                "which language a question is in is not asked for {unknown}"
            ));
        }
        let retriever = self.retriever.as_ref();
        Ok(Gate {
            lengths: Lengths { shortest, longest },
            languages: (!self.args.any_language).then(Languages::new),
            round_trip: retriever.map(|(index, opened)| RoundTrip::new(index, opened, within)),
        })
    }
}

/// What of the gate decides the bytes.
pub fn gate_plan(args: &GateArgs) -> Result<Value> {
    let index = args.round_trip.as_ref().map(|index| hash_file(&index.join("manifest.json")));
    Ok(json!({
        "lengths": [args.shortest, args.longest],
        "any-language": args.any_language,
        "round-trip": index.transpose()?,
        "within": args.within,
        "keep": args.keep,
    }))
}

/// Runs the verb.
pub fn run(args: &FilterArgs) -> Result<()> {
    let output = Output::new(output_path(&args.out)?, true, args.gate.keep);
    output.refuse_finished(args.force)?;
    let _lock = Lock::take(&output.kept)?;
    let (langs, total) = check(&args.questions)?;
    let passages = args.corpus.as_deref().map(read_all).transpose()?;
    let opened = Judge::open(&args.gate)?;
    let gate = opened.gate(&langs)?;
    let work = Work::open(&output.kept, &plan(args)?, args.force)?;
    let mut display = Display::new();
    let filter = Filter { args, gate: &gate, passages: passages.as_ref() };
    let units = work.prepared(filter.run(&work, &mut display, total))?;
    drop(display);
    let counts = output.finish(work, &(0..units).collect::<Vec<_>>())?;
    let (kept, all) = (counts.total().kept, counts.total().questions);
    output::note(format_args!("{}: {kept} of {all} questions", output.kept.display()));
    summarise(&output.kept, output.rejected.as_deref(), (&counts, None), args.json)
}

fn plan(args: &FilterArgs) -> Result<Plan> {
    Ok(units::plan(&json!({
        "questions": hash_file(&args.questions)?,
        "corpus": args.corpus.as_deref().map(hash_file).transpose()?,
        "unit-passages": args.unit_passages,
        "gate": gate_plan(&args.gate)?,
    })))
}

/// Streams questions with all that their lines hold.
fn read_lines(path: &Path) -> Result<LineFile<Judged>, DataError> {
    let parse = |line: &str| match json_object(line)? {
        Value::Object(mut line) => {
            // A file that was filtered before may say why not.
            line.shift_remove("reason");
            Judged::new(line)
        }
        _ => unreachable!("checked by json_object"),
    };
    LineFile::open(path, BadLines::Stop, Box::new(parse))
}

/// Reads the whole file before anything is written; returns its languages and how many questions.
fn check(path: &Path) -> Result<(Vec<Lang>, u64)> {
    let (mut langs, mut total) = (Vec::new(), 0);
    for judged in read_lines(path)? {
        let lang = judged?.question.lang;
        if !langs.contains(&lang) {
            langs.push(lang);
        }
        total += 1;
    }
    if total == 0 {
        return Err(DataError::unexpected(path, "at least one question", "none").into());
    }
    Ok((langs, total))
}

fn read_all(corpus: &Path) -> Result<BTreeMap<String, Passage>> {
    let passages = read_passages(corpus, BadLines::Stop)?;
    Ok(passages.map(|p| p.map(|p| (p.docid.clone(), p))).collect::<Result<_, DataError>>()?)
}

struct Filter<'a> {
    args: &'a FilterArgs,
    gate: &'a Gate<'a>,
    passages: Option<&'a BTreeMap<String, Passage>>,
}

impl Filter<'_> {
    /// Judges all units that are not finished yet; returns how many there are.
    fn run(&self, work: &Work, display: &mut Display, total: u64) -> Result<usize> {
        let mut lines = read_lines(&self.args.questions)?.peekable();
        let (mut unit, mut done) = (0, 0);
        loop {
            let mut blocks: Vec<Vec<Judged>> = Vec::new();
            while let Some(next) = lines.next_if(|next| match next {
                Ok(judged) => fits(&blocks, judged, self.args.unit_passages),
                Err(_) => true,
            }) {
                add(&mut blocks, next?);
            }
            if blocks.is_empty() {
                return Ok(unit);
            }
            let questions = blocks.iter().map(|b| b.len() as u64).sum::<u64>();
            if !work.has(unit) {
                display.show("filtering", "questions", done, Some(total));
                self.unit(unit, blocks, work)?;
            }
            done += questions;
            unit += 1;
        }
    }

    fn unit(&self, unit: usize, blocks: Vec<Vec<Judged>>, work: &Work) -> Result<()> {
        let mut counts = Counts { passages: blocks.len() as u64, ..Counts::default() };
        let known = self.known(&blocks)?;
        let blocks: Vec<Block> =
            known.iter().zip(blocks).map(|(passage, block)| (passage.as_ref(), block)).collect();
        let rows = judge(blocks, Some(self.gate), &mut counts)?;
        work.write(unit, &rows, &counts)
    }

    /// The passage of each block, from the passages file or else from the index.
    fn known(&self, blocks: &[Vec<Judged>]) -> Result<Vec<Option<Passage>>> {
        let docids = blocks.iter().map(|block| block[0].question.docid.as_str());
        if let Some(passages) = self.passages {
            return docids.map(|docid| self.passage(passages, docid).map(Some)).collect();
        }
        match &self.gate.round_trip {
            Some(round_trip) => {
                let docids: Vec<&str> = docids.collect();
                Ok(round_trip.passages(&docids)?.into_iter().map(Some).collect())
            }
            None => Ok(vec![None; blocks.len()]),
        }
    }

    fn passage(&self, passages: &BTreeMap<String, Passage>, docid: &str) -> Result<Passage> {
        match passages.get(docid) {
            Some(passage) => Ok(passage.clone()),
            None => bail!(
                "reading {}: expected questions for passages of the corpus, found one for `{docid}`\n\
                 hint: name the passages that the questions are for with --corpus",
                self.args.questions.display()
            ),
        }
    }
}

/// Whether a question belongs to the unit: to its last passage, or to another one that has room.
fn fits(blocks: &[Vec<Judged>], next: &Judged, unit_passages: usize) -> bool {
    let same = blocks.last().is_some_and(|block| block[0].question.docid == next.question.docid);
    same || blocks.len() < unit_passages
}

fn add(blocks: &mut Vec<Vec<Judged>>, judged: Judged) {
    match blocks.last_mut() {
        Some(block) if block[0].question.docid == judged.question.docid => block.push(judged),
        _ => blocks.push(vec![judged]),
    }
}
