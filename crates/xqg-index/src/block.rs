//! Some rows of a unit as the sketches have them, fused by the weights of a group: what a query is
//! multiplied with, and how far the result can be from the exact score.
//!
//! With `d` and the sums `s_L`, weights `w_L` and n questions, a fused vector is
//! `((1 - a) d + a sum(w_L s_L) / n) / length`: a weighted sum of sketched rows. The length follows
//! from the stored dot products ([`crate::gram`]), so each row's factors are known before any query.

use xqg_kernel::fold::fold;
use xqg_kernel::isa::Isa;
use xqg_kernel::sift::RowTerms;

use crate::bounds::{COARSE_ROUNDING, HUGE, length, rounding};
use crate::fuse::Reduce;
use crate::gram::pairs;
use crate::index::OpenUnit;
use crate::search::{Group, Pass};
use crate::sketch::{Sketch, round_up};

/// Rows of one sketch: the embeddings, or the sums of one language of one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The sketch and the first of the rows within it.
    pub sketch: &'a Sketch,
    pub first: usize,
    /// 0 for the embeddings, from 1 for the layers: which centre.
    pub family: usize,
    /// The language's weight.
    weight: f64,
    /// The vector's number in the file of dot products.
    vector: usize,
    /// How often the centre is in each row; once where there is none.
    counts: Option<&'a [u32]>,
}

impl Part<'_> {
    /// How often the centre is in a row.
    pub fn times(&self, row: usize) -> f64 {
        self.counts.map_or(1.0, |counts| f64::from(counts[row]))
    }

    /// The rows' codes.
    pub fn codes(&self, rows: usize) -> &[i8] {
        let stride = self.sketch.stride();
        &self.sketch.codes()[self.first * stride..][..rows * stride]
    }
}

/// The rows of a block, without any share.
pub(crate) struct Block<'a> {
    /// How many rows.
    pub rows: usize,
    /// The embeddings first.
    pub parts: Vec<Part<'a>>,
    lengths: Vec<f64>,
    products: Vec<Products>,
}

/// What a row's length is made of.
#[derive(Debug, Clone, Copy, Default)]
struct Products {
    dd: f64,
    ds: f64,
    ss: f64,
    /// Not less than the square of the sum of the lengths of the weighted sums.
    total: f64,
    /// One over the weighted number of questions; 1 for a sum.
    inverse: f64,
}

/// The factors of each row's parts under one share.
pub(crate) struct Mix {
    /// For each part, one a row.
    pub factors: Vec<Vec<f64>>,
    /// How far a query of length one can be from the exact score, beside its own rest.
    pub errors: Vec<f64>,
    /// Not less than the lengths of all that is added up.
    pub sizes: Vec<f64>,
}

impl<'a> Block<'a> {
    /// Rows `start .. start + rows` of a unit. Only for a sketched unit.
    pub fn new(
        pass: &Pass,
        unit: &'a OpenUnit,
        (start, rows): (usize, usize),
        group: &Group,
    ) -> Self {
        let d = unit.sketch.as_deref().expect("a sketched pass");
        let (family, counts) = (0, None);
        let mut parts =
            vec![Part { sketch: d, first: start, family, weight: 1.0, vector: 0, counts }];
        for part in group.parts(unit) {
            parts.push(Part {
                sketch: part.layer.sketch.as_deref().expect("a sketched pass"),
                first: part.block * unit.vectors.rows() + start,
                family: part.number + 1,
                weight: f64::from(part.weight),
                vector: part.vector,
                counts: Some(&part.layer.counts(part.block)[start..start + rows]),
            });
        }
        let lengths = centres(unit).map(|c| length(c.iter().map(|&x| f64::from(x)))).collect();
        let mut this = Self { rows, parts, lengths, products: Vec::new() };
        if group.fused() {
            this.measure(unit, start, pass.options.reduce);
        }
        this
    }

