//! Exact search: the k passages with the highest fused score for each query, over all passages.
//!
//! For a passage embedding `d` and its reduced questions `s`, the fused score of a query q is
//! `((1 - a) q·d + a q·s) / |(1 - a) d + a s|` (without the division where nothing is renormalised),
//! so one pass over `d` and `s` serves any number of weights `a` at once. An index with sketches is
//! read through them ([`scan`]): an 8-bit copy says which rows can be among the best, and only those
//! are scored ([`exact`](crate::exact)); without, every row is ([`plain`]). Both give the same bits, and
//! neither depends on the number of threads or on the queries beside.

use xqg_data::lang::Lang;
use xqg_data::run::Run;
use xqg_kernel::dense;

use crate::error::{IndexError, Result};
use crate::fuse::{LangWeights, Reduce, Weight};
use crate::index::{Index, OpenUnit};
use crate::manifest::Layer;
use crate::progress::{Observer, Progress, Stage};
use crate::unit::LayerSums;
use crate::{plain, scan};

/// Rankings of more than one row in so many are made without sketches.
const DEEP: usize = 8;
/// Bytes of candidates kept at a time over all threads; more queries go in several passes.
const CANDIDATE_BYTES: usize = 512 << 20;

/// How to fuse and how deep to rank.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// Passages wanted for each query.
    pub k: usize,
    /// How much the questions count; each weight gives a run of its own, all from one pass.
    pub weights: Vec<Weight>,
    /// Sum or mean of the questions.
    pub reduce: Reduce,
    /// Whether fused vectors are scaled to length one.
    pub renormalize: bool,
    /// Which languages count.
    pub langs: LangWeights,
}

/// Queries as vectors.
#[derive(Debug, Clone, Copy)]
pub struct QueryVectors<'a> {
    /// Identifiers for the run.
    pub qids: &'a [String],
    /// The language of each query.
    pub langs: &'a [Option<Lang>],
    /// `queries x dim` numbers, row after row.
    pub vectors: &'a [f32],
}

/// The best rows of one query under one weight, best first.
pub type Hits = Vec<(f32, u32)>;

/// Searches, and returns one run for each weight.
///
/// # Errors
/// As [`search_rows`].
pub fn search(
    index: &Index,
    queries: QueryVectors,
    options: &SearchOptions,
    observer: Observer,
) -> Result<Vec<Run>> {
    let hits = search_rows(index, queries, options, observer)?;
    let to_run = |rankings: Vec<Hits>| {
        let mut run = Run::default();
        for (qid, hits) in queries.qids.iter().zip(rankings) {
            run.insert(qid, hits.into_iter().map(|hit| index.scored(hit)).collect());
        }
        run
    };
    Ok(hits.into_iter().map(to_run).collect())
}

/// Searches, and returns for each weight and each query the best rows with their scores.
///
/// # Errors
/// When a setting is out of its range or a query's vector has another length than the index's.
pub fn search_rows(
    index: &Index,
    queries: QueryVectors,
    options: &SearchOptions,
    observer: Observer,
) -> Result<Vec<Vec<Hits>>> {
    check(index, queries, options)?;
    let dim = index.dim();
    let per_query = options.weights.len().max(1) * (scan::most_candidates(options.k) + options.k);
    let threads = rayon::current_num_threads();
    let batch = (CANDIDATE_BYTES / (per_query * 12 * threads)).clamp(1, 1024);
    let mut all = vec![Vec::with_capacity(queries.qids.len()); options.weights.len()];
    let total = Some(queries.qids.len() as u64);
    for (langs, vectors) in queries.langs.chunks(batch).zip(queries.vectors.chunks(batch * dim)) {
        let pass = Pass::new(index, options, langs, vectors);
        for (run, hits) in all.iter_mut().zip(pass.run()) {
            run.extend(hits);
        }
        let done = all.first().map_or(0, Vec::len) as u64;
        observer(Progress { stage: Stage::Search, done, total });
    }
    Ok(all)
}

pub(crate) fn check(index: &Index, queries: QueryVectors, options: &SearchOptions) -> Result<()> {
    options.weights.iter().try_for_each(|w| w.check())?;
    options.langs.check()?;
    let expected = queries.qids.len() * index.dim();
    if !queries.vectors.iter().all(|v| v.is_finite()) {
        let (expected, found) = ("finite numbers", "NaN or infinity".to_owned());
        return Err(IndexError::Setting { name: "query vectors", expected, found });
    }
    if queries.vectors.len() != expected || queries.langs.len() != queries.qids.len() {
        let found = format!("{} numbers for {} queries", queries.vectors.len(), queries.qids.len());
        let expected = "one vector of the index's length for each query";
        return Err(IndexError::Setting { name: "query vectors", expected, found });
    }
    Ok(())
}

