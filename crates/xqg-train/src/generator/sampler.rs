//! Which rows a step sees: a function of seed and step alone. Every task goes through its rows at its
//! own pace, in an order that each round shuffles anew by source, so that the questions of one source
//! stay together and its states pass through the keys and values once.

use xqg_kernel::dropout::Key;

use super::rows::Row;

/// Draws the rows of one task.
#[derive(Debug)]
pub struct Sampler {
    key: Key,
    rows: usize,
    /// The first row of each source, in the rows' order; and the number of rows.
    starts: Vec<usize>,
    /// Its share of a step's questions.
    share: f64,
    round: Option<(u64, Vec<usize>)>,
}

impl Sampler {
    /// Draws from rows that are sorted by source; `share` questions a step, on average.
    pub fn new(key: Key, rows: &[Row], share: f64) -> Self {
        let new = |i: &usize| *i == 0 || rows[*i].source != rows[*i - 1].source;
        let mut starts: Vec<usize> = (0..rows.len()).filter(new).collect();
        starts.push(rows.len());
        Self { key, rows: rows.len(), starts, share, round: None }
    }

    /// The rows of a step, from 0.
    pub fn step(&mut self, step: u64) -> Vec<usize> {
        let until = |step: u64| (self.share * step as f64).floor() as u64;
        (until(step)..until(step + 1)).map(|i| self.row(i)).collect()
    }

    /// Row number `i` of the whole run.
    fn row(&mut self, i: u64) -> usize {
        let (round, place) = (i / self.rows as u64, (i % self.rows as u64) as usize);
        if self.round.as_ref().is_none_or(|(known, _)| *known != round) {
            self.round = Some((round, self.order(self.key.part(round))));
        }
        self.round.as_ref().map_or(0, |(_, order)| order[place])
    }

    fn order(&self, key: Key) -> Vec<usize> {
        let mut sources: Vec<usize> = (0..self.starts.len() - 1).collect();
        for last in (1..sources.len()).rev() {
            let number = key.part(last as u64).number();
            sources.swap(last, ((u128::from(number) * (last as u128 + 1)) >> 64) as usize);
        }
        sources.into_iter().flat_map(|s| self.starts[s]..self.starts[s + 1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_sees_every_row_once_and_keeps_sources_together() {
        let row = |source| Row { source, lang: 0, text: String::new() };
        let rows: Vec<Row> = [0, 0, 0, 1, 2, 2, 3, 4].map(row).into();
        let mut sampler = Sampler::new(Key::new(4), &rows, 2.5);
        let steps: Vec<Vec<usize>> = (0..32).map(|s| sampler.step(s)).collect();
        assert_eq!(steps[..4].iter().map(Vec::len).collect::<Vec<_>>(), [2, 3, 2, 3]);
        let all: Vec<usize> = steps.iter().flatten().copied().collect();
        for round in all.chunks(8) {
            let mut seen = round.to_vec();
            seen.sort_unstable();
            assert_eq!(seen, (0..8).collect::<Vec<_>>());
            let at = round.iter().position(|&r| r == 0).unwrap();
            assert_eq!(round[at..at + 3], [0, 1, 2], "one source's rows follow each other");
        }
        assert_ne!(all[..8], all[8..16], "another order in another round");
        let mut later = Sampler::new(Key::new(4), &rows, 2.5);
        assert_eq!(later.step(17), steps[17]);
    }
}
