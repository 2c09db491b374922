//! The verb: is one run better than another. Runs are put beside a baseline, measure by measure,
//! over the queries that both have a value for, with a paired test on the average of choice and on
//! each language.
//!
//! Holm's correction is applied to two families: all overall tests of the comparison (runs ×
//! measures), and all tests within a language (runs × measures × languages). Two families and not
//! one, because a table is read for two questions, whether the run helps and which languages it
//! helps or hurts, and the second must not make the first unanswerable. The sizes of both are part
//! of the result.

use std::collections::BTreeMap;

use crate::bootstrap::interval;
use crate::comparison::{
    Average, CompareSettings, ComparedLang, ComparedMeasure, ComparedRun, Comparison, TestRecord,
};
use crate::error::MeasureError;
use crate::evaluation::{Evaluation, MeasureValues, averages};
use crate::measure::Measure;
use crate::significance::{PairedDifference, holm, permutation_p};
use crate::warning::{RunWarning, WarningKind, share, warn_about};

/// An evaluation under the name of its run.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// What tables call the run.
    pub name: &'a str,
    /// Its values.
    pub evaluation: &'a Evaluation,
}

/// Compares runs with a baseline, measure by measure.
///
/// ```
/// use xqg_data::{qrels::Qrels, run::{Run, ScoredDoc}};
/// use xqg_measure::compare::{Named, compare};
/// use xqg_measure::comparison::CompareSettings;
/// use xqg_measure::evaluate::{Evaluator, Sources};
///
/// let mut qrels = Qrels::default();
/// let (mut found, mut missed) = (Run::default(), Run::default());
/// for qid in ["q1", "q2", "q3"] {
///     qrels.insert(qid, "right", 1);
///     found.insert(qid, vec![ScoredDoc { docid: "right".into(), score: 1.0 }]);
///     missed.insert(qid, vec![ScoredDoc { docid: "wrong".into(), score: 1.0 }]);
/// }
/// let sources = Sources { qrels: Some(qrels), ..Sources::default() };
/// let mut evaluator = Evaluator::new(&["R@10".parse()?], sources)?;
/// let evaluations = evaluator.evaluate_all(&[&missed, &found])?;
/// let baseline = Named { name: "missed", evaluation: &evaluations[0] };
/// let run = Named { name: "found", evaluation: &evaluations[1] };
/// let comparison = compare(baseline, &[run], CompareSettings::default())?;
/// let recall = &comparison.runs[0].measures[0];
/// assert_eq!((recall.difference.mean, recall.p), (1.0, 0.25));
/// # Ok::<(), xqg_measure::error::MeasureError>(())
/// ```
///
/// # Errors
/// When a run was evaluated by other measures than the baseline, or shares no query with it.
pub fn compare(
    baseline: Named<'_>,
    runs: &[Named<'_>],
    settings: CompareSettings,
) -> Result<Comparison, MeasureError> {
    let mut warnings = Vec::new();
    for named in [&baseline].into_iter().chain(runs) {
        named.evaluation.warnings.iter().for_each(|w| share(&mut warnings, named.name, w));
    }
    let mut compared = Vec::new();
    for run in runs {
        compared.push(compare_run(baseline, *run, &settings, &mut warnings)?);
    }
    let overall = compared.iter_mut().flat_map(|run| &mut run.measures);
    let overall_family = correct(overall.map(|m| (m.p, &mut m.p_holm)).collect());
    let langs = compared.iter_mut().flat_map(|run| &mut run.measures);
    let langs = langs.flat_map(|m| m.by_lang.values_mut());
    let lang_family = correct(langs.map(|lang| (lang.p, &mut lang.p_holm)).collect());
    let test = TestRecord { settings, overall_family, lang_family };
    Ok(Comparison { baseline: baseline.name.to_owned(), runs: compared, test, warnings })
}

/// Writes Holm's correction of each p of a family to its place; returns the size of the family.
fn correct(family: Vec<(f64, &mut f64)>) -> usize {
    let p_values: Vec<f64> = family.iter().map(|&(p, _)| p).collect();
    let size = p_values.len();
    family.into_iter().zip(holm(&p_values)).for_each(|((_, place), p_holm)| *place = p_holm);
    size
}

fn compare_run(
    baseline: Named<'_>,
    run: Named<'_>,
    settings: &CompareSettings,
    warnings: &mut Vec<RunWarning>,
) -> Result<ComparedRun, MeasureError> {
    same_measures(&baseline, &run)?;
    let mut measures = Vec::new();
    for (of_baseline, of_run) in baseline.evaluation.measures.iter().zip(&run.evaluation.measures) {
        let (pairs, single) = pair_up(of_baseline, of_run);
        if pairs.is_empty() {
            let expected = format!("queries with {} in both", of_run.measure);
            return Err(not_comparable(&baseline, &run, expected, "none".to_owned()));
        }
        let kind = WarningKind::NotCompared { measure: of_run.measure };
        if let Some(warning) = warn_about(kind, single) {
            share(warnings, run.name, &warning);
        }
        measures.push(compare_measure(of_run.measure, &pairs, settings));
    }
    Ok(ComparedRun { name: run.name.to_owned(), measures })
}

fn same_measures(baseline: &Named<'_>, run: &Named<'_>) -> Result<(), MeasureError> {
    let names = |named: &Named<'_>| {
        let names = named.evaluation.measures.iter().map(|m| m.measure.to_string());
        names.collect::<Vec<_>>().join(", ")
    };
    if names(baseline) == names(run) {
        return Ok(());
    }
    Err(not_comparable(baseline, run, format!("the measures {}", names(baseline)), names(run)))
}

