//! Searching by a graph: it proposes passages, and these are scored exactly under the search's own
//! setting, which need not be the graph's.

use std::collections::BTreeMap;

use rayon::prelude::*;
use xqg_data::lang::Lang;

use crate::error::Result;
use crate::fuse::{Reduce, fused_score, reduce_questions};
use crate::fused::Parts;
use crate::graph::Graph;
use crate::graph::walk::Walk;
use crate::index::Index;
use crate::progress::{Observer, Progress, Stage};
use crate::search::{Hits, QueryVectors, SearchOptions, check, dot, mean_questions};
use crate::top_k::TopK;

/// Candidates scored for each passage wanted, where the effort allows.
const CANDIDATES: usize = 4;
/// And at least so many, for a few passages are cheap to score.
const LEAST: usize = 32;
/// Queries between two reports.
const BATCH: usize = 256;

/// Searches by a graph, and returns for each weight and each query the best rows with their scores.
/// The effort is how many paths are followed at once; without one it is the graph's own. It is at
/// least twice k.
///
/// # Errors
/// As [`crate::search::search_rows`].
pub fn search_graph(
    (index, graph): (&Index, &Graph),
    queries: QueryVectors,
    options: &SearchOptions,
    effort: Option<usize>,
    observer: Observer,
) -> Result<Vec<Vec<Hits>>> {
    check(index, queries, options)?;
    let beam = beam(graph, options.k, effort);
    index.expect_scattered(true);
    let wanted = candidates(graph, options, beam).min(index.len());
    let scorer = Scorer::new(index, options, queries.langs);
    let mut all = vec![Vec::with_capacity(queries.qids.len()); options.weights.len()];
    let total = Some(queries.qids.len() as u64);
    for batch in (0..queries.qids.len()).collect::<Vec<_>>().chunks(BATCH) {
        let one = |walk: &mut Walk, &i: &usize| {
            let query = &queries.vectors[i * index.dim()..][..index.dim()];
            let rows = walk.nearest(&graph.space.query(query), beam, wanted);
            scorer.score(query, queries.langs[i], &rows)
        };
        let found: Vec<Vec<Hits>> =
            batch.par_iter().map_init(|| Walk::new(&graph.links), one).collect();
        for hits in found {
            all.iter_mut().zip(hits).for_each(|(run, hits)| run.push(hits));
        }
        let done = all.first().map_or(0, Vec::len) as u64;
        observer(Progress { stage: Stage::Search, done, total });
    }
    Ok(all)
}

/// The paths that a search for k passages follows at once.
pub fn beam(graph: &Graph, k: usize, effort: Option<usize>) -> usize {
    effort.unwrap_or(graph.manifest.effort).max(2 * k)
}

/// How many of the rows found are scored: under the graph's own setting its order is nearly right;
/// under another it is only a hint, so all that were found are.
fn candidates(graph: &Graph, options: &SearchOptions, beam: usize) -> usize {
    let fusion = &graph.manifest.fusion;
    let own = options.weights == [fusion.weight]
        && (options.reduce, options.renormalize) == (fusion.reduce, fusion.renormalize)
        && options.langs == fusion.langs;
    if own { beam.min((CANDIDATES * options.k).max(LEAST)) } else { beam }
}

/// Weights of a query's language: for each layer those of its languages, and the formula's alphas.
type Weighing = (Vec<Vec<f32>>, Vec<f32>);

/// Scores single rows exactly.
struct Scorer<'a> {
    index: &'a Index,
    options: &'a SearchOptions,
    weighings: BTreeMap<Option<Lang>, Weighing>,
}

impl<'a> Scorer<'a> {
    fn new(index: &'a Index, options: &'a SearchOptions, langs: &[Option<Lang>]) -> Self {
        let mut weighings = BTreeMap::new();
        for &lang in langs {
            let key = if options.langs.match_query { lang } else { None };
            weighings.entry(key).or_insert_with(|| weigh(index, options, key));
        }
        Self { index, options, weighings }
    }

    /// For each weight, the best of some rows.
    fn score(&self, query: &[f32], lang: Option<Lang>, rows: &[u32]) -> Vec<Hits> {
        let key = if self.options.langs.match_query { lang } else { None };
        let (weights, alphas) = &self.weighings[&key];
        let mut best = vec![TopK::new(self.options.k); alphas.len()];
        let dim = self.index.dim();
        let (mut d, mut s) = (vec![0.0; dim], vec![0.0; dim]);
        let fused = alphas.iter().any(|&a| a > 0.0);
        for &row in rows {
            let (unit, place) = self.index.unit_of(row);
            unit.vectors.read_rows(place, &mut d);
            let (mut q_s, mut lengths) = (0.0, [0.0; 3]);
            if fused {
                let parts = Parts::read(unit, weights, (place, 1, dim));
                reduce_questions(parts.row(0), self.options.reduce, &mut s);
                q_s = dot(query, &s);
                lengths = [dot(&d, &d), dot(&d, &s), dot(&s, &s)];
            }
            let products = (dot(query, &d), q_s);
            for (best, &alpha) in best.iter_mut().zip(alphas) {
                let score = fused_score(alpha, products, lengths, self.options.renormalize);
                best.offer(score, row, &self.index.ids);
            }
        }
        best.into_iter().map(|best| best.into_sorted(&self.index.ids)).collect()
    }
}

fn weigh(index: &Index, options: &SearchOptions, lang: Option<Lang>) -> Weighing {
    let of_layer = |layer: &crate::manifest::Layer| {
        layer.langs.iter().map(|c| options.langs.weight(c.lang, lang)).collect()
    };
    let weights: Vec<Vec<f32>> = index.manifest.layers.iter().map(of_layer).collect();
    let summed = options.reduce == Reduce::Sum;
    let questions = if summed { mean_questions(index, &weights) } else { 0.0 };
    let alphas = options.weights.iter().map(|w| w.alpha(options.reduce, questions)).collect();
    (weights, alphas)
}
