//! The verb: how good is a run. An [`Evaluator`] is built once from qrels, queries and a corpus and
//! then evaluates any number of runs; what it read for one run is kept for the next.
//!
//! Over qrels every judged query counts: one that the run misses scores 0, and queries of the run
//! without judgments are not counted, both with a warning (trec_eval averages over the queries in
//! both unless it is called with `-c`). Over answers, [`AnswerMode`] decides.

use std::collections::BTreeMap;
use std::path::PathBuf;

use xqg_data::lang::Lang;
use xqg_data::qrels::Qrels;
use xqg_data::query::Query;
use xqg_data::run::Run;

use crate::answer_recall::{AnswerMode, AnswerRecall, AnswerScores};
use crate::error::MeasureError;
use crate::evaluation::{Evaluation, MeasureValues, QueryValue};
use crate::measure::Measure;
use crate::measures::{Judged, value};
use crate::warning::{Warning, WarningKind, warn_about};
use crate::words::word_tokenize;

/// What runs are measured against. Only what the measures read must be there.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Judgments, for every measure but R@kt.
    pub qrels: Option<Qrels>,
    /// Queries: their languages for the averages, their answers for R@kt.
    pub queries: Vec<Query>,
    /// The corpus file that was searched, for R@kt.
    pub corpus: Option<PathBuf>,
    /// What becomes of questions without a proper ranking in R@kt.
    pub answer_mode: AnswerMode,
}

/// Measures and what they are computed from; evaluates any number of runs.
#[derive(Debug)]
pub struct Evaluator {
    measures: Vec<Measure>,
    langs: BTreeMap<String, Lang>,
    qrels: Option<Qrels>,
    answers: Option<AnswerRecall>,
}

/// Evaluates one run; for several, build one [`Evaluator`].
///
/// ```
/// use xqg_data::{qrels::Qrels, run::{Run, ScoredDoc}};
/// use xqg_measure::evaluate::{Sources, evaluate};
///
/// let mut qrels = Qrels::default();
/// qrels.insert("q1", "right", 1);
/// let mut run = Run::default();
/// let docs = [("wrong", 2.0), ("right", 1.0)];
/// let doc = |(docid, score): (&str, f64)| ScoredDoc { docid: docid.to_owned(), score };
/// run.insert("q1", docs.map(doc).to_vec());
/// let sources = Sources { qrels: Some(qrels), ..Sources::default() };
/// let evaluation = evaluate(&["RR@10".parse()?], sources, &run)?;
/// assert_eq!(evaluation.measures[0].averages().mean, 0.5);
/// # Ok::<(), xqg_measure::error::MeasureError>(())
/// ```
///
/// # Errors
/// As [`Evaluator::new`] and [`Evaluator::evaluate`].
pub fn evaluate(
    measures: &[Measure],
    sources: Sources,
    run: &Run,
) -> Result<Evaluation, MeasureError> {
    Evaluator::new(measures, sources)?.evaluate(run)
}

impl Evaluator {
    /// Checks that each measure has what it reads; a measure asked for twice is computed once.
    ///
    /// # Errors
    /// Without a measure, or when a measure's source is missing.
    pub fn new(measures: &[Measure], sources: Sources) -> Result<Self, MeasureError> {
        let mut unique = Vec::new();
        for &measure in measures {
            require(measure, &sources)?;
            if !unique.contains(&measure) {
                unique.push(measure);
            }
        }
        if unique.is_empty() {
            return Err(MeasureError::NoMeasure);
        }
        let Sources { qrels, queries, corpus, answer_mode } = sources;
        let answers = corpus
            .filter(|_| unique.iter().any(Measure::reads_answers))
            .map(|corpus| AnswerRecall::new(&queries, &corpus, answer_mode, word_tokenize));
        let langs = queries.into_iter().filter_map(|q| Some((q.qid, q.lang?))).collect();
        Ok(Self { measures: unique, langs, qrels, answers })
    }

    /// Evaluates one run.
    ///
    /// # Errors
    /// When the run shares no query with a measure's source, or the corpus cannot be read or lacks
    /// a passage of the run.
    pub fn evaluate(&mut self, run: &Run) -> Result<Evaluation, MeasureError> {
        self.load(&[run])?;
        self.evaluate_loaded(run)
    }

    /// Evaluates several runs with one reading of the corpus, in their order.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), for the first run that fails.
    pub fn evaluate_all(&mut self, runs: &[&Run]) -> Result<Vec<Evaluation>, MeasureError> {
        self.load(runs)?;
        runs.iter().map(|run| self.evaluate_loaded(run)).collect()
    }

    fn load(&mut self, runs: &[&Run]) -> Result<(), MeasureError> {
        let limit = self.limits().into_iter().max().unwrap_or(0);
        self.answers.as_mut().map_or(Ok(()), |answers| answers.load(runs, limit))
    }