fn not_comparable(
    baseline: &Named<'_>,
    run: &Named<'_>,
    expected: String,
    found: String,
) -> MeasureError {
    let (baseline, run) = (baseline.name.to_owned(), run.name.to_owned());
    MeasureError::NotComparable { baseline, run, expected, found }
}

/// One query with its value in both.
#[derive(Debug, Clone, Copy)]
struct Pair {
    lang: &'static str,
    baseline: f64,
    run: f64,
}

impl Pair {
    fn difference(&self) -> f64 {
        self.run - self.baseline
    }
}

/// The queries with a value in both, and the ids of those with a value in one only.
fn pair_up(baseline: &MeasureValues, run: &MeasureValues) -> (Vec<Pair>, Vec<String>) {
    let mut of_baseline: BTreeMap<&str, f64> =
        baseline.queries.iter().map(|q| (q.qid.as_str(), q.value)).collect();
    let mut single = Vec::new();
    let mut pairs = Vec::new();
    for query in &run.queries {
        match of_baseline.remove(query.qid.as_str()) {
            Some(baseline) => {
                pairs.push(Pair { lang: query.lang_code(), baseline, run: query.value });
            }
            None => single.push(query.qid.clone()),
        }
    }
    single.extend(of_baseline.into_keys().map(str::to_owned));
    single.sort_unstable();
    (pairs, single)
}

fn compare_measure(
    measure: Measure,
    pairs: &[Pair],
    settings: &CompareSettings,
) -> ComparedMeasure {
    let of = |value: fn(&Pair) -> f64| averages(pairs.iter().map(|p| (p.lang, value(p))));
    let weighted = weigh(pairs, settings.average);
    let terms: Vec<PairedDifference> = weighted.iter().map(|&(_, pair)| pair).collect();
    let p = permutation_p(&terms, &settings.resampling);
    let count = |wanted: fn(f64) -> bool| pairs.iter().filter(|p| wanted(p.difference())).count();
    ComparedMeasure {
        measure,
        n: pairs.len(),
        baseline: of(|pair| pair.baseline),
        run: of(|pair| pair.run),
        difference: of(Pair::difference),
        p,
        p_holm: p,
        interval: interval(&weighted, &settings.resampling),
        wins: count(|d| d > 0.0),
        losses: count(|d| d < 0.0),
        ties: count(|d| d == 0.0),
        by_lang: by_lang(pairs).map(|(lang, own)| (lang, compare_lang(&own, settings))).collect(),
    }
}

