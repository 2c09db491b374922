//! Exact scores of the rows that came through a choice by sketches. They are asked for in the order in
//! which they lie on disk, so a page is fetched once and a row read once for all that want it.

use crate::exact::Buffers;
use crate::search::{Group, Pass};
use crate::share::share_out;

/// A row wanted for a slot: weight number times queries plus query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// The row.
    pub row: u32,
    /// The group of the slot's query.
    group: u32,
    /// Where the score goes.
    pub slot: u32,
}

/// Where each query of a pass stands.
#[derive(Debug)]
pub(crate) struct Places {
    queries: usize,
    /// For each query its group and its place among the members.
    of: Vec<(u32, u32)>,
}

impl Places {
    /// The places of a pass.
    pub fn new(pass: &Pass) -> Self {
        let mut of = vec![(0, 0); pass.queries];
        for (g, group) in pass.groups.iter().enumerate() {
            for (member, &query) in group.members.iter().enumerate() {
                of[query] = (g as u32, member as u32);
            }
        }
        Self { queries: pass.queries, of }
    }

    /// A row wanted for a slot.
    pub fn wanted(&self, row: u32, slot: usize) -> Wanted {
        let (group, _) = self.of[slot % self.queries];
        Wanted { row, group, slot: slot as u32 }
    }

    /// A slot's group, its place among the members, and the number of its weight.
    fn find<'a>(&self, pass: &'a Pass, slot: u32) -> (&'a Group, usize, usize) {
        let (group, member) = self.of[slot as usize % self.queries];
        let weight = slot as usize / self.queries;
        (&pass.groups[group as usize], member as usize, weight)
    }
}

/// Rows scored by one thread at a time.
const PIECE: usize = 64;

/// Scores all wanted rows on all threads; they are sorted, and the scores come in the new order.
pub(crate) fn rescore(pass: &Pass, places: &Places, wanted: &mut [Wanted]) -> Vec<f32> {
    wanted.sort_unstable();
    let pieces: Vec<&[Wanted]> = wanted.chunks(PIECE).collect();
    let make = || (Buffers::default(), Vec::new());
    let states = share_out(pieces.len(), make, |(buffers, scores), i| {
        let mut some = Vec::with_capacity(PIECE);
        score_sorted(pass, places, buffers, pieces[i], &mut some);
        scores.push((i, some));
    });
    let mut scores: Vec<(usize, Vec<f32>)> = states.into_iter().flat_map(|s| s.1).collect();
    scores.sort_unstable_by_key(|&(i, _)| i);
    scores.into_iter().flat_map(|(_, some)| some).collect()
}

/// Scores rows that are sorted.
pub(crate) fn score_sorted(
    pass: &Pass,
    places: &Places,
    buffers: &mut Buffers,
    wanted: &[Wanted],
    out: &mut Vec<f32>,
) {
    let same = |a: &Wanted, b: &Wanted| (a.row, a.group) == (b.row, b.group);
    for of_row in wanted.chunk_by(same) {
        let (unit, place) = pass.index.unit_of(of_row[0].row);
        let group = &pass.groups[of_row[0].group as usize];
        let loaded = buffers.load(unit, (place, 1), group, pass.options.reduce);
        for wanted in of_row {
            let (group, member, weight) = places.find(pass, wanted.slot);
            let (query, alpha) = (group.vector(member), group.alphas[weight]);
            out.push(loaded.score(query, alpha, pass.options.renormalize));
        }
    }
}