    /// The limits in tokens of the answer measures, in the order of the measures.
    fn limits(&self) -> Vec<usize> {
        let limit = |m: &Measure| match m {
            Measure::AnswerRecall { kilotokens } => {
                Some((kilotokens.get() as usize).saturating_mul(1000))
            }
            _ => None,
        };
        self.measures.iter().filter_map(limit).collect()
    }

    fn evaluate_loaded(&self, run: &Run) -> Result<Evaluation, MeasureError> {
        let mut warnings = Vec::new();
        let mut judged = self.judged_values(run, &mut warnings)?.into_iter();
        let mut answered = self.answer_values(run, &mut warnings)?.into_iter();
        let next = |m: &Measure| {
            if m.reads_answers() { answered.next() } else { judged.next() }
        };
        let measures: Vec<MeasureValues> = self.measures.iter().filter_map(next).collect();
        warnings.extend(without_lang(&measures));
        Ok(Evaluation { measures, warnings })
    }

    fn query(&self, qid: &str, value: f64) -> QueryValue {
        QueryValue { qid: qid.to_owned(), lang: self.langs.get(qid).copied(), value }
    }

    /// The values of the measures over qrels, in their order.
    fn judged_values(
        &self,
        run: &Run,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<MeasureValues>, MeasureError> {
        let wanted = self.measures.iter().filter(|m| !m.reads_answers());
        let mut measures: Vec<MeasureValues> =
            wanted.map(|&measure| MeasureValues { measure, queries: Vec::new() }).collect();
        let (Some(qrels), Some(first)) = (&self.qrels, measures.first()) else {
            return Ok(measures);
        };
        if !qrels.iter().any(|(qid, _)| run.get(qid).is_some()) {
            return Err(MeasureError::NothingShared {
                measure: first.measure,
                source_name: "qrels",
            });
        }
        for (qid, judgments) in qrels.iter() {
            let judged = Judged::new(run.get(qid).unwrap_or_default(), judgments);
            for m in &mut measures {
                let value = value(m.measure, &judged).expect("answer measures are left out above");
                m.queries.push(self.query(qid, value));
            }
        }
        warnings.extend(qrels_warnings(run, qrels));
        Ok(measures)
    }

    /// The values of the measures over answers, in their order.
    fn answer_values(
        &self,
        run: &Run,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<MeasureValues>, MeasureError> {
        let measures: Vec<Measure> =
            self.measures.iter().copied().filter(Measure::reads_answers).collect();
        let (Some(answers), Some(&measure)) = (&self.answers, measures.first()) else {
            return Ok(Vec::new());
        };
        if !answers.shares_a_question(run) {
            let source_name = "questions with answers";
            return Err(MeasureError::NothingShared { measure, source_name });
        }
        let scores = answers.score(run, &self.limits());
        let values = measures.iter().enumerate().map(|(i, &measure)| MeasureValues {
            measure,
            queries: scores.hits.iter().map(|(qid, hits)| self.query(qid, bit(hits, i))).collect(),
        });
        let values = values.collect();
        warnings.extend(answer_warnings(answers, scores, &measures));
        Ok(values)
    }
}

fn require(measure: Measure, sources: &Sources) -> Result<(), MeasureError> {
    let needs = match measure.reads_answers() {
        false if sources.qrels.is_none() => "qrels",
        true if sources.corpus.is_none() => "the corpus that was searched",
        true if sources.queries.iter().all(|q| q.answers.is_empty()) => "queries with answers",
        _ => return Ok(()),
    };
    Err(MeasureError::MissingInput { measure, needs })
}

/// A hit as a value.
fn bit(hits: &[bool], i: usize) -> f64 {
    f64::from(u8::from(hits.get(i).copied().unwrap_or(false)))
}

fn qrels_warnings(run: &Run, qrels: &Qrels) -> impl Iterator<Item = Warning> {
    let judged = || qrels.iter();
    let missing = judged().filter(|(qid, _)| run.get(qid).is_none()).map(|(qid, _)| qid);
    let nothing = judged().filter(|(_, j)| j.values().all(|&grade| grade <= 0)).map(|(qid, _)| qid);
    let extra = run.iter().map(|(qid, _)| qid).filter(|qid| qrels.get(qid).is_none());
    let owned = |qids: Vec<&str>| qids.into_iter().map(str::to_owned).collect();
    [
        (WarningKind::MissingScoredZero, owned(missing.collect())),
        (WarningKind::NotJudged, owned(extra.collect())),
        (WarningKind::NothingRelevant, owned(nothing.collect())),
    ]
    .into_iter()
    .filter_map(|(kind, qids)| warn_about(kind, qids))
}

fn answer_warnings(
    answers: &AnswerRecall,
    scores: AnswerScores,
    measures: &[Measure],
) -> impl Iterator<Item = Warning> {
    let missing = match answers.mode() {
        AnswerMode::Official => WarningKind::MissingNotCounted,
        AnswerMode::Strict => WarningKind::MissingScoredZero,
    };
    let short = measures.iter().zip(scores.short);
    let short = short.map(|(&measure, qids)| (WarningKind::ShortRanking { measure }, qids));
    [
        (WarningKind::NoAnswer, answers.skipped().to_vec()),
        (missing, scores.missing),
        (WarningKind::NotAsked, scores.not_asked),
    ]
    .into_iter()
    .chain(short)
    .filter_map(|(kind, qids)| warn_about(kind, qids))
}

/// Warns when languages are known for some of the scored queries but not for all.
fn without_lang(measures: &[MeasureValues]) -> Option<Warning> {
    let queries = || measures.iter().flat_map(|m| &m.queries);
    queries().any(|q| q.lang.is_some()).then_some(())?;
    let mut qids: Vec<String> =
        queries().filter(|q| q.lang.is_none()).map(|q| q.qid.clone()).collect();
    qids.sort_unstable();
    qids.dedup();
    warn_about(WarningKind::NoLanguage, qids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xqg_data::run::ScoredDoc;

    fn query(qid: &str, lang: &str, answer: &str) -> Query {
        let answers = vec![answer.to_owned()];
        Query { qid: qid.to_owned(), lang: lang.parse().ok(), text: "?".to_owned(), answers }
    }

    fn run(qids: &[&str]) -> Run {
        let mut run = Run::default();
        let doc = ScoredDoc { docid: "d".to_owned(), score: 1.0 };
        qids.iter().for_each(|qid| run.insert(qid, vec![doc.clone()]));
        run
    }

    fn measures(names: &str) -> Vec<Measure> {
        names.split(' ').map(|name| name.parse().unwrap()).collect()
    }

    /// Two judged queries, q1 in Arabic, q2 without a language; one corpus passage `d`.
    fn sources(folder: &tempfile::TempDir) -> Sources {
        let corpus = folder.path().join("c.jsonl");
        std::fs::write(&corpus, "{\"_id\":\"d\",\"text\":\"the Nile\"}\n").unwrap();
        let mut qrels = Qrels::default();
        qrels.insert("q1", "d", 1);
        qrels.insert("q2", "e", 1);
        let queries = vec![query("q1", "ar", "Nile"), query("q2", "", "Rhine")];
        let answer_mode = AnswerMode::Strict;
        Sources { qrels: Some(qrels), queries, corpus: Some(corpus), answer_mode }
    }

    #[test]
    fn both_kinds_of_measures_come_in_the_order_asked_for_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let asked = measures("R@2kt P@1 R@1kt MAP P@1 R@2kt");
        let evaluation = evaluate(&asked, sources(&folder), &run(&["q1", "q2"])).unwrap();
        let found = |m: &MeasureValues| (m.measure.to_string(), m.averages().mean);
        let found: Vec<_> = evaluation.measures.iter().map(found).collect();
        let expected = ["R@2kt", "P@1", "R@1kt", "MAP"].map(|name| (name.to_owned(), 0.5));
        assert_eq!(found, expected);
    }

    #[test]
    fn queries_without_a_language_are_counted_as_one_and_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        let evaluation = evaluate(&measures("P@1"), sources(&folder), &run(&["q1", "q2"])).unwrap();
        let by_lang = evaluation.measures[0].by_lang();
        assert_eq!((by_lang["ar"].mean, by_lang["und"].mean), (1.0, 0.0));
        let kinds: Vec<&WarningKind> = evaluation.warnings.iter().map(|w| &w.kind).collect();
        assert_eq!(kinds, [&WarningKind::NoLanguage]);
        let sources = Sources { queries: Vec::new(), ..sources(&folder) };
        let evaluation = evaluate(&measures("P@1"), sources, &run(&["q1", "q2"])).unwrap();
        assert_eq!(evaluation.warnings, []);
    }

    #[test]
    fn what_a_measure_lacks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let full = || sources(&folder);
        for (names, sources, needs) in [
            ("MAP", Sources { qrels: None, ..full() }, "qrels"),
            ("R@2kt", Sources { corpus: None, ..full() }, "the corpus that was searched"),
            ("R@2kt", Sources { queries: Vec::new(), ..full() }, "queries with answers"),
        ] {
            let error = Evaluator::new(&measures(names), sources).unwrap_err().to_string();
            assert_eq!(error, format!("evaluating {names}: expected {needs}, found none"));
        }
        assert!(matches!(Evaluator::new(&[], full()), Err(MeasureError::NoMeasure)));
    }

    #[test]
    fn a_run_of_other_queries_is_refused_instead_of_scored_0() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["MAP", "R@2kt"] {
            let error = evaluate(&measures(name), sources(&folder), &run(&["x"])).unwrap_err();
            assert!(matches!(error, MeasureError::NothingShared { .. }), "{name}");
        }
    }
}
