//! A measure as a value: which formula, with which cut. It is read from and printed in the form
//! that papers use, `nDCG@10` or `R@2kt`, and reading what was printed gives the same value. The
//! formulas themselves lie under [`measures`](crate::measures) and in
//! [`answer_recall`](crate::answer_recall).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::error::MeasureError;

/// The forms that can be read, for messages and help texts.
pub const KNOWN_FORMS: &str = "nDCG@10, R@100, P@5, RR@10 (MRR@10), RR (MRR), MAP (AP), R@2kt, R@5kt, with any whole number \
     above 0 after the @";

/// A measure with its cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Normalised discounted cumulative gain of the first `cut` passages.
    Ndcg {
        /// The depth in passages.
        cut: NonZeroU32,
    },
    /// The share of the relevant passages that are among the first `cut`.
    Recall {
        /// The depth in passages.
        cut: NonZeroU32,
    },
    /// The share of relevant ones among the first `cut` passages.
    Precision {
        /// The depth in passages.
        cut: NonZeroU32,
    },
    /// One over the rank of the first relevant passage.
    ReciprocalRank {
        /// The depth in passages; the whole ranking without one.
        cut: Option<NonZeroU32>,
    },
    /// Mean over the relevant passages of the precision at their ranks.
    AveragePrecision,
    /// Whether an answer occurs in the first thousands of tokens (XOR-TyDi's R@kt).
    AnswerRecall {
        /// The depth in thousands of word tokens.
        kilotokens: NonZeroU32,
    },
}

impl Measure {
    /// Whether it is computed from answer strings and passage texts rather than from qrels.
    pub fn reads_answers(&self) -> bool {
        matches!(self, Self::AnswerRecall { .. })
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ndcg { cut } => write!(f, "nDCG@{cut}"),
            Self::Recall { cut } => write!(f, "R@{cut}"),
            Self::Precision { cut } => write!(f, "P@{cut}"),
            Self::ReciprocalRank { cut: Some(cut) } => write!(f, "RR@{cut}"),
            Self::ReciprocalRank { cut: None } => f.write_str("RR"),
            Self::AveragePrecision => f.write_str("MAP"),
            Self::AnswerRecall { kilotokens } => write!(f, "R@{kilotokens}kt"),
        }
    }
}

impl FromStr for Measure {
    type Err = MeasureError;

    /// Reads a measure; upper and lower case are the same.
    fn from_str(text: &str) -> Result<Self, MeasureError> {
        let lower = text.trim().to_ascii_lowercase();
        let (name, depth) = match lower.split_once('@') {
            Some((name, depth)) => (name, Some(depth)),
            None => (lower.as_str(), None),
        };
        parse(name, depth).ok_or_else(|| MeasureError::UnknownMeasure { found: text.to_owned() })
    }
}

/// The measure of a name in lower case and what stood behind its `@`.
fn parse(name: &str, depth: Option<&str>) -> Option<Measure> {
    let Some(depth) = depth else {
        return match name {
            "map" | "ap" => Some(Measure::AveragePrecision),
            "rr" | "mrr" => Some(Measure::ReciprocalRank { cut: None }),
            _ => None,
        };
    };
    if let Some(kilotokens) = depth.strip_suffix("kt") {
        let kilotokens = number(kilotokens)?;
        return (name == "r").then_some(Measure::AnswerRecall { kilotokens });
    }
    let cut = number(depth)?;
    match name {
        "ndcg" => Some(Measure::Ndcg { cut }),
        "r" | "recall" => Some(Measure::Recall { cut }),
        "p" => Some(Measure::Precision { cut }),
        "rr" | "mrr" => Some(Measure::ReciprocalRank { cut: Some(cut) }),
        _ => None,
    }
}

/// A whole number above zero, digits only.
fn number(text: &str) -> Option<NonZeroU32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_measure() -> impl Strategy<Value = Measure> {
        let cut = || (1u32..).prop_map(|n| NonZeroU32::new(n).unwrap());
        prop_oneof![
            cut().prop_map(|cut| Measure::Ndcg { cut }),
            cut().prop_map(|cut| Measure::Recall { cut }),
            cut().prop_map(|cut| Measure::Precision { cut }),
            proptest::option::of(cut()).prop_map(|cut| Measure::ReciprocalRank { cut }),
            Just(Measure::AveragePrecision),
            cut().prop_map(|kilotokens| Measure::AnswerRecall { kilotokens }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(measure in any_measure()) {
            prop_assert_eq!(measure.to_string().parse::<Measure>().unwrap(), measure);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,12}") {
            if let Ok(measure) = text.parse::<Measure>() {
                prop_assert_eq!(measure.to_string().parse::<Measure>().unwrap(), measure);
            }
        }
    }

    #[test]
    fn aliases_print_as_the_field_writes_them() {
        for (text, printed) in [
            ("ndcg@10", "nDCG@10"),
            ("MRR@10", "RR@10"),
            ("mrr", "RR"),
            ("AP", "MAP"),
            ("Recall@100", "R@100"),
            ("R@2kt", "R@2kt"),
            (" P@5 ", "P@5"),
        ] {
            assert_eq!(text.parse::<Measure>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn unknown_names_are_answered_with_the_known_forms() {
        for text in ["", "R@0", "R@", "R@kt", "P@2kt", "MAP@5", "nDCG", "R@+5", "R@-1", "F1"] {
            let error = text.parse::<Measure>().unwrap_err().to_string();
            assert!(error.contains("nDCG@10") && error.contains("R@2kt"), "{text}: {error}");
            assert!(error.ends_with(&format!("found `{text}`")));
        }
    }
}
