//! R@kt from files to JSON, on a corpus made by hand that holds the quirks of the official script.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use xqg_data::query::read_queries;
use xqg_data::run::Run;
use xqg_measure::answer_recall::AnswerMode;
use xqg_measure::error::MeasureError;
use xqg_measure::evaluate::{Evaluator, Sources};
use xqg_measure::evaluation::Evaluation;
use xqg_measure::measure::Measure;

const QUESTIONS: &str = r#"
{"id":"near","question":"?","answers":["wrong","Mount Fuji"],"lang":" ja"}
{"id":"far","question":"?","answers":["the Nile"],"lang":"ja"}
{"id":"title","question":"?","answers":["Titled"],"lang":"ja"}
{"id":"case","question":"?","answers":["mount fuji"],"lang":"te"}
{"id":"comma","question":"?","answers":["1,000 km"],"lang":"te"}
{"id":"stop","question":"?","answers":["U.S.A. (state)"],"lang":"te"}
{"id":"polar","question":"?","answers":["yes","no"],"lang":"te"}
{"id":"polar2","question":"?","answers":["no","Fuji"],"lang":"te"}
{"id":"gone","question":"?","answers":["Mount Fuji"],"lang":"ko"}
{"id":"short","question":"?","answers":["Fuji"],"lang":"ko"}
"#;

