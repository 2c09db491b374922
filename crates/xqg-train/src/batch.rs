//! From drawn rows to a batch: each passage once as a column, and for each query what its columns
//! are to it.

use std::collections::BTreeMap;

use xqg_kernel::dropout::Key;

use crate::cache::keyed;
use crate::config::LossConfig;
use crate::examples::{Example, Examples};
use crate::loss::contrastive::Targets;
use crate::loss::distillation::Candidates;
use crate::network::pass::Text;
use crate::sampler::Drawn;

/// What one step looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The queries.
    pub queries: Vec<Text>,
    /// The passages, each once.
    pub passages: Vec<Text>,
    /// Which passages are positives of which query, and which are no negatives.
    pub targets: Targets,
    /// The teacher's scores, where the rows have them.
    pub teacher: Vec<Candidates>,
    /// Queries of different languages with the same positive.
    pub pairs: Vec<(usize, usize)>,
    /// The ids of the first queries, for messages.
    pub names: String,
}

/// Queries that a message names.
const NAMED: usize = 5;

impl Batch {
    /// Makes a batch of drawn rows; `key` is the step's.
    pub fn new(examples: &Examples, drawn: &[Drawn], loss: &LossConfig, key: Key) -> Self {
        let rows: Vec<&Example> = drawn.iter().map(|d| &examples.train[d.example]).collect();
        let mut columns = Columns::default();
        let candidates: Vec<Vec<(usize, Option<f32>)>> =
            drawn.iter().map(|d| columns.places(&d.passages)).collect();
        let positives: Vec<usize> = candidates.iter().map(|c| c[0].0).collect();
        let lower = |place: &usize| examples.passages[*place].text.to_lowercase();
        let lower: Option<Vec<String>> =
            loss.mask_answers.then(|| columns.passages.iter().map(lower).collect());
        let ignored = rows
            .iter()
            .zip(&positives)
            .map(|(row, &own)| ignored(row, own, &columns.passages, lower.as_deref()))
            .collect();
        let ids = |place: &usize| examples.passages[*place].ids.clone();
        let qids: Vec<&str> = rows.iter().take(NAMED).map(|row| row.qid.as_str()).collect();
        Self {
            queries: keyed(rows.iter().map(|row| row.ids.clone()).collect(), key.part(0)),
            passages: keyed(columns.passages.iter().map(ids).collect(), key.part(1)),
            pairs: pairs(&rows, &positives),
            targets: Targets { positives, ignored },
            teacher: candidates.iter().map(|c| taught(c)).collect(),
            names: qids.join(", "),
        }
    }
}

/// The passages of a batch in the order in which they were first drawn.
#[derive(Default)]
struct Columns {
    of: BTreeMap<usize, usize>,
    passages: Vec<usize>,
}

impl Columns {
    fn places(&mut self, passages: &[(usize, Option<f32>)]) -> Vec<(usize, Option<f32>)> {
        let place = |&(passage, score): &(usize, Option<f32>)| {
            let next = self.passages.len();
            let column = *self.of.entry(passage).or_insert(next);
            if column == next {
                self.passages.push(passage);
            }
            (column, score)
        };
        passages.iter().map(place).collect()
    }
}

/// The columns that are neither a query's drawn positive nor negatives of it: its other positives,
/// and passages of other rows that hold one of its answers. Its own hard negatives stay: whoever
/// mined them has looked. `texts` are the columns' in lower case, where answers are looked for.
fn ignored(row: &Example, own: usize, passages: &[usize], texts: Option<&[String]>) -> Vec<usize> {
    let among = |list: &[(usize, Option<f32>)], passage| list.iter().any(|&(p, _)| p == passage);
    let holds = |column: usize, passage: usize| {
        let holds = |text: &String| row.answers.iter().any(|answer| text.contains(answer));
        !among(&row.negatives, passage) && texts.is_some_and(|texts| holds(&texts[column]))
    };
    let other = |&(column, &passage): &(usize, &usize)| {
        column != own && (among(&row.positives, passage) || holds(column, passage))
    };
    passages.iter().enumerate().filter(other).map(|(column, _)| column).collect()
}

