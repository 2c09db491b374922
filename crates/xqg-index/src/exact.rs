//! The score of a passage, as it is defined: from the stored numbers in single precision, with dot
//! products whose order of additions is fixed. Every search ends here, so a score has the same bits
//! whichever way its passage was found.

use xqg_kernel::dense::{dot, dots};
use xqg_kernel::isa::Isa;

use crate::fuse::{LangSum, Reduce, reduce_questions};
use crate::index::OpenUnit;
use crate::search::Group;

/// Buffers of one thread; empty where the rows can be used where they lie.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    d: Vec<f32>,
    sums: Vec<Vec<f32>>,
    s: Vec<f32>,
    lengths: Vec<[f32; 3]>,
}

/// Some rows of a unit, with their questions reduced by the weights of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The embeddings.
    pub d: &'a [f32],
    /// The reduced questions; empty where no weight counts them.
    pub s: &'a [f32],
    /// For each row d·d, d·s and s·s; empty like `s`.
    pub lengths: &'a [[f32; 3]],
}

impl Buffers {
    /// Reads `rows` rows of a unit from `start`.
    pub fn load<'a>(
        &'a mut self,
        unit: &'a OpenUnit,
        (start, rows): (usize, usize),
        group: &Group,
        reduce: Reduce,
    ) -> Rows<'a> {
        let Self { d, sums, s, lengths } = self;
        let (d, dim) = (unit.vectors.rows_at(start, rows, d), unit.vectors.dim());
        if !group.fused() {
            return Rows { d, s: &[], lengths: &[] };
        }
        let parts: Vec<_> = group.parts(unit).collect();
        sums.resize_with(parts.len().max(sums.len()), Vec::new);
        let place = |(part, buffer): (&crate::search::SumPart<'a>, &'a mut Vec<f32>)| {
            let at = part.block * unit.vectors.rows() + start;
            let sums = part.layer.sums.rows_at(at, rows, buffer);
            (part.weight, sums, &part.layer.counts(part.block)[start..start + rows])
        };
        let parts: Vec<_> = parts.iter().zip(sums).map(place).collect();
        s.resize(rows * dim, 0.0);
        lengths.resize(rows, [0.0; 3]);
        for (row, (s, lengths)) in s.chunks_exact_mut(dim).zip(&mut *lengths).enumerate() {
            let lang_sum = |&(weight, sums, counts): &(f32, &'a [f32], &'a [u32])| LangSum {
                weight,
                sum: &sums[row * dim..][..dim],
                count: counts[row],
            };
            reduce_questions(parts.iter().map(lang_sum), reduce, s);
            let d = &d[row * dim..][..dim];
            *lengths = [dot(d, d), dot(d, s), dot(s, s)];
        }
        Rows { d, s, lengths }
    }
}

impl Rows<'_> {
    /// Multiplies all rows with some queries: `row * queries + query`, for d and for s.
    pub fn products(
        &self,
        dim: usize,
        queries: &[f32],
        (q_d, q_s): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let isa = Isa::detect();
        for (rows, out) in [(self.d, q_d), (self.s, q_s)] {
            out.resize(rows.len() / dim * (queries.len() / dim), 0.0);
            dots(isa, dim, rows, queries, out);
        }
    }

    /// The score of the one row that was loaded.
    pub fn score(&self, query: &[f32], alpha: f32, renormalize: bool) -> f32 {
        let q_d = dot(self.d, query);
        if alpha == 0.0 {
            return q_d;
        }
        fused_score(alpha, (q_d, dot(self.s, query)), scale(alpha, self.lengths[0], renormalize))
    }
}

/// The score of a fused vector from those of its parts and one over its length.
pub(crate) fn fused_score(alpha: f32, (q_d, q_s): (f32, f32), scale: f32) -> f32 {
    ((1.0 - alpha) * q_d + alpha * q_s) * scale
}

/// One over the length of a fused vector, from the products d·d, d·s and s·s of its parts; 1 without
/// renormalising, 0 for a vector of zeros.
pub(crate) fn scale(alpha: f32, [dd, ds, ss]: [f32; 3], renormalize: bool) -> f32 {
    if !renormalize {
        return 1.0;
    }
    let (a, b) = (f64::from(1.0 - alpha), f64::from(alpha));
    let square = a * a * f64::from(dd) + 2.0 * a * b * f64::from(ds) + b * b * f64::from(ss);
    if square > 0.0 { (1.0 / square.sqrt()) as f32 } else { 0.0 }
}
