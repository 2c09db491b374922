//! Which rows and passages a step sees: a function of seed and step alone, so that a run that goes
//! on sees what it would have seen.

use xqg_kernel::dropout::Key;

use crate::examples::Example;

/// Draws the batches of a run.
#[derive(Debug)]
pub struct Sampler {
    key: Key,
    rows: usize,
    queries: usize,
    epoch: Option<(u64, Vec<usize>)>,
}

/// One row of a batch: an example and its passages, the positive first.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The example's place.
    pub example: usize,
    /// Passages and the teacher's scores.
    pub passages: Vec<(usize, Option<f32>)>,
}

impl Sampler {
    /// Batches of so many queries over so many rows.
    pub fn new(seed: u64, rows: usize, queries: usize) -> Self {
        Self { key: Key::new(seed).part(1), rows, queries: queries.min(rows), epoch: None }
    }

    /// Batches of one epoch; the rows that are left over at its end wait for the next one's order.
    pub fn batches(&self) -> u64 {
        (self.rows / self.queries).max(1) as u64
    }

    /// The places of the rows of batch `number` of the whole run, from 0.
    pub fn places(&mut self, number: u64) -> &[usize] {
        let (epoch, place) = (number / self.batches(), (number % self.batches()) as usize);
        let queries = self.queries;
        &self.order(epoch)[place * queries..][..queries]
    }

    /// The rows of batch `number`, each with so many passages.
    pub fn batch(&mut self, number: u64, examples: &[Example], passages: usize) -> Vec<Drawn> {
        let key = self.key.part(number / self.batches());
        self.places(number)
            .iter()
            .map(|&example| Drawn {
                example,
                passages: draw(&examples[example], passages, key.part(example as u64)),
            })
            .collect()
    }

    fn order(&mut self, epoch: u64) -> &[usize] {
        let (known, order) = self.epoch.get_or_insert_with(|| (u64::MAX, Vec::new()));
        if *known != epoch {
            *order = (0..self.rows).collect();
            shuffle(order, self.key.part(epoch).part(u64::MAX));
            *known = epoch;
        }
        order
    }
}

/// A positive and negatives of one row: without repetition while they last, then again from the
/// beginning, as Tevatron does with rows of few negatives.
fn draw(example: &Example, passages: usize, key: Key) -> Vec<(usize, Option<f32>)> {
    let positive = below(key.part(0), example.positives.len());
    let mut negatives = example.negatives.clone();
    shuffle(&mut negatives, key.part(1));
    let negatives =
        negatives.iter().cycle().take(if negatives.is_empty() { 0 } else { passages - 1 });
    std::iter::once(&example.positives[positive]).chain(negatives).copied().collect()
}

/// A number below `limit`, which is above 0.
fn below(key: Key, limit: usize) -> usize {
    ((u128::from(key.number()) * limit as u128) >> 64) as usize
}

/// Fisher and Yates's shuffle.
fn shuffle<T>(items: &mut [T], key: Key) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(key.part(last as u64), last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(positives: usize, negatives: usize) -> Example {
        Example {
            positives: (0..positives).map(|p| (p, None)).collect(),
            negatives: (0..negatives).map(|n| (100 + n, None)).collect(),
            ..Example::default()
        }
    }

    #[test]
    fn an_epoch_sees_every_row_once_and_a_later_start_the_same() {
        let examples: Vec<_> = (0..12).map(|_| example(2, 3)).collect();
        let mut sampler = Sampler::new(9, 12, 4);
        let run: Vec<_> = (0..6).map(|b| sampler.batch(b, &examples, 3)).collect();
        for epoch in run.chunks(3) {
            let mut seen: Vec<_> = epoch.iter().flatten().map(|d| d.example).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..12).collect::<Vec<_>>());
        }
        assert_ne!(run[..3], run[3..], "another order in another epoch");
        let mut later = Sampler::new(9, 12, 4);
        assert_eq!(later.batch(4, &examples, 3), run[4]);
    }

    #[test]
    fn negatives_repeat_only_when_there_are_too_few() {
        let drawn = draw(&example(1, 3), 4, Key::new(3));
        let mut negatives: Vec<_> = drawn[1..].iter().map(|p| p.0).collect();
        negatives.sort_unstable();
        assert_eq!((drawn[0].0, negatives), (0, vec![100, 101, 102]));
        assert_eq!(draw(&example(1, 2), 6, Key::new(3)).len(), 6);
        assert_eq!(draw(&example(1, 0), 6, Key::new(3)).len(), 1, "in-batch negatives are left");
    }
}
