//! Evaluations and comparisons as text for people: at most 100 columns, one column for each
//! language, the macro average and the mean at the end, warnings below. R@kt is printed in percent
//! with one decimal, as the papers on XOR-TyDi do, all other measures from 0 to 1 with three, as
//! those on BEIR and MIRACL do; each table says which. A difference always carries its sign, and a
//! star marks a significant loss as it marks a significant gain. The JSON forms are the `Serialize`
//! of [`Evaluation`](crate::evaluation::Evaluation) and of [`Comparison`].

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::Named;
use crate::comparison::{Average, ComparedMeasure, Comparison, SIGNIFICANT_BELOW, TestRecord};
use crate::evaluation::{Averages, LangMean, MeasureValues, NO_LANG};
use crate::measure::Measure;
use crate::table::Table;
use crate::warning::{RunWarning, share};

/// Runs side by side: a table for each measure where languages are known, otherwise one table with
/// a column for each measure. All must have been evaluated by the measures of the first.
pub fn evaluation_table(runs: &[Named<'_>]) -> String {
    let measures = || runs.iter().flat_map(|run| &run.evaluation.measures);
    let langs: BTreeSet<&'static str> =
        measures().flat_map(|m| &m.queries).map(|query| query.lang_code()).collect();
    let text = if langs.iter().all(|&lang| lang == NO_LANG) {
        measures_as_columns(runs)
    } else {
        let first = runs.first().map_or(&[][..], |run| &run.evaluation.measures);
        let blocks: Vec<String> =
            first.iter().map(|m| langs_as_columns(m.measure, runs, &langs)).collect();
        blocks.join("\n")
    };
    let mut warnings = Vec::new();
    for run in runs {
        run.evaluation.warnings.iter().for_each(|w| share(&mut warnings, run.name, w));
    }
    text + &warning_lines(&warnings)
}

fn warning_lines(warnings: &[RunWarning]) -> String {
    warnings.iter().map(|warning| format!("warning: {warning}\n")).collect()
}

fn measures_as_columns(runs: &[Named<'_>]) -> String {
    let mut table = Table::default();
    let first = runs.first().map_or(&[][..], |run| &run.evaluation.measures);
    let heads = first.iter().map(|m| format!("{}{}", m.measure, Scale::of(m.measure).mark()));
    table.row("", heads.chain(["queries".to_owned()]));
    for run in runs {
        let measures = &run.evaluation.measures;
        let means = measures.iter().map(|m| Scale::of(m.measure).value(m.averages().mean));
        let queries = measures.first().map_or(0, |m| m.queries.len()).to_string();
        table.row(run.name, means.chain([queries]));
    }
    table.render()
}

fn langs_as_columns(
    measure: Measure,
    runs: &[Named<'_>],
    langs: &BTreeSet<&'static str>,
) -> String {
    let scale = Scale::of(measure);
    let mut table = Table::default();
    table.row("", langs.iter().copied().chain(["macro", "mean"]).map(str::to_owned));
    let mut counted = None;
    for run in runs {
        let values = run.evaluation.measures.iter().filter(|m| m.measure == measure);
        for values in values {
            let counts = counts(values, langs);
            if counted.as_ref() != Some(&counts) {
                table.row("queries", counts.clone());
                counted = Some(counts);
            }
            table.row(run.name, values_row(values, langs, scale));
        }
    }
    format!("{measure}, {}\n{}", scale.name(), table.render())
}

/// The number of queries of each language and in all.
fn counts(values: &MeasureValues, langs: &BTreeSet<&'static str>) -> Vec<String> {
    let by_lang = values.by_lang();
    let count = |lang: &&str| by_lang.get(lang).map_or(0, |lang| lang.n).to_string();
    langs.iter().map(count).chain([String::new(), values.queries.len().to_string()]).collect()
}

fn values_row(values: &MeasureValues, langs: &BTreeSet<&'static str>, scale: Scale) -> Vec<String> {
    let by_lang: BTreeMap<&'static str, LangMean> = values.by_lang();
    let Averages { mean, macro_mean } = values.averages();
    let cell = |lang: &&str| by_lang.get(lang).map_or("-".to_owned(), |m| scale.value(m.mean));
    langs.iter().map(cell).chain([scale.value(macro_mean), scale.value(mean)]).collect()
}

/// A table for each measure and run, with the test that stands behind the stars.
pub fn comparison_table(comparison: &Comparison) -> String {
    let mut text = String::new();
    for run in &comparison.runs {
        for measure in &run.measures {
            let names = [comparison.baseline.as_str(), run.name.as_str()];
            text.push_str(&measure_block(names, measure, comparison.test.settings.average));
            text.push('\n');
        }
    }
    text.push_str(&test_lines(&comparison.test));
    text + &warning_lines(&comparison.warnings)
}

fn measure_block(names: [&str; 2], m: &ComparedMeasure, average: Average) -> String {
    let [baseline, run] = names;
    let scale = Scale::of(m.measure);
    let table = if m.by_lang.keys().all(|&lang| lang == NO_LANG) {
        String::new()
    } else {
        langs_compared(names, m, average)
    };
    let (from, to, by) = match average {
        Average::Macro => (m.baseline.macro_mean, m.run.macro_mean, m.difference.macro_mean),
        Average::Mean => (m.baseline.mean, m.run.mean, m.difference.mean),
    };
    let name = average_name(average);
    let star = star(m.p_holm);
    let (low, high) = m.interval;
    format!(
        "{}, {}: {run} against {baseline}, {} queries\n{table}\
         {name}: {} to {}, difference {}{star}, 95% interval {} to {}\n\
         p {:.4}, after Holm {:.4}; wins {}, losses {}, ties {}\n{}",
        m.measure,
        scale.name(),
        m.n,
        scale.value(from),
        scale.value(to),
        scale.difference(by),
        scale.difference(low),
        scale.difference(high),
        m.p,
        m.p_holm,
        m.wins,
        m.losses,
        m.ties,
        significant_langs(m),
    )
}

fn langs_compared([baseline, run]: [&str; 2], m: &ComparedMeasure, average: Average) -> String {
    let scale = Scale::of(m.measure);
    let langs = || m.by_lang.values();
    let value = |value| scale.value(value) + " ";
    let difference = |value, p_holm| scale.difference(value) + star(p_holm);
    let averages = |a: &Averages| [value(a.macro_mean), value(a.mean)];
    // Only the average under test has a p.
    let (macro_p, mean_p) = match average {
        Average::Macro => (Some(m.p_holm), None),
        Average::Mean => (None, Some(m.p_holm)),
    };
    let of = |value, p: Option<f64>| difference(value, p.unwrap_or(1.0));
    let overall = [of(m.difference.macro_mean, macro_p), of(m.difference.mean, mean_p)];
    let overall_p = [macro_p, mean_p].map(|p| p.map_or(String::new(), p_cell));
    let heads = m.by_lang.keys().copied().chain(["macro", "mean"]);
    let counts = langs().map(|lang| format!("{} ", lang.n));

    let mut table = Table::default();
    table.row("", heads.map(|head| format!("{head} ")));
    table.row("queries", counts.chain([String::new(), format!("{} ", m.n)]));
    table.row(baseline, langs().map(|lang| value(lang.baseline)).chain(averages(&m.baseline)));
    table.row(run, langs().map(|lang| value(lang.run)).chain(averages(&m.run)));
    table.row("difference", langs().map(|l| difference(l.difference, l.p_holm)).chain(overall));
    let bound = |value: f64| scale.difference(value) + " ";
    let bounds = |of: fn((f64, f64)) -> f64| {
        let overall = match average {
            Average::Macro => [bound(of(m.interval)), String::new()],
            Average::Mean => [String::new(), bound(of(m.interval))],
        };
        langs().map(move |lang| bound(of(lang.interval))).chain(overall)
    };
    table.row("95% from", bounds(|(low, _)| low));
    table.row("95% to", bounds(|(_, high)| high));
    table.row("p after Holm", langs().map(|lang| p_cell(lang.p_holm)).chain(overall_p));
    table.render()
}

/// Says in words which languages gain and which lose, so that no loss is overlooked.
fn significant_langs(m: &ComparedMeasure) -> String {
    let list = |wanted: fn(f64) -> bool| {
        let langs = m.by_lang.iter().filter(|(lang, own)| {
            **lang != NO_LANG && own.p_holm < SIGNIFICANT_BELOW && wanted(own.difference)
        });
        langs.map(|(&lang, _)| lang).collect::<Vec<_>>().join(", ")
    };
    let (gains, losses) = (list(|d| d > 0.0), list(|d| d < 0.0));
    let line = |word: &str, langs: String| match langs.is_empty() {
        true => String::new(),
        false => format!("significant {word} in {langs}\n"),
    };
    line("gains", gains) + &line("losses", losses)
}

fn test_lines(test: &TestRecord) -> String {
    let resampling = test.settings.resampling;
    format!(
        "* p < {SIGNIFICANT_BELOW} after Holm's correction over {} overall, over {} within languages\n\
         p: paired permutation test, two-sided, {} resamples, seed {}; overall of the {}\n\
         intervals: bootstrap over queries within languages\n",
        test.overall_family,
        test.lang_family,
        resampling.resamples,
        resampling.seed,
        average_name(test.settings.average),
    )
}

fn average_name(average: Average) -> &'static str {
    match average {
        Average::Macro => "macro average",
        Average::Mean => "mean",
    }
}

fn star(p_holm: f64) -> &'static str {
    if p_holm < SIGNIFICANT_BELOW { "*" } else { " " }
}

/// A p value with three decimals, and the space under the stars.
fn p_cell(p: f64) -> String {
    if p < 0.0005 { "<.001 ".to_owned() } else { format!("{p:.3} ") }
}

/// How the field prints a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// Percent with one decimal.
    Percent,
    /// From 0 to 1 with three decimals.
    Share,
}

impl Scale {
    fn of(measure: Measure) -> Self {
        if measure.reads_answers() { Self::Percent } else { Self::Share }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Percent => "percent",
            Self::Share => "from 0 to 1",
        }
    }

    /// What stands behind a measure's name at the head of a column.
    fn mark(self) -> &'static str {
        match self {
            Self::Percent => " %",
            Self::Share => "",
        }
    }

    fn value(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.1}", value * 100.0),
            Self::Share => format!("{value:.3}"),
        }
    }

    /// With its sign, also where it rounds to zero.
    fn difference(self, value: f64) -> String {
        // Adding 0 turns a negative zero, which is no loss, into a positive one.
        let value = value + 0.0;
        match self {
            Self::Percent => format!("{:+.1}", value * 100.0),
            Self::Share => format!("{value:+.3}"),
        }
    }
}
