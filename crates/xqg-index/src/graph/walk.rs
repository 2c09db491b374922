//! Walking the links: the search of HNSW (Malkov and Yashunin, TPAMI 2020, algorithms 2 and 5) over
//! codes. From the entry it goes down greedily, level by level, and on the lowest it follows the best
//! paths found so far. What it costs is waiting for memory, for the next code may lie anywhere; so all
//! codes that a slot links to are asked for before the first is compared, and the links of the slot
//! that is probably next while they are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xqg_kernel::bytes::fetch;
use xqg_kernel::isa::Isa;

use crate::graph::code::distance;
use crate::graph::file::LinksFile;
use crate::ordered::ordered;

/// One search after another over the same links, with what they need kept between them.
pub(super) struct Walk<'a> {
    links: &'a LinksFile,
    isa: Isa,
    seen: Seen,
    /// Slots whose links are still to be followed, the nearest first.
    open: BinaryHeap<Reverse<Found>>,
    /// The nearest found, the farthest of them first.
    best: BinaryHeap<Found>,
    /// Slots to compare in one step.
    fresh: Vec<u32>,
}

/// A distance and a slot in one whole number that orders by distance, then slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found(u64);

impl Found {
    fn new(distance: f32, slot: u32) -> Self {
        Self(u64::from(ordered(distance)) << 32 | u64::from(slot))
    }

    fn slot(self) -> u32 {
        self.0 as u32
    }
}

impl<'a> Walk<'a> {
    /// Searches over links, none yet.
    pub(super) fn new(links: &'a LinksFile) -> Self {
        let seen = Seen::new(links.rows());
        let (open, best, fresh) = (BinaryHeap::new(), BinaryHeap::new(), Vec::new());
        Self { links, isa: Isa::detect(), seen, open, best, fresh }
    }

    /// The rows nearest to a code, at most `wanted`, where `beam` paths are followed at once.
    pub(super) fn nearest(&mut self, query: &[i8], beam: usize, wanted: usize) -> Vec<u32> {
        let links = self.links;
        if links.rows() == 0 {
            return Vec::new();
        }
        let beam = beam.max(wanted).max(1);
        let entry = self.descend(query);
        self.seen.forget();
        self.seen.first(entry.slot());
        self.open.clear();
        self.open.push(Reverse(entry));
        self.best.clear();
        self.best.push(entry);
        while let Some(Reverse(nearest)) = self.open.pop() {
            if self.best.len() >= beam && self.best.peek().is_some_and(|&worst| nearest > worst) {
                break;
            }
            self.expand(nearest.slot());
            self.compare(query, beam);
        }
        let mut best: Vec<Found> = self.best.drain().collect();
        best.sort_unstable();
        best.iter().filter_map(|found| links.row(found.slot())).take(wanted).collect()
    }

    /// Goes down from the entry to level 1, on each level as near as links lead.
    fn descend(&self, query: &[i8]) -> Found {
        let (entry, top) = self.links.entry();
        let mut at = self.found(query, entry);
        for level in (1..=top).rev() {
            loop {
                let near = self.links.links(at.slot(), level).map(|slot| self.found(query, slot));
                match near.min() {
                    Some(nearer) if nearer < at => at = nearer,
                    _ => break,
                }
            }
        }
        at
    }

    fn found(&self, query: &[i8], slot: u32) -> Found {
        Found::new(distance(self.isa, query, self.links.code(slot)), slot)
    }

    /// Finds the slots linked to one that have not been seen, and asks for their codes.
    fn expand(&mut self, slot: u32) {
        self.fresh.clear();
        for near in self.links.links(slot, 0) {
            if self.seen.first(near) {
                fetch(self.links.code(near));
                self.fresh.push(near);
            }
        }
        if let Some(Reverse(next)) = self.open.peek() {
            fetch(self.links.place(next.slot()));
        }
    }

    /// Compares these slots with the query, and keeps those nearer than the farthest of the best.
    fn compare(&mut self, query: &[i8], beam: usize) {
        for i in 0..self.fresh.len() {
            let found = self.found(query, self.fresh[i]);
            if self.best.len() < beam {
                self.best.push(found);
                self.open.push(Reverse(found));
            } else if let Some(mut worst) = self.best.peek_mut()
                && found < *worst
            {
                *worst = found;
                self.open.push(Reverse(found));
            }
        }
    }
}

/// Which slots a search has seen: a bit each, and which words of bits have any set.
struct Seen {
    bits: Vec<u64>,
    touched: Vec<u32>,
}

impl Seen {
    fn new(slots: usize) -> Self {
        Self { bits: vec![0; slots.div_ceil(64)], touched: Vec::new() }
    }

    /// Marks a slot; whether it was not marked before.
    #[inline]
    fn first(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot / 64, 1u64 << (slot % 64));
        let bits = &mut self.bits[word as usize];
        let first = *bits & bit == 0;
        if *bits == 0 {
            self.touched.push(word);
        }
        *bits |= bit;
        first
    }

    fn forget(&mut self) {
        self.touched.drain(..).for_each(|word| self.bits[word as usize] = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn found_orders_by_distance_then_slot(
            a in -1e30f32..1e30, b in -1e30f32..1e30, i in any::<u32>(), j in any::<u32>()
        ) {
            let expected = a.total_cmp(&b).then(i.cmp(&j));
            prop_assert_eq!(Found::new(a, i).cmp(&Found::new(b, j)), expected);
            prop_assert_eq!(Found::new(a, i).slot(), i);
        }

        #[test]
        fn each_slot_is_first_once(slots in proptest::collection::vec(0u32..300, 0..200)) {
            let mut seen = Seen::new(300);
            for _ in 0..2 {
                let mut before = std::collections::BTreeSet::new();
                for &slot in &slots {
                    prop_assert_eq!(seen.first(slot), before.insert(slot));
                }
                seen.forget();
            }
        }
    }
}
