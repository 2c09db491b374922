//! The validation measure inside of training: held-out queries against the passages of all held-out
//! rows. Small enough to be taken every hundred steps; the verdict over a whole collection is
//! `xqg evaluate`'s.

use std::collections::BTreeMap;

use xqg_kernel::dropout::Key;

use crate::cache::keyed;
use crate::examples::{Example, Examples};
use crate::loss::Scores;
use crate::towers::Towers;

/// The measure's name in logs.
pub const MEASURE: &str = "MRR@10";

/// Held-out queries that are asked, and negatives of each that are among the passages.
const QUERIES: usize = 400;
const NEGATIVES: usize = 2;

/// The mean reciprocal rank of the best positive among the first ten; `None` where nothing was held
/// out.
pub fn validate(examples: &Examples, towers: &mut Towers) -> Option<f64> {
    let rows = &examples.held_out[..examples.held_out.len().min(QUERIES)];
    if rows.is_empty() {
        return None;
    }
    let columns = pool(rows);
    let key = Key::new(0);
    let queries = keyed(rows.iter().map(|row| row.ids.clone()).collect(), key);
    let passages = columns.keys().map(|&p| examples.passages[p].ids.clone()).collect();
    let passages = keyed(passages, key);
    let dim = towers.all[0].encoder.config().hidden_size;
    let (q, p) = (towers.embed(0, &queries), towers.embed(1, &passages));
    let scores = Scores::new(&q, &p, dim, 1.0);
    let total: f64 =
        rows.iter().enumerate().map(|(i, row)| reciprocal(scores.row(i), row, &columns)).sum();
    Some(total / rows.len() as f64)
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
            qid: String::new(),
            lang: None,
            ids: vec![],
            answers: vec![],
            positives: positives.iter().map(|&p| (p, None)).collect(),
            negatives: vec![(9, None)],
        };
        let columns = pool(&[row(&[4, 7]), row(&[2])]);
        assert_eq!(columns, BTreeMap::from([(2, 0), (4, 1), (7, 2), (9, 3)]));
        let scores = [0.9, 0.1, 0.5, 0.5];
        assert_eq!(reciprocal(&scores, &row(&[4, 7]), &columns), 1.0 / 3.0);
        assert_eq!(reciprocal(&scores, &row(&[2]), &columns), 1.0);
    }
}