    /// The first sum that counts, whose layer's centre stands for those of all.
    pub fn first_sum(&self) -> Option<&Part<'a>> {
        self.parts.iter().find(|p| p.family > 0)
    }

    /// Reads the dot products and weighs them.
    fn measure(&mut self, unit: &OpenUnit, start: usize, reduce: Reduce) {
        self.products = vec![Products { inverse: 1.0, ..Products::default() }; self.rows];
        if reduce == Reduce::Mean {
            for (row, p) in self.products.iter_mut().enumerate() {
                let n: f64 = self.parts[1..].iter().map(|p| p.weight * p.times(row)).sum();
                p.inverse = if n > 0.0 { 1.0 / n } else { 1.0 };
            }
        }
        let weight = |vector: usize| self.parts.iter().find(|p| p.vector == vector);
        for (i, j, column) in columns(unit) {
            let (Some(a), Some(b)) = (weight(i), weight(j)) else { continue };
            let weight = a.weight * b.weight * if i == j { 1.0 } else { 2.0 };
            let column = &column[start..start + self.rows];
            for (p, &x) in self.products.iter_mut().zip(column) {
                let x = f64::from(x);
                match (i, j) {
                    (0, 0) => p.dd = x,
                    (0, _) => p.ds += weight / 2.0 * x,
                    _ => p.ss += weight * x,
                }
                p.total += if i == j && i > 0 { weight * x } else { 0.0 };
            }
        }
        let sums = (self.parts.len() - 1) as f64;
        for p in &mut self.products {
            let once = p.inverse;
            let square = once * once;
            *p = Products {
                ds: p.ds * once,
                ss: p.ss * square,
                total: sums * p.total * square,
                ..*p
            };
        }
    }

    /// The factors under a share; `alpha` 0 leaves the embeddings alone.
    pub fn mix(&self, alpha: f32, renormalize: bool) -> Mix {
        let used = if alpha == 0.0 { 1 } else { self.parts.len() };
        let mut mix = Mix {
            factors: vec![vec![1.0; self.rows]; used],
            errors: vec![0.0; self.rows],
            sizes: vec![0.0; self.rows],
        };
        let dim = self.parts[0].sketch.dim();
        let rounding = rounding(dim, used);
        if alpha != 0.0 {
            let (a, b) = (f64::from(1.0 - alpha), f64::from(alpha));
            for (row, p) in self.products.iter().enumerate() {
                let (over, error) = p.over_length((a, b), renormalize, rounding);
                mix.errors[row] = error;
                mix.factors[0][row] = a * over;
                for (factors, part) in mix.factors[1..].iter_mut().zip(&self.parts[1..]) {
                    factors[row] = b * part.weight * p.inverse * over;
                }
            }
        }
        self.add_errors(&mut mix, rounding);
        mix
    }

    fn add_errors(&self, mix: &mut Mix, rounding: f64) {
        for (part, factors) in self.parts.iter().zip(&mix.factors) {
            let at = part.first..part.first + self.rows;
            let errors = &part.sketch.errors()[at.clone()];
            let reaches = &part.sketch.reaches()[at];
            // One layer's centre stands for those of others, see `Sheet`: hence the sum.
            let centre: f64 = match part.family {
                0 => self.lengths[..1].iter().sum(),
                _ => self.lengths[1..].iter().sum(),
            };
            for row in 0..self.rows {
                let (error, reach) = (f64::from(errors[row]), f64::from(reaches[row]));
                mix.errors[row] += factors[row] * error;
                mix.sizes[row] += factors[row] * (part.times(row) * centre + reach + error);
            }
        }
        for (error, &size) in mix.errors.iter_mut().zip(&mix.sizes) {
            // Twice: for the exact score's own rounding, and for the products with the centres.
            *error = if size < HUGE { *error + 2.0 * rounding * size } else { f64::INFINITY };
        }
    }
}

impl Products {
    /// One over the length of the fused vector, and how far the exact score of a query of length one
    /// can be from that of real numbers. Where the parts cancel, there is no bound.
    fn over_length(&self, (a, b): (f64, f64), renormalize: bool, rounding: f64) -> (f64, f64) {
        let size = a * self.dd.max(0.0).sqrt() + b * self.total.max(0.0).sqrt();
        if size == 0.0 {
            return (0.0, 0.0);
        }
        if !(1.0 / HUGE..HUGE).contains(&size) {
            return (0.0, f64::INFINITY);
        }
        if !renormalize {
            return (1.0, 1.25 * rounding * size);
        }
        let square = a * a * self.dd + 2.0 * a * b * self.ds + b * b * self.ss;
        let relative = 4.0 * rounding * size * size / square;
        if !(0.0..0.25).contains(&relative) {
            return (0.0, f64::INFINITY);
        }
        let over = 1.0 / square.sqrt();
        (over, 1.25 * rounding * size * over + 1.01 * relative)
    }
}

/// The centres of a unit: of the embeddings, then of each layer.
pub(crate) fn centres(unit: &OpenUnit) -> impl Iterator<Item = &[f32]> {
    let layers = unit.layers.iter().filter_map(|l| l.sketch.as_deref());
    unit.sketch.as_deref().into_iter().chain(layers).map(Sketch::centre)
}

