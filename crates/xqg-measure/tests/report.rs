//! The tables and JSON of evaluations and comparisons, as they are printed.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use xqg_measure::compare::{Named, compare};
use xqg_measure::comparison::{Average, CompareSettings, Comparison};
use xqg_measure::evaluation::{Evaluation, MeasureValues, QueryValue};
use xqg_measure::report::{comparison_table, evaluation_table};
use xqg_measure::warning::{Warning, WarningKind};

const LANGS: [&str; 7] = ["ar", "bn", "fi", "ja", "ko", "ru", "te"];

fn evaluation(measure: &str, values: impl Iterator<Item = (&'static str, bool)>) -> Evaluation {
    let query = |(i, (lang, hit)): (usize, (&str, bool))| QueryValue {
        qid: format!("q{i:04}"),
        lang: lang.parse().ok(),
        value: f64::from(u8::from(hit)),
    };
    let queries = values.enumerate().map(query).collect();
    let measures = vec![MeasureValues { measure: measure.parse().unwrap(), queries }];
    Evaluation { measures, warnings: Vec::new() }
}

/// 100 questions for each language: the baseline hits 40; the run gains 14 more and loses 2, but in
/// Japanese it loses 14 and gains 2.
fn seven_languages(measure: &str) -> [Evaluation; 2] {
    let all = || LANGS.into_iter().flat_map(|lang| (0..100).map(move |i| (lang, i)));
    let hit = |(lang, i): (&'static str, i32)| {
        let lost = if lang == "ja" { 14 } else { 2 };
        (lang, (lost..40 + 16 - lost).contains(&i))
    };
    [evaluation(measure, all().map(|(l, i)| (l, i < 40))), evaluation(measure, all().map(hit))]
}

fn compared(measure: &str) -> Comparison {
    let [baseline, run] = seven_languages(measure);
    let baseline = Named { name: "xdr", evaluation: &baseline };
    let run = Named { name: "xqg", evaluation: &run };
    compare(baseline, &[run], CompareSettings::default()).unwrap()
}

#[test]
fn an_evaluation_has_a_column_for_each_language() {
    let [baseline, run] = seven_languages("R@2kt");
    let runs = [("xdr", &baseline), ("xqg", &run)];
    let text = evaluation_table(&runs.map(|(name, evaluation)| Named { name, evaluation }));
    let expected = "\
R@2kt, percent
          ar   bn   fi   ja   ko   ru   te macro mean
queries  100  100  100  100  100  100  100        700
xdr     40.0 40.0 40.0 40.0 40.0 40.0 40.0  40.0 40.0
xqg     52.0 52.0 52.0 28.0 52.0 52.0 52.0  48.6 48.6
";
    assert_eq!(text, expected);
}

#[test]
fn without_languages_the_measures_are_the_columns() {
    let mut first = evaluation("nDCG@10", [("", true), ("", false), ("", true)].into_iter());
    first.measures.extend(evaluation("R@2kt", [("", false), ("", true)].into_iter()).measures);
    let qids = vec!["q9".to_owned()];
    first.warnings.push(Warning { kind: WarningKind::NotJudged, qids });
    let text = evaluation_table(&[Named { name: "bm25", evaluation: &first }]);
    let expected = "     nDCG@10 R@2kt % queries
bm25   0.667    50.0       3
warning: bm25: queries of the run without judgments, not counted: 1 (q9)
";
    assert_eq!(text, expected);
}

#[test]
fn a_loss_is_as_loud_as_a_gain() {
    let expected = "\
R@2kt, percent: xqg against xdr, 700 queries
                ar     bn     fi     ja     ko     ru     te  macro  mean
queries        100    100    100    100    100    100    100          700
xdr           40.0   40.0   40.0   40.0   40.0   40.0   40.0   40.0  40.0
xqg           52.0   52.0   52.0   28.0   52.0   52.0   52.0   48.6  48.6
difference   +12.0* +12.0* +12.0* -12.0* +12.0* +12.0* +12.0*  +8.6* +8.6
95% from      +5.0   +5.0   +5.0  -20.0   +5.0   +5.0   +5.0   +5.9
95% to       +20.0  +20.0  +20.0   -5.0  +20.0  +20.0  +20.0  +11.4
p after Holm 0.027  0.027  0.027  0.027  0.027  0.027  0.027  <.001
macro average: 40.0 to 48.6, difference +8.6*, 95% interval +5.9 to +11.4
p 0.0001, after Holm 0.0001; wins 86, losses 26, ties 588
significant gains in ar, bn, fi, ko, ru, te
significant losses in ja

* p < 0.05 after Holm's correction over 1 overall, over 7 within languages
p: paired permutation test, two-sided, 10000 resamples, seed 42; overall of the macro average
intervals: bootstrap over queries within languages
";
    assert_eq!(comparison_table(&compared("R@2kt")), expected);
}

#[test]
fn seven_languages_with_three_decimals_fit_100_columns() {
    let text = comparison_table(&compared("nDCG@10"));
    assert!(text.contains("+0.120* +0.120* +0.120* -0.120*"), "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns:\n{text}");
}

#[test]
fn a_comparison_without_languages_is_three_lines_and_the_test() {
    let [baseline, run] = [[true, false, false], [true, true, false]]
        .map(|hits| evaluation("MAP", hits.map(|hit| ("", hit)).into_iter()));
    let settings = CompareSettings { average: Average::Mean, ..CompareSettings::default() };
    let [baseline, run] =
        [Named { name: "a", evaluation: &baseline }, Named { name: "b", evaluation: &run }];
    let text = comparison_table(&compare(baseline, &[run], settings).unwrap());
    let expected = "\
MAP, from 0 to 1: b against a, 3 queries
mean: 0.333 to 0.667, difference +0.333 , 95% interval +0.000 to +1.000
p 1.0000, after Holm 1.0000; wins 1, losses 0, ties 2
";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn the_json_of_a_comparison_names_everything_that_a_table_needs() {
    let json = serde_json::to_value(compared("R@2kt")).unwrap();
    assert_eq!(json["baseline"], "xdr");
    assert_eq!(json["runs"][0]["name"], "xqg");
    let measure = &json["runs"][0]["measures"]["R@2kt"];
    let keys: Vec<&String> = measure.as_object().unwrap().keys().collect();
    let expected = "n baseline run difference p p_holm interval wins losses ties by_lang";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(measure["interval"].as_array().unwrap().len(), 2);
    assert!((measure["difference"]["macro"].as_f64().unwrap() - 0.6 / 7.0).abs() < 1e-12);
    let ja = &measure["by_lang"]["ja"];
    assert_eq!((ja["n"].as_u64(), ja["difference"].as_f64()), (Some(100), Some(-0.12)));
    assert!(ja["p"].as_f64() < ja["p_holm"].as_f64());
    let bounds: Vec<f64> = serde_json::from_value(ja["interval"].clone()).unwrap();
    assert!(bounds[0] < -0.12 && -0.12 < bounds[1] && bounds[1] < 0.0, "{ja}");
    let test = serde_json::json!({
        "name": "paired permutation test, two-sided",
        "average": "macro",
        "resamples": 10000,
        "seed": 42,
        "correction": "Holm",
        "overall_family": 1,
        "lang_family": 7,
        "interval": "95% percentile bootstrap, stratified by language",
    });
    assert_eq!((&json["test"], &json["warnings"]), (&test, &serde_json::json!([])));
}
