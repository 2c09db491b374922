//! `xqg index tune`: which share and which reduction find best what queries with answers or qrels ask,
//! and the index's manifest remembers them.

use anyhow::{Result, bail};
use serde_json::json;
use xqg_data::embeddings::Side;
use xqg_data::error::DataError;
use xqg_data::qrels::Qrels;
use xqg_data::query::{Query, read_queries};
use xqg_data::run::Run;
use xqg_index::collapse::refuse_collapsed;
use xqg_index::fuse::{LangWeights, Reduce, Weight};
use xqg_index::index::Index;
use xqg_index::manifest::{Defaults, hash_file};
use xqg_index::search::{QueryVectors, SearchOptions, search_rows};
use xqg_measure::evaluate::{Evaluator, Sources};
use xqg_measure::measure::Measure;
use xqg_measure::table::Table;

use crate::args::IndexTuneArgs;
use crate::encoding::{self, observe};
use crate::generating::writer::rounded;
use crate::output;
use crate::progress::Display;

/// One setting and how good it is.
struct Trial {
    setting: Defaults,
    /// The average over languages, from 0 to 1.
    value: f64,
    /// By language.
    langs: Vec<(&'static str, f64)>,
}

/// Runs the verb.
pub fn run(args: &IndexTuneArgs) -> Result<()> {
    let index = Index::open(&args.index)?;
    refuse_untunable(&index)?;
    let measure = measure(args)?;
    let queries = read_queries(&args.queries)?;
    let evaluator = evaluator(&index, args, measure, &queries)?;
    let trials = Tuner { index: &index, args, queries: &queries }.trials(evaluator)?;
    let mut best = &trials[0];
    // The first of equals: the mean before the sum, the smaller share before the greater.
    trials.iter().for_each(|trial| best = if trial.value > best.value { trial } else { best });
    print(args, measure, &trials, best)?;
    if !args.dry_run {
        let defaults = Some(best.setting);
        let manifest = xqg_index::manifest::IndexManifest { defaults, ..index.manifest.clone() };
        manifest.write(index.folder())?;
        let Defaults { share, reduce } = best.setting;
        let (folder, reduce) = (index.folder().display(), name(reduce));
        output::note(format_args!(
            "{folder}: searches take share {share} of the {reduce} from now on"
        ));
    }
    Ok(())
}

fn refuse_untunable(index: &Index) -> Result<()> {
    refuse_collapsed(index.folder(), &index.manifest, "another share")?;
    let shard = index.manifest.shard();
    let found = match shard.of {
        1 if index.manifest.layers.is_empty() => "one without questions".to_owned(),
        1 => return Ok(()),
        of => format!("part {} of {of}", shard.number),
    };
    bail!(
        "tuning {}: expected a whole index with questions, found {found}\n\
         hint: `xqg index add` adds questions, `xqg index merge` puts parts together",
        index.folder().display()
    )
}

fn measure(args: &IndexTuneArgs) -> Result<Measure> {
    match args.measure {
        Some(measure) => Ok(measure.0),
        None => Ok(if args.qrels.is_some() { "RR@10" } else { "R@2kt" }.parse()?),
    }
}

fn evaluator(
    index: &Index,
    args: &IndexTuneArgs,
    measure: Measure,
    queries: &[Query],
) -> Result<Evaluator> {
    if let Some(corpus) = &args.corpus
        && hash_file(corpus)? != index.manifest.plan.corpus
    {
        return Err(DataError::Unexpected {
            path: corpus.clone(),
            expected: format!("the passages that {} was built from", index.folder().display()),
            found: "a file of another content".into(),
            hint: "",
        }
        .into());
    }
    let sources = Sources {
        qrels: args.qrels.as_deref().map(Qrels::read).transpose()?,
        queries: queries.to_vec(),
        corpus: args.corpus.clone(),
        ..Sources::default()
    };
    Ok(Evaluator::new(&[measure], sources)?)
}

struct Tuner<'a> {
    index: &'a Index,
    args: &'a IndexTuneArgs,
    queries: &'a [Query],
}

