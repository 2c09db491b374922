//! How well a graph does: the same queries by the graph and over all passages.

use crate::error::Result;
use crate::fused::FusedRows;
use crate::graph::Graph;
use crate::graph::manifest::Recall;
use crate::graph::search::search_graph;
use crate::index::Index;
use crate::search::{Hits, QueryVectors, SearchOptions, search_rows};

/// Passages compared for each query.
const K: usize = 10;

/// Queries by the hundred, drawn from the index itself: the questions of some passages where they
/// have any (a sum of questions in one language, as a reader's question would lie), else their own
/// fused vectors.
pub(super) struct Sample {
    qids: Vec<String>,
    vectors: Vec<f32>,
    seed: u64,
}

impl Sample {
    /// Draws `queries` rows.
    pub(super) fn draw(fused: &FusedRows, queries: usize, seed: u64) -> Self {
        let index = fused.index();
        let rows: Vec<u32> = (0..queries as u64).map(|i| draw(seed, i, index.len())).collect();
        let query = |&row: &u32| question(index, row).unwrap_or_else(|| fused.row(row as usize));
        let vectors = rows.iter().flat_map(query).collect();
        Self { qids: rows.iter().map(u32::to_string).collect(), vectors, seed }
    }

    /// Searches exactly.
    pub(super) fn exact(&self, index: &Index, options: &SearchOptions) -> Result<Vec<Hits>> {
        let langs = vec![None; self.qids.len()];
        let hits = search_rows(index, self.queries(&langs), options, &mut |_| ())?;
        Ok(hits.into_iter().next().unwrap_or_default())
    }

    /// Searches by the graph with some effort and compares.
    pub(super) fn compare(
        &self,
        (index, graph): (&Index, &Graph),
        options: &SearchOptions,
        effort: usize,
        exact: &[Hits],
    ) -> Result<Recall> {
        let langs = vec![None; self.qids.len()];
        let queries = self.queries(&langs);
        let hits = search_graph((index, graph), queries, options, Some(effort), &mut |_| ())?;
        let found = hits.first().map_or(&[][..], Vec::as_slice);
        let shares: f32 = exact.iter().zip(found).map(|(a, b)| overlap(a, b)).sum();
        let (queries, mean) = (self.qids.len(), shares / self.qids.len().max(1) as f32);
        Ok(Recall { queries, seed: self.seed, k: options.k, mean })
    }

    fn queries<'a>(&'a self, langs: &'a [Option<xqg_data::lang::Lang>]) -> QueryVectors<'a> {
        QueryVectors { qids: &self.qids, langs, vectors: &self.vectors }
    }
}

/// Passages compared for each query of a collection.
pub(super) fn depth(index: &Index) -> usize {
    K.min(index.len())
}

fn overlap(exact: &Hits, found: &Hits) -> f32 {
    let hits = exact.iter().filter(|(_, row)| found.iter().any(|(_, other)| other == row)).count();
    hits as f32 / exact.len().max(1) as f32
}

/// The i-th row of a draw: a hash, so that it does not depend on any library's generator.
fn draw(seed: u64, i: u64, rows: usize) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&i.to_le_bytes(), seed);
    (hash % rows.max(1) as u64) as u32
}

/// The sum of a passage's questions in the first language that has any.
fn question(index: &Index, row: u32) -> Option<Vec<f32>> {
    let (unit, place) = index.unit_of(row);
    let mut vector = vec![0.0; index.dim()];
    for layer in &unit.layers {
        if let Some(block) = (0..layer.langs.len()).find(|&b| layer.counts(b)[place] > 0) {
            layer.read_sums(block, place, &mut vector);
            return Some(vector);
        }
    }
    None
}
