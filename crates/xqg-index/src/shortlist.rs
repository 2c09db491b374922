//! The rows that may still be among the best k of a query, each with bounds of its score. The k-th
//! greatest lower bound is the floor: what cannot reach it is out. Threads tell each other their
//! floors, which changes how many rows are kept, never which rows win.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::ordered::{ordered, unordered};

/// A row that is in play.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// The row.
    pub row: u32,
    /// The score is not below.
    pub low: f32,
    /// The score is not above.
    pub high: f32,
}

/// The greatest floor that any thread has found for a query.
#[derive(Debug)]
pub(crate) struct Floor(AtomicU32);

impl Floor {
    /// No floor yet.
    pub fn new() -> Self {
        Self(AtomicU32::new(ordered(f32::NEG_INFINITY)))
    }

    /// The floor.
    pub fn get(&self) -> f32 {
        unordered(self.0.load(Ordering::Relaxed))
    }

    fn raise(&self, floor: f32) {
        self.0.fetch_max(ordered(floor), Ordering::Relaxed);
    }
}

/// The candidates of one query in one thread.
#[derive(Debug)]
pub(crate) struct Shortlist {
    k: usize,
    /// What is below is out.
    pub floor: f32,
    /// The candidates.
    pub all: Vec<Candidate>,
    cut_at: usize,
}

impl Shortlist {
    /// An empty list for the best `k` rows.
    pub fn new(k: usize) -> Self {
        Self { k, floor: f32::NEG_INFINITY, all: Vec::new(), cut_at: 2 * k.max(16) }
    }

    /// Takes over the floor of the other threads.
    pub fn learn(&mut self, shared: &Floor) {
        self.floor = self.floor.max(shared.get());
    }

    /// Adds a row unless it is out.
    #[inline]
    pub fn push(&mut self, candidate: Candidate, shared: &Floor) {
        if candidate.high < self.floor {
            return;
        }
        self.all.push(candidate);
        if self.all.len() >= self.cut_at {
            self.cut();
            shared.raise(self.floor);
        }
    }

    /// Raises the floor to the k-th greatest lower bound and drops what is below.
    pub fn cut(&mut self) {
        let Some(last) = self.k.checked_sub(1) else { return self.all.clear() };
        if self.all.len() > last {
            let (_, kth, _) = self.all.select_nth_unstable_by(last, |a, b| b.low.total_cmp(&a.low));
            self.floor = self.floor.max(kth.low);
            self.all.retain(|c| c.high >= self.floor);
        }
        self.cut_at = 2 * self.all.len().max(self.k.max(16));
    }

    /// Moves the `k` rows that promise most to the front; returns how many they are.
    pub fn promising(&mut self) -> usize {
        let promise = |c: &Candidate| f64::from(c.low) + f64::from(c.high);
        if self.all.len() > self.k && self.k > 0 {
            self.all.select_nth_unstable_by(self.k - 1, |a, b| promise(b).total_cmp(&promise(a)));
        }
        self.all.len().min(self.k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_are_never_out(
            rows in proptest::collection::vec((-9f32..9.0, 0f32..4.0, 0f32..1.0), 0..200),
            k in 0usize..12,
        ) {
            let shared = [Floor::new(), Floor::new()];
            let mut lists = [Shortlist::new(k), Shortlist::new(k)];
            let mut exact = Vec::new();
            for (i, &(low, width, at)) in rows.iter().enumerate() {
                let score = low + width * at;
                let high = (low + width).max(score);
                exact.push((score, i as u32));
                let list = &mut lists[i % 2];
                list.learn(&shared[0]);
                list.push(Candidate { row: i as u32, low: low.min(score), high }, &shared[0]);
            }
            exact.sort_by(|a, b| b.0.total_cmp(&a.0));
            lists.iter_mut().for_each(Shortlist::cut);
            for &(score, row) in exact.iter().take(k) {
                let held = lists.iter().flat_map(|l| &l.all).any(|c| c.row == row);
                prop_assert!(held, "row {} of score {}", row, score);
            }
        }
    }
}