impl Tuner<'_> {
    /// All settings, the mean's first, small shares first.
    fn trials(&self, mut evaluator: Evaluator) -> Result<Vec<Trial>> {
        let vectors = self.encode()?;
        let qids: Vec<String> = self.queries.iter().map(|q| q.qid.clone()).collect();
        let langs: Vec<_> = self.queries.iter().map(|q| q.lang).collect();
        let queries = QueryVectors { qids: &qids, langs: &langs, vectors: &vectors };
        let mut trials = Vec::new();
        for reduce in [Reduce::Mean, Reduce::Sum] {
            let options = self.options(reduce);
            let mut display = Display::new();
            let hits = search_rows(self.index, queries, &options, &mut observe(&mut display))?;
            for (&share, rankings) in self.args.shares.0.iter().zip(hits) {
                let mut run = Run::default();
                for (qid, hits) in qids.iter().zip(rankings) {
                    run.insert(qid, hits.iter().map(|&hit| self.index.scored(hit)).collect());
                }
                let values = evaluator.evaluate(&run)?.measures.remove(0);
                let langs = values.by_lang().into_iter().map(|(lang, m)| (lang, m.mean)).collect();
                let value = values.averages().macro_mean;
                trials.push(Trial { setting: Defaults { share, reduce }, value, langs });
            }
        }
        Ok(trials)
    }

    fn encode(&self) -> Result<Vec<f32>> {
        let what = format!("tuning {}", self.index.folder().display());
        let opened = encoding::open_for(&self.index.manifest, self.args.model.as_deref(), &what)?;
        let (mut vectors, mut display) = (Vec::new(), Display::new());
        let total = Some(self.queries.len() as u64);
        for (i, batch) in self.queries.chunks(256).enumerate() {
            display.show("encoding queries", "queries", i as u64 * 256, total);
            let texts: Vec<String> = batch.iter().map(|q| q.text.clone()).collect();
            vectors.extend(opened.encoder.encode(Side::Query, &texts)?.vectors);
        }
        Ok(vectors)
    }

    fn options(&self, reduce: Reduce) -> SearchOptions {
        SearchOptions {
            k: self.args.k.min(self.index.len()),
            weights: self.args.shares.0.iter().map(|&share| Weight::Share(share)).collect(),
            reduce,
            renormalize: self.index.manifest.plan.contract.normalize,
            langs: LangWeights::default(),
        }
    }
}

fn name(reduce: Reduce) -> &'static str {
    match reduce {
        Reduce::Mean => "mean",
        Reduce::Sum => "sum",
    }
}

fn print(args: &IndexTuneArgs, measure: Measure, trials: &[Trial], best: &Trial) -> Result<()> {
    if args.json {
        let trial = |t: &Trial| {
            let langs: serde_json::Map<_, _> =
                t.langs.iter().map(|(lang, value)| ((*lang).to_owned(), json!(value))).collect();
            json!({"share": rounded(t.setting.share), "reduce": t.setting.reduce, "macro": t.value,
                "by_lang": langs})
        };
        let trials: Vec<_> = trials.iter().map(trial).collect();
        let measure = measure.to_string();
        let Defaults { share, reduce } = best.setting;
        let best = json!({"share": rounded(share), "reduce": reduce});
        return output::line(json!({"measure": measure, "best": best, "trials": trials}));
    }
    output::line(format_args!("{measure}, in hundredths; macro is the average over languages"))?;
    let mut table = Table::default();
    let langs = trials[0].langs.iter().map(|(lang, _)| (*lang).to_owned());
    table.row("", langs.chain(["macro".to_owned(), String::new()]));
    for trial in trials {
        let mark = if std::ptr::eq(trial, best) { "best" } else { "" };
        let values = trial.langs.iter().map(|l| l.1).chain([trial.value]);
        let cells = values.map(|value| format!("{:.1}", 100.0 * value));
        let Defaults { share, reduce } = trial.setting;
        table.row(&format!("{} {share}", name(reduce)), cells.chain([mark.to_owned()]));
    }
    output::line(table.render().trim_end())
}
