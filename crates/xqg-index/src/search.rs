//! Exact search: the k passages with the highest fused score for each query, over all passages.
//!
//! For a passage embedding `d` and its reduced questions `s`, the fused score of a query q is
//! `((1 - a) q·d + a q·s) / |(1 - a) d + a s|` (without the division where nothing is renormalised),
//! so one pass over `d` and `s` serves any number of weights `a` at once. Blocks of rows are scored
//! against all queries by matrix products, on all threads; the ranking does not depend on how many.

use gemm::Parallelism;
use rayon::prelude::*;
use xqg_data::lang::Lang;
use xqg_data::run::Run;

use crate::error::{IndexError, Result};
use crate::fuse::{LangSum, LangWeights, Reduce, Weight, reduce_questions};
use crate::index::{Index, OpenUnit};
use crate::progress::{Observer, Progress, Stage};
use crate::top_k::TopK;

/// Rows scored together: their vectors and scores stay in a core's cache.
const BLOCK_ROWS: usize = 256;
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
    let per_query = options.weights.len().max(1) * options.k.max(1);
    // A selection holds 2 k pairs of 8 bytes, and a thread holds up to two sets of selections.
    let threads = rayon::current_num_threads();
    let batch = (CANDIDATE_BYTES / (per_query * 16 * 2 * threads)).clamp(1, 1024);
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
struct Group {
    /// Places within the pass's queries.
    members: Vec<usize>,
    /// The members' vectors, row after row.
    vectors: Vec<f32>,
    /// For each layer, the weight of each of its languages.
    weights: Vec<Vec<f32>>,
    /// The formula's alpha for each weight of the options.
    alphas: Vec<f32>,
}

/// One pass over all rows for some queries.
struct Pass<'a> {
    index: &'a Index,
    options: &'a SearchOptions,
    groups: Vec<Group>,
    queries: usize,
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    d: Vec<f32>,
    s: Vec<f32>,
    sums: Vec<f32>,
    lengths: Vec<[f32; 3]>,
    q_d: Vec<f32>,
    q_s: Vec<f32>,
}

/// The selections of one thread: for each weight and query.
type Selections = Vec<Vec<TopK>>;

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

    fn empty(&self) -> Selections {
        vec![vec![TopK::new(self.options.k); self.queries]; self.options.weights.len()]
    }

    fn run(&self) -> Vec<Vec<Hits>> {
        let ids = &self.index.ids;
        let blocks: Vec<(&OpenUnit, usize)> = self.index.units().iter().flat_map(blocks).collect();
        let fold = |(mut best, mut scratch): (Selections, Scratch),
                    &(unit, start): &(&OpenUnit, usize)| {
            self.score_block(unit, start, &mut scratch, &mut best);
            (best, scratch)
        };
        let merge = |mut a: Selections, b: Selections| {
            for (x, y) in a.iter_mut().flatten().zip(b.into_iter().flatten()) {
                x.merge(y, ids);
            }
            a
        };
        let best = blocks
            .par_iter()
            .with_min_len(4)
            .fold(|| (self.empty(), Scratch::default()), fold)
            .map(|(best, _)| best)
            .reduce(|| self.empty(), merge);
        let sort = |run: Vec<TopK>| run.into_iter().map(|top| top.into_sorted(ids)).collect();
        best.into_iter().map(sort).collect()
    }

    /// Scores one block of rows against every query under every weight.
    fn score_block(&self, unit: &OpenUnit, start: usize, s: &mut Scratch, best: &mut Selections) {
        let rows = BLOCK_ROWS.min(unit.vectors.rows() - start);
        let dim = self.index.dim();
        s.d.resize(rows * dim, 0.0);
        unit.vectors.read_rows(start, &mut s.d);
        for group in &self.groups {
            let fused = group.alphas.iter().any(|&a| a > 0.0);
            if fused {
                s.reduce(unit, start, group, (rows, dim, self.options.reduce));
            }
            let shape = (group.members.len(), rows, dim);
            products(shape, &group.vectors, &s.d, &mut s.q_d);
            if fused {
                products(shape, &group.vectors, &s.s, &mut s.q_s);
            }
            let first = (unit.first + start) as u32;
            self.offer(group, (first, rows), s, best);
        }
    }

    fn offer(
        &self,
        group: &Group,
        (first, rows): (u32, usize),
        s: &Scratch,
        best: &mut Selections,
    ) {
        for (&alpha, best) in group.alphas.iter().zip(best) {
            let scales = if alpha > 0.0 { self.scales(alpha, &s.lengths[..rows]) } else { vec![] };
            for (i, &query) in group.members.iter().enumerate() {
                let q_d = &s.q_d[i * rows..][..rows];
                let score = |row: usize| match scales.get(row) {
                    None => q_d[row],
                    Some(scale) => {
                        ((1.0 - alpha) * q_d[row] + alpha * s.q_s[i * rows + row]) * scale
                    }
                };
                for row in 0..rows {
                    best[query].offer(score(row), first + row as u32, &self.index.ids);
                }
            }
        }
    }

    /// One over the length of each fused vector, from the lengths of its parts; 1 without
    /// renormalising.
    fn scales(&self, alpha: f32, lengths: &[[f32; 3]]) -> Vec<f32> {
        let (a, b) = (f64::from(1.0 - alpha), f64::from(alpha));
        let scale = |&[dd, ds, ss]: &[f32; 3]| {
            let square =
                a * a * f64::from(dd) + 2.0 * a * b * f64::from(ds) + b * b * f64::from(ss);
            if square > 0.0 { (1.0 / square.sqrt()) as f32 } else { 0.0 }
        };
        if self.options.renormalize {
            lengths.iter().map(scale).collect()
        } else {
            vec![1.0; lengths.len()]
        }
    }
}

