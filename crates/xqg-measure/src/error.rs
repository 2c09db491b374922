//! The one error type of this crate: measures that do not exist, inputs that a measure needs and
//! did not get, passages that cannot be found, and numbers that would mean nothing. What is odd but
//! no reason to stop is a [`Warning`](crate::warning::Warning) instead.

use std::path::PathBuf;

use xqg_data::error::DataError;

use crate::measure::{KNOWN_FORMS, Measure};

/// Everything that can keep a measure from being computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// A file could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A name that is no measure's.
    #[error("reading a measure: expected one of {KNOWN_FORMS}, found `{found}`")]
    UnknownMeasure {
        /// The name as it was given.
        found: String,
    },
    /// No measure was asked for.
    #[error("evaluating: expected at least one measure, found none\nhint: for example nDCG@10")]
    NoMeasure,
    /// A measure lacks what it is computed from.
    #[error("evaluating {measure}: expected {needs}, found none")]
    MissingInput {
        /// The measure that was asked for.
        measure: Measure,
        /// The input that it is computed from.
        needs: &'static str,
    },
    /// Not one query of the run can be scored, so every value would be empty or zero.
    #[error(
        "evaluating {measure}: expected queries that the run and the {source_name} share, \
         found none\nhint: check that both use the same query ids"
    )]
    NothingShared {
        /// The first measure that has no query.
        measure: Measure,
        /// Where the other query ids come from: `qrels` or `questions with answers`.
        source_name: &'static str,
    },
    /// Passages of a run that the corpus does not hold.
    #[error(
        "reading the passages of the run: {}: expected every docid of the run, \
         found no {}\nhint: give the corpus that was searched",
        corpus.display(),
        list_missing(shown, *total)
    )]
    UnknownPassages {
        /// The corpus file.
        corpus: PathBuf,
        /// The first docids that are missing, at most twenty.
        shown: Vec<String>,
        /// How many are missing.
        total: usize,
    },
    /// Two evaluations that cannot be compared.
    #[error("comparing {run} with {baseline}: expected {expected}, found {found}")]
    NotComparable {
        /// The name of the baseline.
        baseline: String,
        /// The name of the run.
        run: String,
        /// What both must have in common.
        expected: String,
        /// What they have.
        found: String,
    },
}

fn list_missing(shown: &[String], total: usize) -> String {
    let more = total.saturating_sub(shown.len());
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_passages_are_named_and_the_rest_counted() {
        let error = MeasureError::UnknownPassages {
            corpus: PathBuf::from("c.jsonl"),
            shown: vec!["d1".into(), "d2".into()],
            total: 5,
        };
        let text = error.to_string();
        assert!(
            text.contains("c.jsonl: expected every docid of the run, found no d1, d2 and 3 more")
        );
        assert!(text.contains("\nhint: "));
    }
}
