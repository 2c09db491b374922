//! Scaled dot-product attention of each text over its own tokens. Texts lie end to end, so there is
//! no padding and no mask; keys and values of a head are packed once and then multiplied by the same
//! kernels as the linear layers.

use rayon::prelude::*;
use xqg_kernel::attention as narrow;
use xqg_kernel::isa::Isa;
use xqg_kernel::ops::{Shape, View, matmul, matmul_transposed};
use xqg_kernel::product::{Operands, product_f32};
use xqg_kernel::row::softmax_rows;

/// Rows of scores that are made, normalised and used while they lie in the cache.
const QUERY_BLOCK: usize = 48;

/// The shape of a layer's attention.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Number of heads.
    pub count: usize,
    /// Length of a head's part.
    pub dim: usize,
    /// Numbers between two rows of queries, keys and values, which lie side by side.
    pub stride: usize,
    /// The kernels.
    pub isa: Isa,
    /// Whole numbers, where the kernels have them: beside 8-bit layers.
    pub narrow: Option<narrow::Width>,
}

/// Memory for one head of the longest text.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    narrow: narrow::Scratch,
}

impl Heads {
    /// Length of a row of the result in memory: the last head is written in whole panels.
    pub fn context_stride(&self) -> usize {
        (self.count - 1) * self.dim + self.dim.next_multiple_of(self.isa.panel())
    }

    /// Writes the context of one text of `n` tokens: `out` has rows of
    /// [`context_stride`](Self::context_stride).
    pub fn attend(&self, qkv: &[f32], n: usize, out: &mut [f32], scratch: &mut AttentionScratch) {
        for head in 0..self.count {
            let place = (&mut out[head * self.dim..], self.context_stride());
            self.one_head(qkv, (n, head), place, scratch);
        }
    }

    /// One head's context, in rows that begin with it and lie a stride apart; numbers up to the end
    /// of the last panel are overwritten.
    fn one_head(
        &self,
        qkv: &[f32],
        (n, head): (usize, usize),
        place: (&mut [f32], usize),
        scratch: &mut AttentionScratch,
    ) {
        match (self.isa, self.narrow) {
            (Isa::PORTABLE, _) => self.plain_head(qkv, (n, head), place, scratch),
            (isa, Some(width)) if narrow::fits(isa, n, self.dim) => {
                let (columns, dim) = (self.columns(head), self.dim);
                let head =
                    narrow::Head { qkv, stride: self.stride, n, columns, dim, scale: self.scale() };
                narrow::attend(isa, width, head, place, &mut scratch.narrow);
            }
            _ => self.packed_head(qkv, (n, head), place, scratch),
        }
    }

    /// The same with the heads divided between a team of threads, for one long text alone. Each
    /// thread writes the context of its heads apart, for in `out` they lie side by side.
    pub fn attend_as_team(
        &self,
        (qkv, n): (&[f32], usize),
        out: &mut [f32],
        teams: &mut Vec<(AttentionScratch, Vec<f32>)>,
        team: usize,
    ) {
        let team = team.clamp(1, self.count);
        teams.resize_with(team.max(teams.len()), Default::default);
        let bounds = |i: usize| (self.count * i / team, self.count * (i + 1) / team);
        let part = |(i, (scratch, context)): (usize, &mut (AttentionScratch, Vec<f32>))| {
            let (from, to) = bounds(i);
            let some = Self { count: to - from, ..*self };
            grow(context, n * some.context_stride());
            for head in from..to {
                let place = &mut context[(head - from) * self.dim..];
                self.one_head(qkv, (n, head), (place, some.context_stride()), scratch);
            }
        };
        teams[..team].par_iter_mut().enumerate().with_max_len(1).for_each(part);
        for (i, (_, context)) in teams[..team].iter().enumerate() {
            let (from, to) = bounds(i);
            let stride = Self { count: to - from, ..*self }.context_stride();
            let rows =
                out.chunks_exact_mut(self.context_stride()).zip(context.chunks_exact(stride));
            for (row, part) in rows.take(n) {
                let width = (to - from) * self.dim;
                row[from * self.dim..][..width].copy_from_slice(&part[..width]);
            }
        }
    }

