//! Attention of each text over its own tokens, and the way back. Probabilities are not kept: making
//! them again costs a twentieth of a layer and saves a third of its memory.

use xqg_kernel::dropout::{Key, Rate};
use xqg_kernel::gradient::softmax_back;
use xqg_kernel::ops::{
    Shape, View, matmul, matmul_add, matmul_left_transposed_add, matmul_transposed,
};
use xqg_kernel::row::softmax_rows;

use super::Encoder;
use super::forward::{Scratch, Site, site};
use super::pass::{GroupPass, sized};

/// Memory for one head of the longest text.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    probabilities: Vec<f32>,
    dropped: Vec<f32>,
    grad: Vec<f32>,
}

/// One head of one text.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Tokens.
    n: usize,
    /// Length of a head's part.
    d: usize,
    /// Of all heads together.
    h: usize,
    /// Which head.
    index: usize,
    /// Numbers between two rows of scores: whole registers.
    stride: usize,
    /// What is left out.
    rate: Option<Rate>,
    /// By which draws.
    key: Key,
}

impl Head {
    /// Columns of query, key and value in a row of all three.
    fn columns(&self) -> [usize; 3] {
        [0, self.h, 2 * self.h].map(|part| part + self.index * self.d)
    }

    fn views<'a>(&self, qkv: &'a [f32]) -> [View<'a>; 3] {
        self.columns().map(|at| View::new(&qkv[at..], 3 * self.h))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    /// The probabilities before dropout.
    fn probabilities(&self, isa: xqg_kernel::isa::Isa, qkv: &[f32], out: &mut [f32]) {
        let [q, k, _] = self.views(qkv);
        let shape = Shape { m: self.n, n: self.n, k: self.d };
        matmul_transposed(shape, q, k, out, self.stride);
        softmax_rows(isa, out, self.stride, self.n, self.scale());
    }

    /// Leaves out probabilities, or numbers of their gradient.
    fn drop(&self, numbers: &mut [f32]) {
        let Some(rate) = self.rate else { return };
        for (i, row) in numbers.chunks_exact_mut(self.stride).enumerate() {
            let start = (self.index * self.n + i) * self.n;
            rate.apply(self.key, start, &mut row[..self.n]);
        }
    }
}

impl Encoder {
    /// Every head of every text of a group.
    fn heads<'a>(
        &'a self,
        layer: usize,
        group: &'a GroupPass,
    ) -> impl Iterator<Item = (Head, std::ops::Range<usize>)> + 'a {
        let (h, count) = (self.config.hidden_size, self.config.num_attention_heads);
        let rate = self.dropout.map(|d| d.attention).filter(|rate| !rate.is_zero());
        group.spans().zip(&group.keys).flat_map(move |(span, key)| {
            let (n, d, key) = (span.len(), h / count, key.part(site(layer, Site::Probabilities)));
            let stride = n.next_multiple_of(16);
            (0..count).map(move |index| (Head { n, d, h, index, stride, rate, key }, span.clone()))
        })
    }

    /// Writes the context of a group.
    pub(super) fn attend(
        &self,
        layer: usize,
        group: &GroupPass,
        qkv: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        for (head, span) in self.heads(layer, group) {
            let (h, n) = (head.h, head.n);
            let qkv = &qkv[span.start * 3 * h..span.end * 3 * h];
            let p = sized(&mut scratch.attention.probabilities, n * head.stride);
            head.probabilities(self.isa, qkv, p);
            head.drop(p);
            let to = &mut out[span.start * h..span.end * h][head.index * head.d..];
            let shape = Shape { m: n, n: head.d, k: n };
            matmul(shape, View::new(p, head.stride), head.views(qkv)[2], to, h);
        }
    }

    /// The gradient of query, key and value of a group, given that of its context.
    pub(super) fn attend_back(
        &self,
        layer: usize,
        group: &GroupPass,
        (qkv, context): (&[f32], &[f32]),
        out: &mut [f32],
        scratch: &mut AttentionScratch,
    ) {
        out.fill(0.0);
        for (head, span) in self.heads(layer, group) {
            let h = head.h;
            let qkv = &qkv[span.start * 3 * h..span.end * 3 * h];
            let out = &mut out[span.start * 3 * h..span.end * 3 * h];
            let context = &context[span.start * h..span.end * h][head.index * head.d..];
            self.head_back(head, qkv, View::new(context, h), out, scratch);
        }
    }

    fn head_back(
        &self,
        head: Head,
        qkv: &[f32],
        context: View,
        out: &mut [f32],
        s: &mut AttentionScratch,
    ) {
        let (n, d, stride) = (head.n, head.d, head.stride);
        let ([q, k, v], [to_q, to_k, to_v]) = (head.views(qkv), head.columns());
        let p = sized(&mut s.probabilities, n * stride);
        head.probabilities(self.isa, qkv, p);
        let dropped = sized(&mut s.dropped, n * stride);
        dropped.copy_from_slice(p);
        head.drop(dropped);
        let wide = Shape { m: n, n: d, k: n };
        let dropped = View::new(dropped, stride);
        matmul_left_transposed_add(wide, dropped, context, &mut out[to_v..], 3 * head.h);
        let grad = sized(&mut s.grad, n * stride);
        matmul_transposed(Shape { m: n, n, k: d }, context, v, grad, stride);
        head.drop(grad);
        softmax_back(grad, p, stride, n, head.scale());
        let grad = View::new(grad, stride);
        matmul_add(wide, grad, k, &mut out[to_q..], 3 * head.h);
        matmul_left_transposed_add(wide, grad, q, &mut out[to_k..], 3 * head.h);
    }
}