/// `one` and `two` have 1,100 tokens each, so `nile` comes after 1,000 tokens and before 3,000.
fn write_corpus(folder: &Path) -> PathBuf {
    let filler = "word ".repeat(1100);
    let mut corpus = String::new();
    for (id, text) in [
        ("near", "Mount Fuji is high; 1,000 km from the U.S.A. (state)."),
        ("one", filler.as_str()),
        ("two", filler.as_str()),
        ("nile", "It is the Nile."),
    ] {
        writeln!(corpus, r#"{{"_id":"{id}","title":"Titled","text":"{text}"}}"#).unwrap();
    }
    let path = folder.join("corpus.jsonl");
    std::fs::write(&path, corpus).unwrap();
    path
}

fn write_run(folder: &Path, rankings: &[(&str, &[&str])]) -> Run {
    let mut text = String::new();
    for (qid, docids) in rankings {
        for (i, docid) in docids.iter().enumerate() {
            writeln!(text, "{qid} Q0 {docid} {i} {} t", 100 - i).unwrap();
        }
    }
    let path = folder.join("a.run");
    std::fs::write(&path, text).unwrap();
    Run::read(&path).unwrap()
}

const FULL: &[&str] = &["near", "one", "two", "nile"];

fn rankings() -> Vec<(&'static str, &'static [&'static str])> {
    let mut rankings: Vec<_> = ["near", "far", "title", "case", "comma", "stop", "polar", "polar2"]
        .map(|qid| (qid, FULL))
        .to_vec();
    rankings.extend([("short", &["near"][..]), ("unknown", FULL)]);
    rankings
}

fn evaluator(folder: &Path, answer_mode: AnswerMode) -> Evaluator {
    let path = folder.join("q.jsonl");
    std::fs::write(&path, QUESTIONS).unwrap();
    let queries = read_queries(&path).unwrap();
    let corpus = Some(write_corpus(folder));
    let measures = ["R@1kt", "R@3kt"].map(|name| name.parse::<Measure>().unwrap());
    Evaluator::new(&measures, Sources { qrels: None, queries, corpus, answer_mode }).unwrap()
}

fn evaluated(answer_mode: AnswerMode) -> (TempDir, Evaluation) {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &rankings());
    let evaluation = evaluator(folder.path(), answer_mode).evaluate(&run).unwrap();
    (folder, evaluation)
}

fn value(evaluation: &Evaluation, qid: &str) -> Vec<Option<f64>> {
    let of = |m: &xqg_measure::evaluation::MeasureValues| {
        m.queries.iter().find(|q| q.qid == qid).map(|q| q.value)
    };
    evaluation.measures.iter().map(of).collect()
}

#[test]
fn hits_and_misses_are_those_of_the_official_script() {
    let (_folder, evaluation) = evaluated(AnswerMode::Official);
    for (qid, at_1kt, at_3kt) in [
        ("near", 1.0, 1.0),
        ("far", 0.0, 1.0),
        ("title", 0.0, 0.0),
        ("case", 0.0, 0.0),
        ("comma", 1.0, 1.0),
        // Its brackets become tokens of their own in the passage, not in the answer.
        ("stop", 0.0, 0.0),
        ("polar2", 1.0, 1.0),
        ("short", 1.0, 1.0),
    ] {
        assert_eq!(value(&evaluation, qid), [Some(at_1kt), Some(at_3kt)], "{qid}");
    }
    for qid in ["polar", "gone", "unknown"] {
        assert_eq!(value(&evaluation, qid), [None, None], "{qid}");
    }
}

#[test]
fn the_official_mode_leaves_missing_questions_out_and_says_so() {
    let (_folder, evaluation) = evaluated(AnswerMode::Official);
    let json = serde_json::to_value(&evaluation).unwrap();
    let expected = serde_json::json!({
        "mean": 4.0 / 8.0,
        "macro": (1.0 / 3.0 + 2.0 / 4.0 + 1.0) / 3.0,
        "by_lang": {
            "ja": {"mean": 1.0 / 3.0, "n": 3},
            "ko": {"mean": 1.0, "n": 1},
            "te": {"mean": 0.5, "n": 4},
        },
    });
    assert_eq!(json["measures"]["R@1kt"], expected);
    let warnings = serde_json::json!([
        "questions without an answer to look for, not counted: 1 (polar)",
        "queries missing from the run, not counted: 1 (gone)",
        "queries of the run that the query file does not have, not counted: 1 (unknown)",
        "rankings too short for R@1kt, scored on what there is: 1 (short)",
        "rankings too short for R@3kt, scored on what there is: 8 (case, comma, far, …)",
    ]);
    assert_eq!(json["warnings"], warnings);
}

#[test]
fn the_strict_mode_counts_missing_questions_as_misses() {
    let (_folder, evaluation) = evaluated(AnswerMode::Strict);
    assert_eq!(value(&evaluation, "gone"), [Some(0.0), Some(0.0)]);
    assert_eq!(value(&evaluation, "polar"), [None, None]);
    let ko = evaluation.measures[0].by_lang()["ko"];
    assert_eq!((ko.mean, ko.n), (0.5, 2));
    let warnings: Vec<String> = evaluation.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.contains(&"queries missing from the run, scored 0: 1 (gone)".to_owned()));
}

#[test]
fn one_evaluator_serves_several_runs_even_when_the_corpus_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &rankings());
    let mut evaluator = evaluator(folder.path(), AnswerMode::Strict);
    let first = evaluator.evaluate_all(&[&run, &run]).unwrap();
    std::fs::remove_file(folder.path().join("corpus.jsonl")).unwrap();
    assert_eq!(evaluator.evaluate(&run).unwrap(), first[1]);
    assert_eq!(first[0], first[1]);
}

#[test]
fn passages_that_the_corpus_lacks_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &[("near", &["near", "lost1", "lost2"])]);
    let error = evaluator(folder.path(), AnswerMode::Official).evaluate(&run).unwrap_err();
    assert!(matches!(&error, MeasureError::UnknownPassages { total: 2, .. }));
    assert!(error.to_string().contains("found no lost1, lost2\nhint: "), "{error}");
}

#[test]
fn a_run_of_other_questions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &[("other", FULL)]);
    let error = evaluator(folder.path(), AnswerMode::Strict).evaluate(&run).unwrap_err();
    assert!(matches!(error, MeasureError::NothingShared { .. }));
}
