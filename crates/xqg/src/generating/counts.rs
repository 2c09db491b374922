//! What became of the questions, by language: how many were written, how many the gate rejected and
//! why. Counted by work unit, kept beside its rows, added up at the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xqg_measure::table::Table;

use super::judged::{Judged, Reason};
use super::writer::Usage;

/// The counts of one language, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LangCounts {
    /// Questions written, or read by a filter.
    pub questions: u64,
    /// Of these, cut at the greatest length.
    pub cut: u64,
    /// Questions kept.
    pub kept: u64,
    /// Questions rejected, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<Reason, u64>,
}

impl LangCounts {
    fn add(&mut self, other: &Self) {
        self.questions += other.questions;
        self.cut += other.cut;
        self.kept += other.kept;
        for (reason, n) in &other.rejected {
            *self.rejected.entry(*reason).or_default() += n;
        }
    }
}

/// The counts of a unit, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Passages gone through.
    pub passages: u64,
    /// Of these, longer than the model reads, and cut.
    pub cut_passages: u64,
    /// Passages that got no question at all.
    pub without_questions: u64,
    /// Questions that were blank, and left out.
    #[serde(default)]
    pub blank: u64,
    /// What an endpoint was asked.
    pub usage: Usage,
    /// By language code.
    pub languages: BTreeMap<String, LangCounts>,
}

impl Counts {
    /// Adds the counts of another unit.
    pub fn add(&mut self, other: &Self) {
        self.passages += other.passages;
        self.cut_passages += other.cut_passages;
        self.without_questions += other.without_questions;
        self.blank += other.blank;
        self.usage.add(&other.usage);
        for (lang, counts) in &other.languages {
            self.languages.entry(lang.clone()).or_default().add(counts);
        }
    }

    /// Counts a verdict.
    pub fn judge(&mut self, judged: &Judged) {
        let counts = self.languages.entry(judged.question.lang.code().to_owned()).or_default();
        counts.questions += 1;
        match judged.reason {
            None => counts.kept += 1,
            Some(reason) => *counts.rejected.entry(reason).or_default() += 1,
        }
    }

    /// Over all languages.
    pub fn total(&self) -> LangCounts {
        let mut total = LangCounts::default();
        self.languages.values().for_each(|counts| total.add(counts));
        total
    }

    /// A table: a column a language, the lines that say something.
    pub fn table(&self) -> String {
        let total = self.total();
        let columns: Vec<&LangCounts> = self.languages.values().chain([&total]).collect();
        let mut table = Table::default();
        table.row("", self.languages.keys().cloned().chain(["all".to_owned()]));
        let mut line = |name: &str, value: &dyn Fn(&LangCounts) -> u64| {
            table.row(name, columns.iter().map(|c| value(c).to_string()));
        };
        line("questions", &|c| c.questions);
        if total.cut > 0 {
            line("  cut at the greatest length", &|c| c.cut);
        }
        for reason in total.rejected.keys() {
            let rejected = |c: &LangCounts| c.rejected.get(reason).copied().unwrap_or(0);
            line(&format!("  {}", reason.name()), &rejected);
        }
        if total.kept < total.questions {
            line("kept", &|c| c.kept);
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::super::judged::tests::judged;
    use super::*;

    #[test]
    fn units_add_up_and_the_table_shows_reasons() {
        let mut a = Counts { passages: 2, ..Counts::default() };
        a.judge(&judged("p", "te", "x?"));
        let mut b = Counts { passages: 1, cut_passages: 1, ..Counts::default() };
        let mut bad = judged("p", "ko", "x?");
        bad.reject(Reason::Loop);
        b.judge(&bad);
        a.add(&b);
        let total = a.total();
        assert_eq!((a.passages, a.cut_passages, total.questions, total.kept), (3, 1, 2, 1));
        let table = a.table();
        assert!(table.contains("loop") && table.contains("kept"), "{table}");
        assert!(!table.contains("cut"), "{table}");
        let text = serde_json::to_string(&a).unwrap();
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), a);
    }
}
