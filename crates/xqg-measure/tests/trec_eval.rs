//! The measures over qrels against trec_eval itself; `golden/make_trec.py` makes the files.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xqg_data::qrels::Qrels;
use xqg_data::run::Run;
use xqg_measure::evaluate::{Sources, evaluate};
use xqg_measure::evaluation::Evaluation;
use xqg_measure::measure::Measure;
use xqg_measure::warning::WarningKind;

/// By measure and query.
type Golden = BTreeMap<String, BTreeMap<String, f64>>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn expected() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(golden("trec.json")).unwrap()).unwrap()
}

fn evaluation() -> Evaluation {
    let measures: Vec<Measure> = expected().keys().map(|name| name.parse().unwrap()).collect();
    let qrels = Some(Qrels::read(&golden("trec.qrels")).unwrap());
    let run = Run::read(&golden("trec.run")).unwrap();
    evaluate(&measures, Sources { qrels, ..Sources::default() }, &run).unwrap()
}

#[test]
fn every_query_of_every_measure_agrees_with_trec_eval() {
    let expected = expected();
    let evaluation = evaluation();
    assert_eq!(evaluation.measures.len(), 11);
    for values in &evaluation.measures {
        let golden = &expected[&values.measure.to_string()];
        assert_eq!(golden.len(), 14);
        for query in values.queries.iter().filter(|q| q.qid != "q90") {
            let (found, wanted) = (query.value, golden[&query.qid]);
            let place = format!("{} of {}", values.measure, query.qid);
            assert!((found - wanted).abs() < 1e-9, "{place}: expected {wanted}, found {found}");
        }
    }
}

/// trec_eval leaves a judged query without a ranking out of its mean; here it scores 0.
#[test]
fn a_missing_query_counts_as_0_and_an_unjudged_one_not_at_all() {
    let expected = expected();
    let evaluation = evaluation();
    for values in &evaluation.measures {
        let golden = &expected[&values.measure.to_string()];
        assert_eq!(values.queries.len(), 15);
        let missing = values.queries.iter().find(|q| q.qid == "q90").unwrap();
        assert_eq!(missing.value, 0.0);
        assert!(values.queries.iter().all(|q| q.qid != "q91"));
        let wanted = golden.values().sum::<f64>() / 15.0;
        assert!((values.averages().mean - wanted).abs() < 1e-9);
    }
    let qids = |kind: &WarningKind| {
        let mut warnings = evaluation.warnings.iter().filter(|w| w.kind == *kind);
        warnings.next().map(|w| w.qids.join(" ")).unwrap_or_default()
    };
    assert_eq!(qids(&WarningKind::MissingScoredZero), "q90");
    assert_eq!(qids(&WarningKind::NotJudged), "q91");
    assert!(qids(&WarningKind::NothingRelevant).contains("q13"));
}
