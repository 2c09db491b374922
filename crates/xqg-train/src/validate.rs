//! The validation measures inside of training. R@2kt, over the rankings of the held-out queries, is
//! computed by whoever knows the word tokens (a [`Judge`]); where queries have no answers, the
//! reciprocal rank of their positives decides. Rows are ranked over the passages of all held-out
//! rows, lessons over the whole corpus. The verdict over a whole collection is `xqg evaluate`'s.

use std::collections::BTreeMap;

use rayon::prelude::*;
use xqg_kernel::dropout::Key;

use crate::cache::keyed;
use crate::corpus::Corpus;
use crate::error::TrainError;
use crate::examples::{Example, Examples};
use crate::loss::Scores;
use crate::network::pass::Text;
use crate::towers::Towers;

/// The reciprocal rank's name in logs.
pub const RECIPROCAL_RANK: &str = "MRR@10";

/// The name of the recall of answers in logs.
pub const ANSWER_RECALL: &str = "R@2kt";

/// Held-out rows that are asked, and negatives of each that are among the passages.
const ROWS: usize = 400;
const NEGATIVES: usize = 2;

/// How deep rankings are: two thousand word tokens are seldom more than forty passages.
const DEPTH: usize = 150;

/// Questions that are ranked at once.
const AT_ONCE: usize = 128;

/// A measure's name and value.
pub type Value = (&'static str, f64);

/// A held-out query with the texts that it ranked first, titles apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked<'a> {
    /// The query's id.
    pub qid: &'a str,
    /// Its language, where that is known.
    pub lang: Option<&'a str>,
    /// Its answers as they are written.
    pub answers: &'a [String],
    /// The texts, best first.
    pub texts: Vec<&'a str>,
}

/// Gives the recall of answers within two thousand word tokens; `None` where no query has answers.
pub type Judge<'a> = dyn FnMut(&[Ranked<'_>]) -> Option<f64> + 'a;

/// The measures over held-out rows, so many tokens encoded at once; `None` where embeddings are no numbers.
///
/// # Errors
/// When the device refuses.
pub fn over_rows(
    examples: &Examples,
    (towers, tokens): (&mut Towers, usize),
    judge: &mut Judge<'_>,
) -> Result<Option<Vec<Value>>, TrainError> {
    let rows = &examples.held_out[..examples.held_out.len().min(ROWS)];
    if rows.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let columns = pool(rows);
    let queries = texts(rows.iter().map(|row| &row.ids));
    let passages = texts(columns.keys().map(|&p| &examples.passages[p].ids));
    let dim = towers.all[0].encoder.config().hidden_size;
    let (q, p) = (towers.embed(0, &queries, tokens)?, towers.embed(1, &passages, tokens)?);
    if !finite(&q) || !finite(&p) {
        return Ok(None);
    }
    let scores = Scores::new(&q, &p, dim, 1.0);
    let places: Vec<usize> = columns.keys().copied().collect();
    let best: Vec<Vec<usize>> =
        (0..rows.len()).into_par_iter().map(|i| best(scores.row(i))).collect();
    let body = |column: usize| examples.passages[places[column]].body();
    let ranked: Vec<Ranked<'_>> = rows
        .iter()
        .zip(best)
        .map(|(row, best)| Ranked {
            qid: &row.qid,
            lang: row.lang.as_deref(),
            answers: &row.written,
            texts: best.into_iter().map(body).collect(),
        })
        .collect();
    let total: f64 =
        rows.iter().enumerate().map(|(i, row)| reciprocal(scores.row(i), row, &columns)).sum();
    let recall = judge(&ranked).map(|value| (ANSWER_RECALL, value));
    Ok(Some(recall.into_iter().chain([(RECIPROCAL_RANK, total / rows.len() as f64)]).collect()))
}

/// Whether embeddings can be ranked by: scores that are no numbers would all seem alike.
fn finite(embeddings: &[f32]) -> bool {
    embeddings.iter().all(|x| x.is_finite())
}

