//! The fused vectors of an index under one setting, row after row: what a graph is built over, and
//! what a collapsed index or an export holds. Nothing is kept; each block is fused when it is read.

use serde::{Deserialize, Serialize};

use crate::error::{IndexError, Result};
use crate::fuse::{LangSum, LangWeights, Reduce, Weight, fuse_into, reduce_questions};
use crate::index::{Index, OpenUnit};
use crate::search::mean_questions;

/// Rows fused together.
pub(crate) const BLOCK: usize = 256;

/// One setting of the fusion, the same for every query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    /// How much the questions count.
    pub weight: Weight,
    /// Sum or mean of the questions.
    pub reduce: Reduce,
    /// Whether fused vectors are scaled to length one.
    pub renormalize: bool,
    /// Which languages count; a fused vector is the same for all queries, so never by the query's.
    pub langs: LangWeights,
}

impl Fusion {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`IndexError::Setting`].
    pub fn check(&self) -> Result<()> {
        self.weight.check()?;
        self.langs.check()?;
        if self.langs.match_query {
            let (name, expected) = ("--lang-match", "one weight of a language for all queries");
            return Err(IndexError::Setting { name, expected, found: "weights by query".into() });
        }
        Ok(())
    }

    /// The setting in words, for messages.
    pub fn describe(&self) -> String {
        let weight = match self.weight {
            Weight::Alpha(alpha) => format!("alpha {alpha}"),
            Weight::Share(share) => format!("share {share}"),
        };
        let reduce = if self.reduce == Reduce::Sum { "sum" } else { "mean" };
        let scaled = if self.renormalize { ", renormalised" } else { "" };
        let lang = |(lang, w): (&xqg_data::lang::Lang, &f32)| format!(", {lang}={w}");
        let langs: String = self.langs.weights.iter().map(lang).collect();
        format!("{weight}, {reduce}{scaled}{langs}")
    }
}

/// The fused vectors of an index.
#[derive(Debug)]
pub struct FusedRows<'a> {
    index: &'a Index,
    alpha: f32,
    reduce: Reduce,
    renormalize: bool,
    /// For each layer, the weight of each of its languages.
    weights: Vec<Vec<f32>>,
}

impl<'a> FusedRows<'a> {
    /// Fixes the setting; reads nothing but counts, and these only for a share of a sum.
    ///
    /// # Errors
    /// When a number of the setting is out of its range.
    pub fn new(index: &'a Index, fusion: &Fusion) -> Result<Self> {
        fusion.check()?;
        let of_layer = |layer: &crate::manifest::Layer| {
            layer.langs.iter().map(|c| fusion.langs.weight(c.lang, None)).collect()
        };
        let weights: Vec<Vec<f32>> = index.manifest.layers.iter().map(of_layer).collect();
        let summed = fusion.reduce == Reduce::Sum;
        let questions = if summed { mean_questions(index, &weights) } else { 0.0 };
        let alpha = fusion.weight.alpha(fusion.reduce, questions);
        let (reduce, renormalize) = (fusion.reduce, fusion.renormalize);
        Ok(Self { index, alpha, reduce, renormalize, weights })
    }

    /// The index whose rows these are.
    pub fn index(&self) -> &'a Index {
        self.index
    }

    /// Writes the fused vectors of the rows from `first` on, as many as `out` has room for.
    ///
    /// # Panics
    /// When the rows go beyond the last: a bug of the caller.
    pub fn read(&self, first: usize, out: &mut [f32]) {
        let (mut row, mut rest) = (first, out);
        while !rest.is_empty() {
            let (unit, start) = self.index.unit_of(row as u32);
            let rows = (unit.vectors.rows() - start).min(rest.len() / self.index.dim());
            let (now, later) = rest.split_at_mut(rows * self.index.dim());
            self.read_unit(unit, start, now);
            (row, rest) = (row + rows, later);
        }
    }

    fn read_unit(&self, unit: &OpenUnit, start: usize, out: &mut [f32]) {
        unit.vectors.read_rows(start, out);
        if self.alpha == 0.0 {
            return;
        }
        let dim = self.index.dim();
        let parts = Parts::read(unit, &self.weights, (start, out.len() / dim, dim));
        let mut questions = vec![0.0; dim];
        for (row, d) in out.chunks_exact_mut(dim).enumerate() {
            reduce_questions(parts.row(row), self.reduce, &mut questions);
            fuse_into(d, &questions, self.alpha, self.renormalize);
        }
    }

    /// The fused vector of one row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.index.dim()];
        self.read(row, &mut out);
        out
    }
}

/// The sums of some rows of a unit that count under some weights.
pub(crate) struct Parts<'a> {
    rows: usize,
    dim: usize,
    sums: Vec<f32>,
    weighed: Vec<(f32, &'a [u32])>,
}

impl<'a> Parts<'a> {
    /// Reads the sums of `rows` rows from `start` on, of every language whose weight is not 0.
    pub(crate) fn read(
        unit: &'a OpenUnit,
        weights: &[Vec<f32>],
        (start, rows, dim): (usize, usize, usize),
    ) -> Self {
        let (mut sums, mut weighed) = (Vec::new(), Vec::new());
        for (layer, weights) in unit.layers.iter().zip(weights) {
            for (block, &weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                let at = sums.len();
                sums.resize(at + rows * dim, 0.0);
                layer.read_sums(block, start, &mut sums[at..]);
                weighed.push((weight, &layer.counts(block)[start..start + rows]));
            }
        }
        Self { rows, dim, sums, weighed }
    }

    /// The sums of one row.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = LangSum<'_>> {
        self.weighed.iter().enumerate().map(move |(i, &(weight, counts))| LangSum {
            weight,
            sum: &self.sums[(i * self.rows + row) * self.dim..][..self.dim],
            count: counts[row],
        })
    }
}
