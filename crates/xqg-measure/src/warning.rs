//! What is odd about a run but no reason to stop: queries that are missing, rankings that are too
//! short, questions that cannot be scored. Warnings are data; whoever prints the numbers prints
//! them too.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::measure::Measure;

/// How many query ids a printed warning names.
const SHOWN_QIDS: usize = 3;

/// A kind of oddity and the queries that show it; in JSON it is the text that is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is odd.
    pub kind: WarningKind,
    /// The queries it is odd about, in the order of their ids.
    pub qids: Vec<String>,
}

/// What can be odd about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// Judged queries or questions that the run has no ranking for; each scored 0.
    MissingScoredZero,
    /// Questions that the run has no ranking for; the official script leaves them out.
    MissingNotCounted,
    /// Queries of the run without judgments; not counted.
    NotJudged,
    /// Queries of the run that are not in the query file; not counted.
    NotAsked,
    /// Judged queries without any relevant passage: no ranking can score above 0.
    NothingRelevant,
    /// Questions without an answer that can be looked for (none, or only yes and no); not counted.
    NoAnswer,
    /// Rankings that end before the measure's token limit; the answer had less room than it should.
    ShortRanking {
        /// The measure whose limit is not reached.
        measure: Measure,
    },
    /// Scored queries whose language is not known, beside others whose language is.
    NoLanguage,
    /// Queries that only one of the two runs has a value for; left out of the comparison.
    NotCompared {
        /// The measure that lacks a value.
        measure: Measure,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&str> = self.qids.iter().take(SHOWN_QIDS).map(String::as_str).collect();
        let more = if self.qids.len() > SHOWN_QIDS { ", …" } else { "" };
        write!(f, "{}: {} ({}{more})", self.kind, self.qids.len(), shown.join(", "))
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingScoredZero => "queries missing from the run, scored 0",
            Self::MissingNotCounted => "queries missing from the run, not counted",
            Self::NotJudged => "queries of the run without judgments, not counted",
            Self::NotAsked => "queries of the run that the query file does not have, not counted",
            Self::NothingRelevant => "judged queries without a relevant passage, scored 0",
            Self::NoAnswer => "questions without an answer to look for, not counted",
            Self::NoLanguage => "queries without a language, counted as `und`",
            Self::ShortRanking { measure } => {
                return write!(f, "rankings too short for {measure}, scored on what there is");
            }
            Self::NotCompared { measure } => {
                return write!(f, "queries with {measure} in one run only, not compared");
            }
        })
    }
}

/// A warning and the runs it is about; in JSON it is the text that is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunWarning {
    /// The names of the runs that share it.
    pub runs: Vec<String>,
    /// The warning.
    pub warning: Warning,
}

impl fmt::Display for RunWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.runs.join(", "), self.warning)
    }
}

impl Serialize for RunWarning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Adds a warning about a run; one that is known from another run is shared with it.
pub(crate) fn share(warnings: &mut Vec<RunWarning>, run: &str, warning: &Warning) {
    match warnings.iter_mut().find(|known| known.warning == *warning) {
        Some(known) => known.runs.push(run.to_owned()),
        None => warnings.push(RunWarning { runs: vec![run.to_owned()], warning: warning.clone() }),
    }
}

/// A warning of this kind, unless there is no query to warn about.
pub(crate) fn warn_about(kind: WarningKind, qids: Vec<String>) -> Option<Warning> {
    (!qids.is_empty()).then_some(Warning { kind, qids })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted_but_not_printed() {
        let qids = (0..7).map(|i| format!("q{i}")).collect();
        let warning = warn_about(WarningKind::NotJudged, qids).unwrap();
        let text = "queries of the run without judgments, not counted: 7 (q0, q1, q2, …)";
        assert_eq!(warning.to_string(), text);
        assert_eq!(warn_about(WarningKind::NotJudged, Vec::new()), None);
    }
}