fn blocks(unit: &OpenUnit) -> impl Iterator<Item = (&OpenUnit, usize)> {
    (0..unit.vectors.rows()).step_by(BLOCK_ROWS).map(move |start| (unit, start))
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
        let layer_weights = |layer: &crate::manifest::Layer| {
            layer.langs.iter().map(|c| options.langs.weight(c.lang, lang)).collect()
        };
        let weights: Vec<Vec<f32>> = index.manifest.layers.iter().map(layer_weights).collect();
        let needs_count = options.reduce == Reduce::Sum;
        let questions = if needs_count { mean_questions(index, &weights) } else { 0.0 };
        let alphas = options.weights.iter().map(|w| w.alpha(options.reduce, questions)).collect();
        Self { members, vectors, weights, alphas }
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

impl Scratch {
    /// Reads the sums of a block, reduces them by the group's weights, and measures lengths.
    fn reduce(
        &mut self,
        unit: &OpenUnit,
        start: usize,
        group: &Group,
        (rows, dim, reduce): (usize, usize, Reduce),
    ) {
        let mut parts: Vec<(f32, &[u32])> = Vec::new();
        self.sums.clear();
        for (layer, weights) in unit.layers.iter().zip(&group.weights) {
            for (block, &weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                let at = self.sums.len();
                self.sums.resize(at + rows * dim, 0.0);
                layer.read_sums(block, start, &mut self.sums[at..]);
                parts.push((weight, &layer.counts(block)[start..start + rows]));
            }
        }
        self.s.resize(rows * dim, 0.0);
        self.lengths.resize(rows, [0.0; 3]);
        for row in 0..rows {
            let sum = |i: usize| &self.sums[(i * rows + row) * dim..][..dim];
            let lang_sum = |(i, &(weight, counts)): (usize, &(f32, &[u32]))| LangSum {
                weight,
                sum: sum(i),
                count: counts[row],
            };
            let parts = parts.iter().enumerate().map(lang_sum);
            let out = &mut self.s[row * dim..][..dim];
            reduce_questions(parts, reduce, out);
            let d = &self.d[row * dim..][..dim];
            self.lengths[row] = [dot(d, d), dot(d, out), dot(out, out)];
        }
    }
}

/// A dot product in sixteen lanes: it vectorises, and its order is always the same.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let tail: f32 = tail.map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..16 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// `out = queries · rowsᵀ`: m queries against n rows of length k.
fn products((m, n, k): (usize, usize, usize), queries: &[f32], rows: &[f32], out: &mut Vec<f32>) {
    out.resize(m * n, 0.0);
    assert!(queries.len() == m * k && rows.len() >= n * k, "whole rows on both sides");
    // SAFETY: the three buffers hold at least m x k, n x k and m x n numbers, as just checked, and
    // `out` is borrowed mutably, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            queries.as_ptr(),
            1,
            k as isize,
            rows.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
