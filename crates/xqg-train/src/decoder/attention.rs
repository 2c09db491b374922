//! One head of an attention, of targets over themselves or over their memory, and the way back.
//! Probabilities are made again on the way back instead of being kept.

use xqg_kernel::gradient::softmax_back;
use xqg_kernel::isa::Isa;
use xqg_kernel::ops::{
    Shape, View, matmul, matmul_add, matmul_left_transposed_add, matmul_transposed,
};
use xqg_kernel::row::softmax_rows;

use crate::network::pass::sized;

/// A score that takes part in nothing.
const NEVER: f32 = -1e30;

/// Memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub active: Vec<f32>,
    probabilities: Vec<f32>,
    grad: Vec<f32>,
}

/// One head of some rows over some others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub isa: Isa,
    /// Rows that ask.
    pub n: usize,
    /// Rows that are asked.
    pub m: usize,
    /// Length of a head's part.
    pub d: usize,
    /// Whether row i sees only rows up to i.
    pub causal: bool,
}

/// Where query, key and value of a head begin, and how far apart their rows lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub query: (&'a [f32], usize),
    pub key: (&'a [f32], usize),
    pub value: (&'a [f32], usize),
}

impl Head {
    fn stride(&self) -> usize {
        self.m.next_multiple_of(16)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    fn probabilities<'s>(&self, parts: Parts, buffer: &'s mut Vec<f32>) -> &'s mut [f32] {
        let stride = self.stride();
        let p = sized(buffer, self.n * stride);
        let shape = Shape { m: self.n, n: self.m, k: self.d };
        matmul_transposed(shape, view(parts.query), view(parts.key), p, stride);
        if self.causal {
            p.chunks_exact_mut(stride).enumerate().for_each(|(i, row)| row[i + 1..].fill(NEVER));
        }
        softmax_rows(self.isa, p, stride, self.m, self.scale());
        p
    }

    /// Writes the context; its rows lie `stride` apart.
    pub fn forward(&self, parts: Parts, (out, stride): (&mut [f32], usize), s: &mut Scratch) {
        let p = self.probabilities(parts, &mut s.probabilities);
        let shape = Shape { m: self.n, n: self.d, k: self.m };
        matmul(shape, View::new(p, self.stride()), view(parts.value), out, stride);
    }

    /// Given the gradient of the context, adds those of query, then of key, then of value.
    pub fn backward(&self, parts: Parts, context: (&[f32], usize), add: &mut Add, s: &mut Scratch) {
        let stride = self.stride();
        let p = self.probabilities(parts, &mut s.probabilities);
        let wide = Shape { m: self.m, n: self.d, k: self.n };
        add(Part::Value, &|out, rows| {
            matmul_left_transposed_add(wide, View::new(p, stride), view(context), out, rows);
        });
        let grad = sized(&mut s.grad, self.n * stride);
        let shape = Shape { m: self.n, n: self.m, k: self.d };
        matmul_transposed(shape, view(context), view(parts.value), grad, stride);
        softmax_back(grad, p, stride, self.m, self.scale());
        let grad = View::new(grad, stride);
        add(Part::Query, &|out, rows| {
            let shape = Shape { m: self.n, n: self.d, k: self.m };
            matmul_add(shape, grad, view(parts.key), out, rows);
        });
        add(Part::Key, &|out, rows| {
            matmul_left_transposed_add(wide, grad, view(parts.query), out, rows);
        });
    }
}

/// Takes whose gradient it is, and what adds it to rows that lie as far apart as said.
pub(super) type Add<'a> = dyn FnMut(Part, &dyn Fn(&mut [f32], usize)) + 'a;

/// Whose gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Query,
    Key,
    Value,
}

fn view<'a>((data, stride): (&'a [f32], usize)) -> View<'a> {
    View::new(data, stride)
}