fn compare_lang(pairs: &[Pair], settings: &CompareSettings) -> ComparedLang {
    let of = |value: fn(&Pair) -> f64| averages(pairs.iter().map(|p| (p.lang, value(p)))).mean;
    let weighted = weigh(pairs, Average::Mean);
    let terms: Vec<PairedDifference> = weighted.iter().map(|&(_, pair)| pair).collect();
    let p = permutation_p(&terms, &settings.resampling);
    let (baseline, run) = (of(|pair| pair.baseline), of(|pair| pair.run));
    let interval = interval(&weighted, &settings.resampling);
    let difference = of(Pair::difference);
    ComparedLang { n: pairs.len(), baseline, run, difference, p, p_holm: p, interval }
}

/// The pairs of each language, by its code.
fn by_lang(pairs: &[Pair]) -> impl ExactSizeIterator<Item = (&'static str, Vec<Pair>)> {
    let mut langs: BTreeMap<&'static str, Vec<Pair>> = BTreeMap::new();
    pairs.iter().for_each(|pair| langs.entry(pair.lang).or_default().push(*pair));
    langs.into_iter()
}

/// The differences with the weights that make their sum the difference of the average.
fn weigh(pairs: &[Pair], average: Average) -> Vec<(&'static str, PairedDifference)> {
    let langs = by_lang(pairs);
    let count = langs.len();
    let weighted = langs.flat_map(|(lang, own)| {
        let share = match average {
            Average::Mean => pairs.len(),
            Average::Macro => own.len() * count,
        };
        let weight = 1.0 / share as f64;
        own.into_iter()
            .map(move |pair| (lang, PairedDifference { difference: pair.difference(), weight }))
    });
    weighted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{Averages, QueryValue};
    use crate::warning::Warning;
    use proptest::prelude::*;

    fn evaluation(queries: &[(&str, &str, f64)]) -> Evaluation {
        let query = |&(qid, lang, value): &(&str, &str, f64)| QueryValue {
            qid: qid.to_owned(),
            lang: lang.parse().ok(),
            value,
        };
        let queries: Vec<QueryValue> = queries.iter().map(query).collect();
        let values =
            |name: &str| MeasureValues { measure: name.parse().unwrap(), queries: queries.clone() };
        let measures = vec![values("R@2kt"), values("R@5kt")];
        Evaluation { measures, warnings: Vec::new() }
    }

    fn compared(baseline: &Evaluation, runs: &[&Evaluation]) -> Result<Comparison, MeasureError> {
        let runs: Vec<Named<'_>> =
            runs.iter().map(|evaluation| Named { name: "run", evaluation }).collect();
        let baseline = Named { name: "base", evaluation: baseline };
        compare(baseline, &runs, CompareSettings::default())
    }

    #[test]
    fn both_families_are_counted_and_corrected_apart() {
        let base = evaluation(&[("1", "ar", 0.0), ("2", "ar", 0.0), ("3", "te", 0.0)]);
        let run = evaluation(&[("1", "ar", 1.0), ("2", "ar", 1.0), ("3", "te", 1.0)]);
        let comparison = compared(&base, &[&run, &base]).unwrap();
        assert_eq!((comparison.test.overall_family, comparison.test.lang_family), (4, 8));
        let measure = &comparison.runs[0].measures[0];
        // Weights 1/4, 1/4, 1/2: +++ --- only; 2 of 8, times the family of 4.
        assert_eq!((measure.p, measure.p_holm), (0.25, 1.0));
        assert_eq!((measure.by_lang["ar"].p, measure.by_lang["te"].p), (0.5, 1.0));
        assert_eq!((measure.wins, measure.losses, measure.ties), (3, 0, 0));
        assert_eq!(
            (measure.by_lang["ar"].interval, measure.by_lang["te"].interval),
            ((1.0, 1.0), (1.0, 1.0))
        );
        assert_eq!(measure.interval, (1.0, 1.0));
    }

    /// A language's interval is that of its own queries: another language next to it changes nothing.
    #[test]
    fn each_language_has_the_interval_of_its_own_queries() {
        let ids: Vec<String> = (0..400).map(|i| i.to_string()).collect();
        let of = |value: fn(usize) -> f64, langs: [&'static str; 2]| {
            let queries: Vec<(&str, &str, f64)> = ids
                .iter()
                .enumerate()
                .map(|(i, id)| (id.as_str(), langs[i % 2], value(i)))
                .collect();
            evaluation(&queries)
        };
        // Of 200 queries of each language every second is won: 0.5, standard error 0.0354.
        let won = |i: usize| f64::from(u8::from((i / 2).is_multiple_of(2)));
        let both = ["ar", "te"];
        let comparison = compared(&of(|_| 0.0, both), &[&of(won, both)]).unwrap();
        let measure = &comparison.runs[0].measures[0];
        for lang in both {
            let (low, high) = measure.by_lang[lang].interval;
            assert!((low - 0.431).abs() < 0.006 && (high - 0.569).abs() < 0.006, "{low} {high}");
        }
        let (low, high) = measure.interval;
        assert!((low - 0.451).abs() < 0.005 && (high - 0.549).abs() < 0.005, "{low} {high}");
    }

    #[test]
    fn a_run_compared_with_itself_differs_in_nothing() {
        let base = evaluation(&[("1", "ar", 0.25), ("2", "te", 1.0)]);
        let comparison = compared(&base, &[&base]).unwrap();
        let measure = &comparison.runs[0].measures[1];
        assert_eq!((measure.p, measure.p_holm, measure.ties), (1.0, 1.0, 2));
        assert_eq!(measure.difference, Averages { mean: 0.0, macro_mean: 0.0 });
        assert_eq!((measure.interval, comparison.warnings.len()), ((0.0, 0.0), 0));
    }

    #[test]
    fn queries_of_one_run_only_are_left_out_with_a_warning() {
        let base = evaluation(&[("1", "ar", 1.0), ("2", "ar", 0.0), ("3", "ar", 0.0)]);
        let run = evaluation(&[("0", "ar", 1.0), ("2", "ar", 1.0), ("3", "ar", 0.0)]);
        let comparison = compared(&base, &[&run]).unwrap();
        let measure = &comparison.runs[0].measures[0];
        assert_eq!((measure.n, measure.baseline.mean, measure.run.mean), (2, 0.0, 0.5));
        let text = comparison.warnings[0].to_string();
        assert_eq!(text, "run: queries with R@2kt in one run only, not compared: 2 (0, 1)");
        assert_eq!(comparison.warnings.len(), 2);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let base = evaluation(&[("1", "ar", 1.0)]);
        let other = evaluation(&[("2", "ar", 1.0)]);
        let error = compared(&base, &[&other]).unwrap_err().to_string();
        assert_eq!(
            error,
            "comparing run with base: expected queries with R@2kt in both, found none"
        );
        let mut fewer = base.clone();
        fewer.measures.pop();
        let error = compared(&base, &[&fewer]).unwrap_err().to_string();
        assert!(error.ends_with("expected the measures R@2kt, R@5kt, found R@2kt"), "{error}");
    }

    #[test]
    fn a_warning_that_runs_share_is_given_once() {
        let mut base = evaluation(&[("1", "ar", 1.0)]);
        base.warnings = vec![Warning { kind: WarningKind::NoAnswer, qids: vec!["9".to_owned()] }];
        let comparison = compared(&base, &[&base]).unwrap();
        let texts: Vec<String> = comparison.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["base, run: questions without an answer to look for, not counted: 1 (9)"]
        );
    }

    proptest! {
        #[test]
        fn the_weighted_terms_sum_to_the_difference_of_the_average(
            pairs in proptest::collection::vec((0usize..3, 0.0f64..1.0, 0.0f64..1.0), 1..30),
        ) {
            let pairs: Vec<Pair> = pairs
                .into_iter()
                .map(|(lang, baseline, run)| Pair { lang: ["ar", "ko", "te"][lang], baseline, run })
                .collect();
            let sum = |average| -> f64 { weigh(&pairs, average).iter().map(|(_, d)| d.term()).sum() };
            let expected = averages(pairs.iter().map(|p| (p.lang, p.difference())));
            prop_assert!((sum(Average::Mean) - expected.mean).abs() < 1e-12);
            prop_assert!((sum(Average::Macro) - expected.macro_mean).abs() < 1e-12);
        }
    }
}
