//! `xqg evaluate`: how good are these runs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use xqg_data::error::DataError;
use xqg_data::qrels::Qrels;
use xqg_data::query::read_queries;
use xqg_data::run::Run;
use xqg_measure::answer_recall::AnswerMode;
use xqg_measure::compare::Named;
use xqg_measure::evaluate::{Evaluator, Sources};
use xqg_measure::evaluation::{Evaluation, EvaluationJson};
use xqg_measure::measure::Measure;
use xqg_measure::report::evaluation_table;

use crate::args::{EvaluateArgs, JudgeArgs, MeasureArg, ModeArg, Usage};
use crate::output;

/// Runs the verb.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    if args.json && args.run.len() > 1 {
        bail!(Usage(
            "--json: expected one run, found several\nhint: `xqg compare` takes several".into()
        ));
    }
    let evaluations = evaluate_files(&args.run, &args.judge)?;
    if args.json {
        let json = EvaluationJson { evaluation: &evaluations[0], per_query: args.per_query };
        return output::line(serde_json::to_string(&json)?);
    }
    let names: Vec<String> = args.run.iter().map(|p| run_name(p)).collect();
    let named: Vec<Named> = names
        .iter()
        .zip(&evaluations)
        .map(|(name, evaluation)| Named { name, evaluation })
        .collect();
    output::line(evaluation_table(&named).trim_end())
}

/// Evaluates run files against what the arguments name.
pub fn evaluate_files(runs: &[PathBuf], judge: &JudgeArgs) -> Result<Vec<Evaluation>> {
    require_inputs(judge)?;
    let runs: Vec<Run> = runs.iter().map(|p| Run::read(p)).collect::<Result<_, DataError>>()?;
    let measures: Vec<Measure> = judge.measures.iter().map(|m| m.0).collect();
    let sources = Sources {
        qrels: judge.qrels.as_deref().map(Qrels::read).transpose()?,
        queries: judge.queries.as_deref().map_or(Ok(Vec::new()), read_queries)?,
        corpus: judge.corpus.clone(),
        answer_mode: match judge.mode {
            ModeArg::Official => AnswerMode::Official,
            ModeArg::Strict => AnswerMode::Strict,
        },
    };
    let runs: Vec<&Run> = runs.iter().collect();
    Ok(Evaluator::new(&measures, sources)?.evaluate_all(&runs)?)
}

/// Says at once what a measure will miss, before long files are read.
fn require_inputs(judge: &JudgeArgs) -> Result<()> {
    let missing = |measure: Measure| match measure.reads_answers() {
        false if judge.qrels.is_none() => Some("--qrels FILE, the judged passages"),
        true if judge.corpus.is_none() => Some("--corpus FILE, the passages that were searched"),
        true if judge.queries.is_none() => Some("--queries FILE, the questions with answers"),
        _ => None,
    };
    for MeasureArg(measure) in &judge.measures {
        if let Some(missing) = missing(*measure) {
            bail!(Usage(format!("evaluating {measure}: expected {missing}, found none")));
        }
    }
    Ok(())
}

/// What tables call a run: its file's name without the ending.
pub fn run_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    stem.to_string_lossy().trim_end_matches(".trec").to_owned()
}