/// The candidates of a row whose scores are known; none where that is not all of at least two.
fn taught(candidates: &[(usize, Option<f32>)]) -> Candidates {
    let scores: Option<Vec<f64>> = candidates.iter().map(|(_, s)| s.map(f64::from)).collect();
    match scores.filter(|scores| scores.len() > 1) {
        Some(scores) => {
            // A negative that was drawn twice counts once.
            let all: BTreeMap<usize, f64> =
                candidates.iter().map(|c| c.0).zip(scores).skip(1).collect();
            let first = candidates[0];
            let best = first.1.map_or(0.0, f64::from);
            let rest = all.into_iter().filter(|(column, _)| *column != first.0);
            let (columns, scores) = std::iter::once((first.0, best)).chain(rest).unzip();
            Candidates { columns, scores }
        }
        None => Candidates::default(),
    }
}

/// Neighbouring pairs of queries with one positive in different languages.
fn pairs(rows: &[&Example], positives: &[usize]) -> Vec<(usize, usize)> {
    let mut by_positive: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (query, &positive) in positives.iter().enumerate() {
        by_positive.entry(positive).or_default().push(query);
    }
    let differ = |pair: &&[usize]| rows[pair[0]].lang != rows[pair[1]].lang;
    let pair = |pair: &[usize]| (pair[0], pair[1]);
    by_positive.values().flat_map(|group| group.windows(2).filter(differ).map(pair)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::PassageTokens;

    fn example(qid: &str, lang: &str, positives: &[usize], negatives: &[usize]) -> Example {
        let with = |list: &[usize]| list.iter().map(|&p| (p, Some(p as f32))).collect();
        Example {
            qid: qid.into(),
            lang: Some(lang.into()),
            ids: vec![1, 2],
            answers: vec!["oslo".into()],
            written: vec!["Oslo".into()],
            positives: with(positives),
            negatives: with(negatives),
        }
    }

    fn examples() -> Examples {
        let texts = ["Oslo is a city", "oslo again", "bergen", "more about oslo", "rome"];
        let passage = |text: &&str| PassageTokens { ids: vec![7], text: (*text).into(), start: 0 };
        Examples {
            train: vec![example("a", "fi", &[0, 2], &[4, 3]), example("b", "ja", &[0], &[1])],
            held_out: vec![],
            passages: texts.iter().map(passage).collect(),
            truncated: 0,
        }
    }

    fn drawn(example: usize, passages: &[usize]) -> Drawn {
        let with = |&p: &usize| (p, Some(p as f32));
        Drawn { example, passages: passages.iter().map(with).collect() }
    }

    #[test]
    fn each_passage_is_one_column_and_answers_of_others_are_no_negatives() {
        let rows = [drawn(0, &[2, 4, 3, 4]), drawn(1, &[0, 1])];
        let batch = Batch::new(&examples(), &rows, &LossConfig::default(), Key::new(1));
        // Columns: passages 2, 4, 3, 0, 1.
        assert_eq!(batch.passages.len(), 5);
        assert_eq!(batch.targets.positives, [0, 3]);
        // Query a: passage 0 is a positive too, 1 holds the answer, 3 is its own negative.
        // Query b: passage 3 holds the answer, 1 is its own negative.
        assert_eq!(batch.targets.ignored, [vec![3, 4], vec![2]]);
        assert_eq!(batch.teacher[0].columns, [0, 1, 2]);
        assert_eq!(batch.teacher[0].scores, [2.0, 4.0, 3.0]);
        assert!(batch.pairs.is_empty() && batch.names == "a, b");
    }

    #[test]
    fn queries_of_two_languages_with_one_positive_are_a_pair() {
        let rows = [drawn(0, &[0]), drawn(1, &[0])];
        let loss = LossConfig { mask_answers: false, ..LossConfig::default() };
        let batch = Batch::new(&examples(), &rows, &loss, Key::new(1));
        assert_eq!(batch.pairs, [(0, 1)]);
        assert_eq!(batch.targets.positives, [0, 0]);
        assert_eq!(batch.targets.ignored, [vec![], vec![]] as [Vec<usize>; 2]);
        assert!(
            batch.teacher.iter().all(|t| t.columns.is_empty()),
            "a list of one teaches nothing"
        );
    }
}