/// Queries that weigh the languages alike: they share the reduced questions of each passage.
pub(crate) struct Group {
    /// Places within the pass's queries.
    pub members: Vec<usize>,
    /// The members' vectors, row after row.
    pub vectors: Vec<f32>,
    /// For each layer, the weight of each of its languages.
    weights: Vec<Vec<f32>>,
    /// The formula's alpha for each weight of the options.
    pub alphas: Vec<f32>,
}

/// The sums of one language of one layer, with the weight that a group gives them.
pub(crate) struct SumPart<'a> {
    /// The layer, and its number from 0.
    pub layer: &'a LayerSums,
    pub number: usize,
    /// The language's place within the layer.
    pub block: usize,
    /// The weight, above 0.
    pub weight: f32,
    /// The number of the vector among those of a passage, see [`crate::gram`].
    pub vector: usize,
}

impl Group {
    fn new(
        index: &Index,
        options: &SearchOptions,
        lang: Option<Lang>,
        members: Vec<usize>,
        all: &[f32],
    ) -> Self {
        let dim = index.dim();
        let vectors = members.iter().flat_map(|&i| &all[i * dim..][..dim]).copied().collect();
        let layer_weights = |layer: &Layer| {
            layer.langs.iter().map(|c| options.langs.weight(c.lang, lang)).collect()
        };
        let weights: Vec<Vec<f32>> = index.manifest.layers.iter().map(layer_weights).collect();
        let needs_count = options.reduce == Reduce::Sum;
        let questions = if needs_count { mean_questions(index, &weights) } else { 0.0 };
        let alphas = options.weights.iter().map(|w| w.alpha(options.reduce, questions)).collect();
        Self { members, vectors, weights, alphas }
    }

    /// Whether any weight counts the questions.
    pub fn fused(&self) -> bool {
        self.alphas.iter().any(|&a| a != 0.0)
    }

    /// The sums of a unit that count, in the order of the layers and their languages.
    pub fn parts<'a>(&self, unit: &'a OpenUnit) -> impl Iterator<Item = SumPart<'a>> {
        let places = unit.layers.iter().zip(&self.weights).enumerate();
        let all = places.flat_map(|(number, (layer, weights))| {
            weights.iter().enumerate().map(move |(block, &weight)| (layer, number, block, weight))
        });
        let numbered = all.enumerate().filter(|(_, (.., weight))| *weight > 0.0);
        numbered.map(|(i, (layer, number, block, weight))| SumPart {
            layer,
            number,
            block,
            weight,
            vector: i + 1,
        })
    }

    /// The vector of a member.
    pub fn vector(&self, member: usize) -> &[f32] {
        let dim = self.vectors.len() / self.members.len().max(1);
        &self.vectors[member * dim..][..dim]
    }
}

/// One pass over all rows for some queries.
pub(crate) struct Pass<'a> {
    pub index: &'a Index,
    pub options: &'a SearchOptions,
    pub groups: Vec<Group>,
    pub queries: usize,
}

impl<'a> Pass<'a> {
    fn new(
        index: &'a Index,
        options: &'a SearchOptions,
        langs: &[Option<Lang>],
        vectors: &[f32],
    ) -> Self {
        // Without `match_query` the query's language changes nothing: one group for all.
        let key = |i: usize| {
            if options.langs.match_query { langs[i] } else { None }
        };
        let mut keys: Vec<Option<Lang>> = (0..langs.len()).map(key).collect();
        keys.sort();
        keys.dedup();
        let group = |lang| {
            let members: Vec<usize> = (0..langs.len()).filter(|&i| key(i) == lang).collect();
            Group::new(index, options, lang, members, vectors)
        };
        let groups = keys.into_iter().map(group).collect();
        Self { index, options, groups, queries: langs.len() }
    }

    fn run(&self) -> Vec<Vec<Hits>> {
        // Where a large part of the rows is wanted, a choice beforehand saves nothing.
        let deep = self.options.k > self.index.len() / DEEP;
        let fused = self.groups.iter().any(Group::fused);
        let whole = deep || !self.index.is_sketched(fused);
        self.index.expect_scattered(!whole);
        if whole { plain::run(self) } else { scan::run(self) }
    }
}

/// The weighted number of questions of a passage, averaged over the passages that have any.
pub fn mean_questions(index: &Index, weights: &[Vec<f32>]) -> f32 {
    let (mut total, mut passages) = (0f64, 0u64);
    for unit in index.units() {
        let mut counts = vec![0f32; unit.vectors.rows()];
        for (layer, weights) in unit.layers.iter().zip(weights) {
            for (block, &w) in weights.iter().enumerate() {
                let pairs = counts.iter_mut().zip(layer.counts(block));
                pairs.for_each(|(sum, &n)| *sum += w * n as f32);
            }
        }
        total += counts.iter().map(|&n| f64::from(n)).sum::<f64>();
        passages += counts.iter().filter(|&&n| n > 0.0).count() as u64;
    }
    (total / passages.max(1) as f64) as f32
}

/// A dot product in sixteen lanes: its order is always the same.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dense::dot(a, b)
}