    /// The columns at which a head's query, key and value begin.
    fn columns(&self, head: usize) -> [usize; 3] {
        let hidden = self.count * self.dim;
        [0, hidden, 2 * hidden].map(|part| part + head * self.dim)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    fn plain_head(
        &self,
        qkv: &[f32],
        (n, head): (usize, usize),
        (out, out_stride): (&mut [f32], usize),
        s: &mut AttentionScratch,
    ) {
        let [q, k, v] = self.columns(head).map(|at| View::new(&qkv[at..], self.stride));
        grow(&mut s.scores, n * n);
        let scores = &mut s.scores[..n * n];
        matmul_transposed(Shape { m: n, n, k: self.dim }, q, k, scores, n);
        softmax_rows(self.isa, scores, n, n, self.scale());
        let shape = Shape { m: n, n: self.dim, k: n };
        matmul(shape, View::new(scores, n), v, out, out_stride);
    }

    fn packed_head(
        &self,
        qkv: &[f32],
        (n, head): (usize, usize),
        (out, out_stride): (&mut [f32], usize),
        s: &mut AttentionScratch,
    ) {
        let (panel, d, stride) = (self.isa.panel(), self.dim, self.stride);
        let [q, k, v] = self.columns(head);
        let (keys, width) = (n.next_multiple_of(panel), d.next_multiple_of(panel));
        grow(&mut s.keys, keys * d);
        grow(&mut s.values, width * n);
        grow(&mut s.scores, QUERY_BLOCK * keys);
        pack_keys(qkv, k, stride, (n, d, panel), &mut s.keys[..keys * d]);
        pack_values(qkv, v, stride, (n, d, panel), &mut s.values[..width * n]);
        for start in (0..n).step_by(QUERY_BLOCK) {
            let rows = QUERY_BLOCK.min(n - start);
            let plain = |a, a_stride, k, panels| Operands {
                a,
                a_stride,
                k,
                panels,
                bias: None,
                residual: None,
                gelu: false,
            };
            let queries = plain(&qkv[start * stride + q..], stride, d, &s.keys[..keys * d]);
            product_f32(self.isa, rows, queries, (&mut s.scores, keys), 1);
            softmax_rows(self.isa, &mut s.scores[..rows * keys], keys, n, self.scale());
            let scores = plain(&s.scores, keys, n, &s.values[..width * n]);
            let to = &mut out[start * out_stride..];
            product_f32(self.isa, rows, scores, (to, out_stride), 1);
        }
    }
}

/// Panels of keys, each `d x panel`: the keys of `panel` tokens side by side, zeros after the last.
pub fn pack_keys(
    qkv: &[f32],
    column: usize,
    stride: usize,
    (n, d, panel): (usize, usize, usize),
    out: &mut [f32],
) {
    for (p, block) in out.chunks_exact_mut(d * panel).enumerate() {
        for c in 0..panel {
            let token = p * panel + c;
            let key = if token < n { &qkv[token * stride + column..][..d] } else { &[] };
            for i in 0..d {
                block[i * panel + c] = key.get(i).copied().unwrap_or(0.0);
            }
        }
    }
}

/// Panels of values, each `n x panel`, zeros after the head's last column.
pub fn pack_values(
    qkv: &[f32],
    column: usize,
    stride: usize,
    (n, d, panel): (usize, usize, usize),
    out: &mut [f32],
) {
    for (p, block) in out.chunks_exact_mut(n * panel).enumerate() {
        let width = panel.min(d - p * panel);
        for (token, row) in block.chunks_exact_mut(panel).enumerate() {
            let at = token * stride + column + p * panel;
            row[..width].copy_from_slice(&qkv[at..at + width]);
            row[width..].fill(0.0);
        }
    }
}

/// Makes a buffer at least that long; it never shrinks.
pub fn grow(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_set_attends_like_the_portable_one(
            n in prop_oneof![1usize..8, Just(31), Just(50), Just(97)],
            count in 1usize..4,
            dim in prop_oneof![1usize..9, Just(32), Just(48), Just(64)],
        ) {
            let stride = 3 * count * dim + 5;
            let qkv: Vec<f32> = (0..n * stride).map(|i| (i as f32 * 0.7).sin()).collect();
            let run = |isa, narrow| {
                let heads = Heads { count, dim, stride, isa, narrow };
                let wide = heads.context_stride();
                let mut out = vec![0.0; n * wide];
                heads.attend(&qkv, n, &mut out, &mut AttentionScratch::default());
                let row = |i: usize| out[i * wide..][..count * dim].to_vec();
                (0..n).flat_map(row).collect::<Vec<f32>>()
            };
            let as_team = |isa, narrow, team| {
                let heads = Heads { count, dim, stride, isa, narrow };
                let wide = heads.context_stride();
                let mut out = vec![0.0; n * wide];
                heads.attend_as_team((&qkv, n), &mut out, &mut Vec::new(), team);
                let row = |i: usize| out[i * wide..][..count * dim].to_vec();
                (0..n).flat_map(row).collect::<Vec<f32>>()
            };
            let plain = run(Isa::PORTABLE, None);
            let widths = [None, Some(narrow::Width::Sixteen), Some(narrow::Width::Eight)];
            for (isa, narrow) in Isa::available().into_iter().flat_map(|isa| widths.map(|w| (isa, w))) {
                let bound = match narrow {
                    None => 1e-5,
                    Some(narrow::Width::Sixteen) => 2e-3,
                    Some(narrow::Width::Eight) => 3e-2,
                };
                let ours = run(isa, narrow);
                for (ours, theirs) in ours.iter().zip(&plain) {
                    prop_assert!((ours - theirs).abs() < bound, "{isa:?}");
                }
                for team in [1, 2, 5] {
                    prop_assert_eq!(&as_team(isa, narrow, team), &ours, "{:?} with {}", isa, team);
                }
            }
        }
    }
}
