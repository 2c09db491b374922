//! What an evaluation gives: the value of each measure for each query, its means, and warnings. As
//! JSON: `{"measures":{"R@2kt":{"mean","macro","by_lang":{"ar":{"mean","n"}}}},"warnings":[]}`
//! with values from 0 to 1, measures in the order asked for and languages in the order of their
//! codes. How the values come about is in [`evaluate`](crate::evaluate).

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use xqg_data::lang::Lang;

use crate::measure::Measure;
use crate::warning::Warning;

/// The code under which queries without a language are counted (ISO 639: undetermined).
pub const NO_LANG: &str = "und";

/// How good one run is.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// One entry for each measure, in the order asked for.
    pub measures: Vec<MeasureValues>,
    /// What is odd about the run.
    pub warnings: Vec<Warning>,
}

/// One measure over all queries that count.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureValues {
    /// The measure.
    pub measure: Measure,
    /// Its value for each query, in the order of the query ids.
    pub queries: Vec<QueryValue>,
}

/// The value of a measure for one query, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryValue {
    /// The query.
    pub qid: String,
    /// Its language, where one is known.
    pub lang: Option<Lang>,
    /// The value.
    pub value: f64,
}

impl QueryValue {
    /// The code of its language, or [`NO_LANG`].
    pub fn lang_code(&self) -> &'static str {
        self.lang.map_or(NO_LANG, |lang| lang.code())
    }
}

/// The mean over the queries of one language.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LangMean {
    /// The mean, from 0 to 1.
    pub mean: f64,
    /// The number of queries.
    pub n: usize,
}

/// The two averages of a measure, or of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Averages {
    /// The mean over queries.
    pub mean: f64,
    /// The macro average: the mean over languages of the mean over the queries of each.
    #[serde(rename = "macro")]
    pub macro_mean: f64,
}

impl MeasureValues {
    /// Both averages; 0 without a query.
    pub fn averages(&self) -> Averages {
        averages(self.queries.iter().map(|q| (q.lang_code(), q.value)))
    }

    /// The mean of each language, by its code.
    pub fn by_lang(&self) -> BTreeMap<&'static str, LangMean> {
        means_by_lang(self.queries.iter().map(|q| (q.lang_code(), q.value)))
    }
}

/// Both averages of values with the code of their language.
pub(crate) fn averages(values: impl Iterator<Item = (&'static str, f64)>) -> Averages {
    let (mut sum, mut n) = (0.0, 0);
    let by_lang = means_by_lang(values.inspect(|&(_, value)| {
        sum += value;
        n += 1;
    }));
    let langs: f64 = by_lang.values().map(|lang| lang.mean).sum();
    Averages { mean: sum / n.max(1) as f64, macro_mean: langs / by_lang.len().max(1) as f64 }
}

/// The mean of each language.
pub(crate) fn means_by_lang(
    values: impl Iterator<Item = (&'static str, f64)>,
) -> BTreeMap<&'static str, LangMean> {
    let mut langs: BTreeMap<_, LangMean> = BTreeMap::new();
    for (code, value) in values {
        let lang = langs.entry(code).or_insert(LangMean { mean: 0.0, n: 0 });
        lang.mean += value;
        lang.n += 1;
    }
    langs.values_mut().for_each(|lang| lang.mean /= lang.n as f64);
    langs
}

/// An evaluation as JSON, with or without `"per_query":{"R@2kt":{"qid":0.0}}` at its end.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationJson<'a> {
    /// The evaluation.
    pub evaluation: &'a Evaluation,
    /// Whether the value of every query is written too.
    pub per_query: bool,
}

impl Serialize for Evaluation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EvaluationJson { evaluation: self, per_query: false }.serialize(serializer)
    }
}

impl Serialize for EvaluationJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let measures = &self.evaluation.measures;
        map.serialize_entry("measures", &InOrder(measures, Summary::of))?;
        map.serialize_entry("warnings", &self.evaluation.warnings)?;
        if self.per_query {
            map.serialize_entry("per_query", &InOrder(measures, PerQuery))?;
        }
        map.end()
    }
}

/// A JSON object with a key for each measure, in their order.
struct InOrder<'a, F>(&'a [MeasureValues], F);

impl<'a, T: Serialize, F: Fn(&'a MeasureValues) -> T> Serialize for InOrder<'a, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|m| (m.measure.to_string(), (self.1)(m))))
    }
}

#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    averages: Averages,
    by_lang: BTreeMap<&'static str, LangMean>,
}

impl Summary {
    fn of(values: &MeasureValues) -> Self {
        Self { averages: values.averages(), by_lang: values.by_lang() }
    }
}

struct PerQuery<'a>(&'a MeasureValues);

impl Serialize for PerQuery<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.queries.iter().map(|q| (&q.qid, q.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warning::WarningKind;

    fn evaluation() -> Evaluation {
        let query = |(qid, lang, value): (&str, &str, f64)| QueryValue {
            qid: qid.to_owned(),
            lang: lang.parse().ok(),
            value,
        };
        let values = [("q1", "te", 1.0), ("q2", "ar", 0.0), ("q3", "ar", 0.5), ("q4", "", 0.5)];
        let of = |name: &str| MeasureValues {
            measure: name.parse().unwrap(),
            queries: values.map(query).to_vec(),
        };
        let warning = Warning { kind: WarningKind::NotJudged, qids: vec!["x".to_owned()] };
        Evaluation { measures: vec![of("R@2kt"), of("MAP")], warnings: vec![warning] }
    }

    #[test]
    fn the_json_form_is_fixed() {
        let mut evaluation = evaluation();
        let json = serde_json::to_string(&evaluation).unwrap();
        let summary = "{\"mean\":0.5,\"macro\":0.5833333333333334,\"by_lang\":{\
                       \"ar\":{\"mean\":0.25,\"n\":2},\"te\":{\"mean\":1.0,\"n\":1},\
                       \"und\":{\"mean\":0.5,\"n\":1}}}";
        let expected = format!(
            "{{\"measures\":{{\"R@2kt\":{summary},\"MAP\":{summary}}},\
             \"warnings\":[\"queries of the run without judgments, not counted: 1 (x)\"]}}"
        );
        assert_eq!(json, expected);
        evaluation.measures.truncate(1);
        let with = EvaluationJson { evaluation: &evaluation, per_query: true };
        let json = serde_json::to_string(&with).unwrap();
        let per_query = r#""per_query":{"R@2kt":{"q1":1.0,"q2":0.0,"q3":0.5,"q4":0.5}}}"#;
        assert!(json.ends_with(per_query), "{json}");
    }

    #[test]
    fn no_query_gives_zeros_instead_of_nan() {
        let none = MeasureValues { measure: "MAP".parse().unwrap(), queries: Vec::new() };
        assert_eq!(none.averages(), Averages { mean: 0.0, macro_mean: 0.0 });
    }
}
