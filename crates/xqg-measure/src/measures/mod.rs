//! Measures over qrels, one file each, by the definitions of trec_eval: a passage is relevant when
//! its grade is above 0, a passage without judgment is not relevant, and a query without any
//! relevant passage scores 0. What all of them read, a ranking seen through its judgments, is
//! [`Judged`].

pub mod average_precision;
pub mod ndcg;
pub mod precision;
pub mod recall;
pub mod reciprocal_rank;

use std::collections::BTreeMap;

use xqg_data::run::ScoredDoc;

use crate::measure::Measure;

/// One ranking seen through the judgments of its query. Grades of 0 and below are all the same to
/// trec_eval, as are passages without judgment: here all of them are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    grades: Vec<u32>,
    ideal: Vec<u32>,
}

impl Judged {
    /// Looks up the grade of each passage of a ranking, best first.
    pub fn new(ranking: &[ScoredDoc], judgments: &BTreeMap<String, i32>) -> Self {
        let grade = |docid: &str| positive(judgments.get(docid).copied().unwrap_or(0));
        let mut ideal: Vec<u32> = judgments.values().copied().map(positive).collect();
        ideal.retain(|&grade| grade > 0);
        ideal.sort_unstable_by(|a, b| b.cmp(a));
        Self { grades: ranking.iter().map(|doc| grade(&doc.docid)).collect(), ideal }
    }

    /// The grades of the first `cut` passages, best first.
    pub fn first(&self, cut: usize) -> &[u32] {
        &self.grades[..cut.min(self.grades.len())]
    }

    /// The grades of all ranked passages, best first.
    pub fn grades(&self) -> &[u32] {
        &self.grades
    }

    /// The grades above 0 of all judged passages, ranked or not, greatest first.
    pub fn ideal(&self) -> &[u32] {
        &self.ideal
    }

    /// The number of relevant passages, ranked or not.
    pub fn relevant(&self) -> usize {
        self.ideal.len()
    }

    /// The number of relevant passages among the first `cut`.
    pub fn hits(&self, cut: usize) -> usize {
        self.first(cut).iter().filter(|&&grade| grade > 0).count()
    }
}

fn positive(grade: i32) -> u32 {
    u32::try_from(grade).unwrap_or(0)
}

/// The value of a measure for one ranking, from 0 to 1; `None` for a measure that reads answers
/// instead of judgments.
pub fn value(measure: Measure, judged: &Judged) -> Option<f64> {
    Some(match measure {
        Measure::Ndcg { cut } => ndcg::ndcg(judged, cut.get() as usize),
        Measure::Recall { cut } => recall::recall(judged, cut.get() as usize),
        Measure::Precision { cut } => precision::precision(judged, cut.get() as usize),
        Measure::ReciprocalRank { cut } => {
            reciprocal_rank::reciprocal_rank(judged, cut.map_or(usize::MAX, |c| c.get() as usize))
        }
        Measure::AveragePrecision => average_precision::average_precision(judged),
        Measure::AnswerRecall { .. } => return None,
    })
}

/// A ranking `d0, d1, ...` with the grades given, and further judged passages that it misses.
#[cfg(test)]
fn judged(ranked: &[i32], missed: &[i32]) -> Judged {
    let docid = |i: usize| format!("d{i}");
    let docs: Vec<ScoredDoc> =
        (0..ranked.len()).map(|i| ScoredDoc { docid: docid(i), score: -(i as f64) }).collect();
    let grades = ranked.iter().chain(missed).enumerate();
    Judged::new(&docs, &grades.map(|(i, &grade)| (docid(i), grade)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn negative_and_missing_judgments_are_not_relevant() {
        let docs = ["a", "b", "c"].map(|d| ScoredDoc { docid: d.to_owned(), score: 0.0 });
        let judgments = BTreeMap::from([("a".to_owned(), -1), ("c".to_owned(), 2)]);
        let judged = Judged::new(&docs, &judgments);
        assert_eq!((judged.grades(), judged.ideal()), (&[0, 0, 2][..], &[2][..]));
    }

    proptest! {
        #[test]
        fn every_measure_lies_between_0_and_1(
            ranked in proptest::collection::vec(-1..4, 0..12),
            missed in proptest::collection::vec(-1..4, 0..5),
        ) {
            let judged = judged(&ranked, &missed);
            for name in ["nDCG@10", "R@3", "P@5", "RR", "RR@2", "MAP"] {
                let value = value(name.parse().unwrap(), &judged).unwrap();
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{name} {value}");
            }
        }
    }
}