/// All stored dot products of a unit: of which vectors, and one number a row.
fn columns(unit: &OpenUnit) -> impl Iterator<Item = (usize, usize, &[f32])> {
    let mut from = 1;
    unit.layers.iter().flat_map(move |layer| {
        let to = from + layer.langs.len();
        let pairs = pairs(from, to).enumerate();
        from = to;
        let gram = layer.gram.as_ref();
        pairs.filter_map(move |(k, (i, j))| Some((i, j, gram?.rows_in_place(k, 1)?)))
    })
}

/// A row as one sketched row: what many queries are multiplied with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    /// What a code is multiplied with.
    pub scale: f64,
    /// The sum of the codes, multiplied.
    pub total: f64,
    /// As in [`Mix`].
    pub error: f64,
    /// Not less than the length of `scale * codes`.
    pub reach: f64,
    /// How often the centre of the embeddings and that of [`Block::first_sum`] are in the row.
    pub times: [f64; 2],
    size: f64,
}

impl Row {
    fn terms(&self) -> RowTerms {
        let error = round_up(self.error + COARSE_ROUNDING * self.size);
        let times = self.times.map(|x| x as f32);
        let terms = [self.total as f32, error, round_up(self.reach), times[0], times[1]];
        RowTerms { scale: self.scale as f32, terms }
    }
}

/// The rows of a block under one share as single sketched rows: the embeddings where they lie, or
/// everything folded into 8 bits once more, which costs less than to multiply each part with many
/// queries.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    /// The folded codes; empty for embeddings alone.
    pub folded: Vec<i8>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The rows' numbers for a bound in single precision.
    pub terms: Vec<RowTerms>,
    x: Vec<f32>,
}

impl Sheet {
    /// Fills the sheet with the rows of a block.
    pub fn fill(&mut self, isa: Isa, block: &Block, mix: &Mix) {
        self.fill_rows(isa, block, mix);
        self.terms.clear();
        self.terms.extend(self.rows.iter().map(Row::terms));
    }

    fn fill_rows(&mut self, isa: Isa, block: &Block, mix: &Mix) {
        self.rows.clear();
        self.folded.clear();
        if mix.factors.len() == 1 {
            return self.rows.extend((0..block.rows).map(|row| embedding(block, mix, row)));
        }
        let stride = block.parts[0].sketch.stride();
        self.folded.resize(block.rows * stride, 0);
        self.x.resize(stride, 0.0);
        for row in 0..block.rows {
            let made = self.fold_row(isa, block, mix, row);
            self.rows.push(made);
        }
    }

    fn fold_row(&mut self, isa: Isa, block: &Block, mix: &Mix, row: usize) -> Row {
        let stride = block.parts[0].sketch.stride();
        let (mut times, mut parts) = ([0.0; 2], Vec::with_capacity(block.parts.len()));
        self.x.fill(0.0);
        for (part, factors) in block.parts.iter().zip(&mix.factors) {
            let (factor, at) = (factors[row], part.first + row);
            times[part.family.min(1)] += factor * part.times(row);
            self.shift(block, part, factor * part.times(row));
            let codes = &part.sketch.codes()[at * stride..][..stride];
            parts.push((codes, (factor * f64::from(part.sketch.scales()[at])) as f32));
        }
        let codes = &mut self.folded[row * stride..][..stride];
        let made = fold(isa, &parts, &mut self.x, codes);
        let rounding = (parts.len() + 8) as f64 / f64::from(1 << 23) * mix.sizes[row];
        let scale = f64::from(made.scale);
        Row {
            scale,
            total: scale * f64::from(made.sum),
            error: mix.errors[row] + f64::from(made.error) + rounding,
            reach: f64::from(made.reach),
            times,
            size: mix.sizes[row] + f64::from(made.reach),
        }
    }

    /// Adds by how much a layer's centre differs from the one that stands for it.
    fn shift(&mut self, block: &Block, part: &Part, times: f64) {
        let Some(first) = block.first_sum().filter(|f| f.family < part.family) else { return };
        let times = times as f32;
        for ((x, c), f) in self.x.iter_mut().zip(part.sketch.centre()).zip(first.sketch.centre()) {
            *x += times * (c - f);
        }
    }
}

fn embedding(block: &Block, mix: &Mix, row: usize) -> Row {
    let (sketch, at) = (block.parts[0].sketch, block.parts[0].first + row);
    let factor = mix.factors[0][row];
    let scale = factor * f64::from(sketch.scales()[at]);
    Row {
        scale,
        total: scale * f64::from(sketch.sums()[at]),
        error: mix.errors[row],
        reach: factor * f64::from(sketch.reaches()[at]),
        times: [factor, 0.0],
        size: mix.sizes[row],
    }
}