/// The recall of answers over a corpus, so many tokens encoded at once; `None` where embeddings are no numbers.
///
/// # Errors
/// When the device refuses.
pub fn over_corpus(
    corpus: &Corpus,
    (towers, tokens): (&mut Towers, usize),
    judge: &mut Judge<'_>,
) -> Result<Option<Vec<Value>>, TrainError> {
    let lessons = &corpus.held_out;
    let queries = texts(lessons.iter().map(|lesson| &lesson.ids));
    let dim = towers.all[0].encoder.config().hidden_size;
    let vectors = towers.embed(0, &queries, tokens)?;
    if !finite(&vectors) {
        return Ok(None);
    }
    let mut ranked = Vec::with_capacity(lessons.len());
    for (lessons, vectors) in lessons.chunks(AT_ONCE).zip(vectors.chunks(AT_ONCE * dim)) {
        let scores = Scores::new(vectors, &corpus.passages, dim, 1.0);
        let best: Vec<Vec<usize>> =
            (0..lessons.len()).into_par_iter().map(|i| best(scores.row(i))).collect();
        ranked.extend(lessons.iter().zip(best).map(|(lesson, best)| Ranked {
            qid: &lesson.qid,
            lang: lesson.lang.as_deref(),
            answers: &lesson.answers,
            texts: best.into_iter().map(|passage| corpus.texts[passage].as_str()).collect(),
        }));
    }
    Ok(Some(judge(&ranked).map(|value| (ANSWER_RECALL, value)).into_iter().collect()))
}

fn texts<'a>(ids: impl Iterator<Item = &'a Vec<u32>>) -> Vec<Text> {
    keyed(ids.cloned().collect(), Key::new(0))
}

/// The columns of the highest scores, best first; of equal ones the first.
fn best(scores: &[f64]) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if columns.len() > DEPTH {
        columns.select_nth_unstable_by(DEPTH, order);
        columns.truncate(DEPTH);
    }
    columns.sort_unstable_by(order);
    columns
}

/// The passages of some rows, in the order of their places, each with its column.
fn pool(rows: &[Example]) -> BTreeMap<usize, usize> {
    let of = |row: &Example| {
        let negatives = row.negatives.iter().take(NEGATIVES);
        row.positives.iter().chain(negatives).map(|p| p.0).collect::<Vec<_>>()
    };
    let mut columns: BTreeMap<usize, usize> =
        rows.iter().flat_map(of).map(|passage| (passage, 0)).collect();
    columns.values_mut().enumerate().for_each(|(i, column)| *column = i);
    columns
}

/// One over the rank of a row's best positive, or zero beyond ten. Equal scores rank below.
fn reciprocal(scores: &[f64], row: &Example, columns: &BTreeMap<usize, usize>) -> f64 {
    let places: Vec<usize> = row.positives.iter().map(|(p, _)| columns[p]).collect();
    let best = places.iter().map(|&c| scores[c]).fold(f64::NEG_INFINITY, f64::max);
    let above = |(column, score): &(usize, &f64)| **score >= best && !places.contains(column);
    let rank = 1 + scores.iter().enumerate().filter(above).count();
    if rank <= 10 { 1.0 / rank as f64 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_hand() {
        let row = |positives: &[usize]| Example {
            positives: positives.iter().map(|&p| (p, None)).collect(),
            negatives: vec![(9, None)],
            ..Example::default()
        };
        let columns = pool(&[row(&[4, 7]), row(&[2])]);
        assert_eq!(columns, BTreeMap::from([(2, 0), (4, 1), (7, 2), (9, 3)]));
        let scores = [0.9, 0.1, 0.5, 0.5];
        assert_eq!(reciprocal(&scores, &row(&[4, 7]), &columns), 1.0 / 3.0);
        assert_eq!(reciprocal(&scores, &row(&[2]), &columns), 1.0);
    }

    #[test]
    fn the_best_columns_are_the_first_of_a_full_sort() {
        let scores: Vec<f64> = (0..400).map(|i| f64::from(i * 37 % 101)).collect();
        let mut all: Vec<usize> = (0..400).collect();
        all.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        assert_eq!(best(&scores), all[..DEPTH]);
        assert_eq!(best(&[1.0, 3.0, 3.0]), [1, 2, 0]);
    }
}
