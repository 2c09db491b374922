//! What a comparison gives: for each run and measure both values, their difference, its p before and
//! after correction, an interval, and the same for each language. As JSON it is
//! `{"baseline","runs":[{"name","measures":{"R@2kt":{...}}}],"test":{...},"warnings":[]}`, the
//! fields named as they are here, values from 0 to 1. How it comes about is in
//! [`compare`](crate::compare).

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::evaluation::Averages;
use crate::measure::Measure;
use crate::resampling::Resampling;
use crate::warning::RunWarning;

/// A difference counts as significant when its corrected p is below this.
pub const SIGNIFICANT_BELOW: f64 = 0.05;

/// The average that the overall tests and intervals are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Average {
    /// The mean over queries.
    Mean,
    /// The mean over languages, as cross-lingual results are reported.
    #[default]
    Macro,
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompareSettings {
    /// How often to resample, and from which seed.
    pub resampling: Resampling,
    /// The average under test.
    pub average: Average,
}

/// One baseline and the runs compared with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The name of the baseline.
    pub baseline: String,
    /// The runs, in the order given.
    pub runs: Vec<ComparedRun>,
    /// How the p values came about.
    pub test: TestRecord,
    /// What is odd about the baseline, the runs or their comparison.
    pub warnings: Vec<RunWarning>,
}

/// One run beside the baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedRun {
    /// The name of the run.
    pub name: String,
    /// One entry for each measure, in the order of the evaluations.
    #[serde(serialize_with = "measures_in_order")]
    pub measures: Vec<ComparedMeasure>,
}

/// One measure of a run beside the baseline's, over the queries that both have a value for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedMeasure {
    /// The measure; the key of the entry in JSON.
    #[serde(skip)]
    pub measure: Measure,
    /// The number of queries compared.
    pub n: usize,
    /// The baseline's averages.
    pub baseline: Averages,
    /// The run's averages.
    pub run: Averages,
    /// Run minus baseline.
    pub difference: Averages,
    /// The p value of the difference of the average under test.
    pub p: f64,
    /// The same after Holm's correction over all overall tests.
    pub p_holm: f64,
    /// The 95% bootstrap interval of the difference of the average under test.
    pub interval: (f64, f64),
    /// Queries on which the run is better.
    pub wins: usize,
    /// Queries on which the baseline is better.
    pub losses: usize,
    /// Queries on which both are the same.
    pub ties: usize,
    /// Each language by its code.
    pub by_lang: BTreeMap<&'static str, ComparedLang>,
}

/// One language of a measure beside the baseline's; values are means over its queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ComparedLang {
    /// The number of queries compared.
    pub n: usize,
    /// The baseline's mean.
    pub baseline: f64,
    /// The run's mean.
    pub run: f64,
    /// Run minus baseline.
    pub difference: f64,
    /// The p value of the difference.
    pub p: f64,
    /// The same after Holm's correction over the tests of all languages.
    pub p_holm: f64,
    /// The 95% bootstrap interval of the difference, of this language alone: it knows no correction.
    pub interval: (f64, f64),
}

/// What must be known to repeat the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestRecord {
    /// Resamples, seed, and the average under test.
    pub settings: CompareSettings,
    /// The number of overall tests that were corrected together.
    pub overall_family: usize,
    /// The number of tests within a language that were corrected together.
    pub lang_family: usize,
}

impl Serialize for TestRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut test = serializer.serialize_struct("test", 8)?;
        test.serialize_field("name", "paired permutation test, two-sided")?;
        test.serialize_field("average", &self.settings.average)?;
        test.serialize_field("resamples", &self.settings.resampling.resamples)?;
        test.serialize_field("seed", &self.settings.resampling.seed)?;
        test.serialize_field("correction", "Holm")?;
        test.serialize_field("overall_family", &self.overall_family)?;
        test.serialize_field("lang_family", &self.lang_family)?;
        test.serialize_field("interval", "95% percentile bootstrap, stratified by language")?;
        test.end()
    }
}

fn measures_in_order<S: Serializer>(
    measures: &[ComparedMeasure],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(measures.iter().map(|m| (m.measure.to_string(), m)))
}
