//! What became of the queries, by language: how many got a positive, by which text, and why others
//! got none. Counted by work unit, kept beside its rows, added up at the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xqg_measure::table::Table;

/// The counts of one language, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LangCounts {
    /// Queries read.
    pub queries: u64,
    /// Left out because they are in a file of --leave-out.
    pub left_out: u64,
    /// Skipped: no answer that names anything, and no judgment.
    pub no_answer: u64,
    /// Skipped: neither they nor a translation can be ranked.
    pub not_ranked: u64,
    /// Skipped: no passage near enough holds an answer.
    pub no_passage: u64,
    /// Queries with a translation, among those ranked.
    pub translated: u64,
    /// Queries for which the ranking of the question alone finds a positive.
    pub by_question: u64,
    /// Queries for which the ranking of the translation alone finds one.
    pub by_translation: u64,
    /// Queries whose positives are judged.
    pub by_qrels: u64,
    /// Rows written: queries with a positive.
    pub rows: u64,
    /// Positives in them.
    pub positives: u64,
    /// Negatives in them.
    pub negatives: u64,
    /// Rows with fewer negatives than were asked for.
    pub few_negatives: u64,
}

impl LangCounts {
    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        let pairs = self.fields_mut().into_iter().zip(other.fields_mut());
        pairs.for_each(|(sum, n)| *sum += *n);
    }

    fn fields_mut(&mut self) -> [&mut u64; 13] {
        [
            &mut self.queries,
            &mut self.left_out,
            &mut self.no_answer,
            &mut self.not_ranked,
            &mut self.no_passage,
            &mut self.translated,
            &mut self.by_question,
            &mut self.by_translation,
            &mut self.by_qrels,
            &mut self.rows,
            &mut self.positives,
            &mut self.negatives,
            &mut self.few_negatives,
        ]
    }
}

/// A line's name and what stands in it.
type Line = (&'static str, fn(&LangCounts) -> u64);

/// The lines of the table.
const LINES: [Line; 13] = [
    ("queries", |c| c.queries),
    ("  left out", |c| c.left_out),
    ("  no answer to look for", |c| c.no_answer),
    ("  no English to match", |c| c.not_ranked),
    ("  no passage found", |c| c.no_passage),
    ("rows written", |c| c.rows),
    ("found by the question", |c| c.by_question),
    ("found by the translation", |c| c.by_translation),
    ("judged", |c| c.by_qrels),
    ("with a translation", |c| c.translated),
    ("positives", |c| c.positives),
    ("negatives", |c| c.negatives),
    ("rows with fewer negatives", |c| c.few_negatives),
];

/// Counts by language code; `und` where a query has no language.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(pub BTreeMap<String, LangCounts>);

impl Counts {
    /// The counts of a language.
    pub fn of(&mut self, lang: Option<xqg_data::lang::Lang>) -> &mut LangCounts {
        self.0.entry(lang.map_or("und", |l| l.code()).to_owned()).or_default()
    }

    /// Adds the counts of another unit.
    pub fn add(&mut self, other: &Self) {
        for (lang, counts) in &other.0 {
            self.0.entry(lang.clone()).or_default().add(counts);
        }
    }

    /// Over all languages.
    pub fn total(&self) -> LangCounts {
        let mut total = LangCounts::default();
        self.0.values().for_each(|counts| total.add(counts));
        total
    }

    /// A table: a column a language, the lines that say something.
    pub fn table(&self) -> String {
        let total = self.total();
        let columns: Vec<&LangCounts> = self.0.values().chain([&total]).collect();
        let mut table = Table::default();
        table.row("", self.0.keys().cloned().chain(["all".to_owned()]));
        for (name, value) in LINES.into_iter().filter(|(_, value)| value(&total) > 0) {
            table.row(name, columns.iter().map(|c| value(c).to_string()));
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up_and_empty_lines_are_not_shown() {
        let mut a = Counts::default();
        *a.of(None) = LangCounts { queries: 2, rows: 1, ..LangCounts::default() };
        let mut b = Counts::default();
        b.of(None).queries = 3;
        b.of(Some("te".parse().unwrap())).few_negatives = 4;
        a.add(&b);
        let wanted = LangCounts { queries: 5, rows: 1, few_negatives: 4, ..Default::default() };
        assert_eq!(a.total(), wanted);
        let table = a.table();
        assert!(table.contains("queries") && !table.contains("judged"), "{table}");
    }
}
