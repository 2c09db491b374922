//! The k best of a stream of scored rows, by the one order of rankings: score descending, then
//! docid descending. The result does not depend on the order in which rows come, so threads may
//! each keep their own and merge.

use std::cmp::Ordering;

use xqg_data::run::rank_order;

/// Docids by row, in one string: a few bytes more than the ids themselves.
#[derive(Debug, Default)]
pub struct Ids {
    text: String,
    ends: Vec<usize>,
}

impl Ids {
    /// Adds the ids of a text, one a line; returns how many.
    pub fn extend_lines(&mut self, lines: &str) -> usize {
        let before = self.ends.len();
        for line in lines.lines() {
            self.text.push_str(line);
            self.ends.push(self.text.len());
        }
        self.ends.len() - before
    }

    /// The docid of a row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn get(&self, row: u32) -> &str {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.text[start..self.ends[row]]
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All ids in the order of the rows.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|row| self.get(row))
    }

    fn order(&self, a: (f32, u32), b: (f32, u32)) -> Ordering {
        match b.0.total_cmp(&a.0) {
            Ordering::Equal => rank_order((0.0, self.get(a.1)), (0.0, self.get(b.1))),
            unequal => unequal,
        }
    }
}

/// The best rows so far: at most `2 k` candidates, cut back to k when full.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    floor: f32,
    rows: Vec<(f32, u32)>,
}

impl TopK {
    /// An empty selection of at most `k` rows.
    pub fn new(k: usize) -> Self {
        Self { k, floor: f32::NEG_INFINITY, rows: Vec::new() }
    }

    /// Offers a row. Scores below the k-th best so far are turned away at once.
    #[inline]
    pub fn offer(&mut self, score: f32, row: u32, ids: &Ids) {
        if score < self.floor {
            return;
        }
        self.rows.push((score, row));
        if self.rows.len() >= 2 * self.k.max(1) {
            self.cut(ids);
        }
    }

    fn cut(&mut self, ids: &Ids) {
        if self.rows.len() > self.k && self.k > 0 {
            self.rows.select_nth_unstable_by(self.k - 1, |a, b| ids.order(*a, *b));
            self.floor = self.rows[self.k - 1].0;
        }
        self.rows.truncate(self.k);
    }

    /// The score of the k-th best so far, if there are as many.
    pub fn floor(&self, ids: &Ids) -> Option<f32> {
        let mut copy = self.clone();
        copy.cut(ids);
        (copy.k > 0 && copy.rows.len() == copy.k).then(|| {
            let worst = copy.rows.iter().max_by(|a, b| ids.order(**a, **b));
            worst.map_or(f32::NEG_INFINITY, |w| w.0)
        })
    }

    /// Takes in another selection.
    pub fn merge(&mut self, other: Self, ids: &Ids) {
        for (score, row) in other.rows {
            self.offer(score, row, ids);
        }
    }

    /// The best rows, best first.
    pub fn into_sorted(mut self, ids: &Ids) -> Vec<(f32, u32)> {
        self.cut(ids);
        self.rows.sort_by(|a, b| ids.order(*a, *b));
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_k_equal_a_full_sort_however_they_are_split(
            scores in proptest::collection::vec(0u8..6, 1..60), k in 0usize..12, cut in 0usize..60
        ) {
            let mut ids = Ids::default();
            let lines: Vec<String> = (0..scores.len()).map(|i| format!("d{}", i * 7 % 60)).collect();
            ids.extend_lines(&lines.join("\n"));
            let all: Vec<(f32, u32)> =
                scores.iter().enumerate().map(|(i, &s)| (f32::from(s), i as u32)).collect();
            let (mut left, mut right) = (TopK::new(k), TopK::new(k));
            for (i, &(score, row)) in all.iter().enumerate() {
                if i < cut { &mut left } else { &mut right }.offer(score, row, &ids);
            }
            left.merge(right, &ids);
            let mut sorted = all;
            sorted.sort_by(|a, b| ids.order(*a, *b));
            sorted.truncate(k);
            prop_assert_eq!(left.into_sorted(&ids), sorted);
        }
    }
}
