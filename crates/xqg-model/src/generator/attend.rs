//! Attention of a few queries over packed keys and values: of a question's next token over its own
//! past, which grows in a [`Slot`], and of all questions about a passage over the passage, whose
//! [`Memory`] is packed once. Both lie in the same panels and go through the same kernels.

use xqg_kernel::isa::Isa;
use xqg_kernel::ops::{Shape, View, matmul_transposed};
use xqg_kernel::product::{Operands, product_f32};
use xqg_kernel::row::softmax_rows;

use crate::attention::{grow, pack_keys, pack_values};

/// The shape of a decoder's attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shapes {
    /// Number of heads.
    pub heads: usize,
    /// Length of a head's part.
    pub dim: usize,
    /// What scores are multiplied by before the softmax.
    pub scale: f32,
    /// The kernels.
    pub isa: Isa,
}

/// The keys and values of one head: `keys` in panels of `dim x panel`, `values` in panels of
/// `capacity x panel`, of which `n` tokens are there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    n: usize,
    capacity: usize,
}

/// Some rows of queries and where their contexts go; a head's part begins each row.
pub(crate) struct Queries<'a> {
    /// Rows, `stride` apart.
    pub data: &'a [f32],
    /// Numbers between the beginnings of two rows.
    pub stride: usize,
    /// How many.
    pub rows: usize,
    /// Added to the scores: rows of whole panels, and the numbers between their beginnings.
    pub bias: Option<(&'a [f32], usize)>,
}

impl Shapes {
    /// Length of all heads' parts together.
    pub fn inner(&self) -> usize {
        self.heads * self.dim
    }

    /// Length of a row of contexts in memory: the last head is written in whole panels.
    pub fn context_stride(&self) -> usize {
        (self.heads - 1) * self.dim + self.dim.next_multiple_of(self.isa.panel())
    }

    /// Writes the contexts of some queries for one head: `out` begins with the head's part and has
    /// rows of [`context_stride`](Self::context_stride).
    pub fn attend(&self, q: Queries, packed: Packed, scores: &mut Vec<f32>, out: &mut [f32]) {
        let panel = self.isa.panel();
        let columns = packed.n.next_multiple_of(panel);
        grow(scores, q.rows * columns);
        let scores = &mut scores[..q.rows * columns];
        if self.isa == Isa::PORTABLE {
            return self.attend_plain(q, packed, scores, out);
        }
        let plain = |a, a_stride, k, panels| Operands {
            a,
            a_stride,
            k,
            panels,
            bias: None,
            residual: None,
            gelu: false,
        };
        let keys = plain(q.data, q.stride, self.dim, &packed.keys[..columns * self.dim]);
        let keys = Operands { residual: q.bias, ..keys };
        product_f32(self.isa, q.rows, keys, (scores, columns), 1);
        softmax_rows(self.isa, scores, columns, packed.n, self.scale);
        let stride = self.context_stride();
        for (p, values) in packed.values.chunks_exact(packed.capacity * panel).enumerate() {
            let weights = plain(scores, columns, packed.n, &values[..packed.n * panel]);
            product_f32(self.isa, q.rows, weights, (&mut out[p * panel..], stride), 1);
        }
    }

    fn attend_plain(&self, q: Queries, packed: Packed, scores: &mut [f32], out: &mut [f32]) {
        let (m, n, d) = (q.rows, packed.n, self.dim);
        let keys = View::new(packed.keys, d);
        matmul_transposed(Shape { m, n, k: d }, View::new(q.data, q.stride), keys, scores, n);
        if let Some((bias, stride)) = q.bias {
            for (i, row) in scores.chunks_exact_mut(n).enumerate() {
                row.iter_mut().zip(&bias[i * stride..]).for_each(|(s, b)| *s += b);
            }
        }
        softmax_rows(self.isa, scores, n, n, self.scale);
        let values = View::new(packed.values, packed.capacity);
        let weights = View::new(scores, n);
        matmul_transposed(Shape { m, n: d, k: n }, weights, values, out, self.context_stride());
    }
}

/// Keys and values of one text for every layer, room for `capacity` tokens.
#[derive(Debug, Clone)]
struct Store {
    data: Vec<f32>,
    capacity: usize,
}

/// Lengths of a head's keys and of its values.
fn parts(shapes: &Shapes, capacity: usize) -> [usize; 2] {
    let panel = shapes.isa.panel();
    let keys = capacity.next_multiple_of(panel) * shapes.dim;
    [keys, shapes.dim.next_multiple_of(panel) * capacity]
}

impl Store {
    fn new(shapes: &Shapes, layers: usize, capacity: usize) -> Self {
        let length = layers * shapes.heads * parts(shapes, capacity).iter().sum::<usize>();
        Self { data: vec![0.0; length], capacity }
    }

    /// The places of a head's keys and values.
    fn place(&self, shapes: &Shapes, layer: usize, head: usize) -> [std::ops::Range<usize>; 2] {
        let [keys, values] = parts(shapes, self.capacity);
        let at = (layer * shapes.heads + head) * (keys + values);
        [at..at + keys, at + keys..at + keys + values]
    }

    fn head(&self, shapes: &Shapes, layer: usize, head: usize, n: usize) -> Packed<'_> {
        let [keys, values] = self.place(shapes, layer, head).map(|place| &self.data[place]);
        Packed { keys, values, n, capacity: self.capacity }
    }
}

/// The past of one question that is being written.
#[derive(Debug, Clone)]
pub(crate) struct Slot(Store);

impl Slot {
    /// An empty past with room for `capacity` tokens.
    pub fn new(shapes: &Shapes, layers: usize, capacity: usize) -> Self {
        Self(Store::new(shapes, layers, capacity))
    }

    /// Takes over another question's past.
    pub fn copy_from(&mut self, other: &Self) {
        self.0.data.copy_from_slice(&other.0.data);
    }

    /// Adds the key and value of the token at a place: all heads of each, one after the other.
    pub fn push(&mut self, shapes: &Shapes, layer: usize, at: usize, key: &[f32], value: &[f32]) {
        let (panel, d, capacity) = (shapes.isa.panel(), shapes.dim, self.0.capacity);
        for head in 0..shapes.heads {
            let [keys, values] = self.0.place(shapes, layer, head);
            let block = &mut self.0.data[keys][at / panel * panel * d..][..panel * d];
            let to = block[at % panel..].iter_mut().step_by(panel);
            to.zip(&key[head * d..][..d]).for_each(|(to, x)| *to = *x);
            let parts = value[head * d..][..d].chunks(panel);
            let blocks = self.0.data[values].chunks_exact_mut(capacity * panel);
            for (block, part) in blocks.zip(parts) {
                block[at * panel..][..part.len()].copy_from_slice(part);
            }
        }
    }

    /// The first `n` tokens for one head.
    pub fn head(&self, shapes: &Shapes, layer: usize, head: usize, n: usize) -> Packed<'_> {
        self.0.head(shapes, layer, head, n)
    }
}

/// What a decoder remembers of a passage: keys and values of its tokens for every layer.
#[derive(Debug)]
pub(crate) struct Memory {
    store: Store,
}

impl Memory {
    /// Room for a passage of `n` tokens.
    pub fn new(shapes: &Shapes, layers: usize, n: usize) -> Self {
        Self { store: Store::new(shapes, layers, n) }
    }

    /// Packs a layer's keys and values, which lie side by side in rows `stride` apart.
    pub fn pack(&mut self, shapes: &Shapes, layer: usize, rows: &[f32], stride: usize) {
        let sizes = (self.store.capacity, shapes.dim, shapes.isa.panel());
        for head in 0..shapes.heads {
            let [keys, values] = self.store.place(shapes, layer, head);
            let column = head * shapes.dim;
            pack_keys(rows, column, stride, sizes, &mut self.store.data[keys]);
            let column = column + shapes.inner();
            pack_values(rows, column, stride, sizes, &mut self.store.data[values]);
        }
    }

    /// The passage's tokens for one head.
    pub fn head(&self, shapes: &Shapes, layer: usize, head: usize) -> Packed<'_> {
        self.store.head(shapes, layer, head, self.store.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// softmax(scale · q·k) · v for one query, as the formula has it.
    fn by_hand(q: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>], scale: f32) -> Vec<f32> {
        let dot = |k: &Vec<f32>| q.iter().zip(k).map(|(a, b)| a * b).sum::<f32>() * scale;
        let scores: Vec<f32> = keys.iter().map(dot).collect();
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let e: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
        let total: f32 = e.iter().sum();
        let column = |j: usize| values.iter().zip(&e).map(|(v, e)| v[j] * e).sum::<f32>() / total;
        (0..q.len()).map(column).collect()
    }

    fn numbers(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 12.9898).sin()).collect()
    }

    proptest! {
        #[test]
        fn a_growing_past_and_a_packed_passage_attend_as_the_formula_says(
            n in 1usize..40, heads in 1usize..4, dim in prop_oneof![1usize..9, Just(32), Just(64)],
        ) {
            let inner = heads * dim;
            let (q, kv) = (numbers(inner, 0.3), numbers(n * 2 * inner, 5.0));
            for isa in Isa::available() {
                let shapes = Shapes { heads, dim, scale: 0.5, isa };
                let (mut slot, mut memory) =
                    (Slot::new(&shapes, 2, n + 3), Memory::new(&shapes, 2, n));
                for (at, row) in kv.chunks_exact(2 * inner).enumerate() {
                    slot.push(&shapes, 1, at, &row[..inner], &row[inner..]);
                }
                memory.pack(&shapes, 1, &kv, 2 * inner);
                for head in 0..heads {
                    let part = |from: usize| {
                        let column = from + head * dim;
                        kv.chunks_exact(2 * inner).map(|r| r[column..][..dim].to_vec()).collect()
                    };
                    let (keys, values): (Vec<_>, Vec<_>) = (part(0), part(inner));
                    let expected = by_hand(&q[head * dim..][..dim], &keys, &values, 0.5);
                    let packed = [slot.head(&shapes, 1, head, n), memory.head(&shapes, 1, head)];
                    for packed in packed {
                        let mut out = vec![0.0; shapes.context_stride()];
                        let data = &q[head * dim..];
                        let queries = Queries { data, stride: inner, rows: 1, bias: None };
                        shapes.attend(queries, packed, &mut Vec::new(), &mut out);
                        for (a, b) in out.iter().zip(&expected) {
                            prop_assert!((a - b).abs() < 1e-5, "{isa:?}: {a} for {b}");
                        }
                    }
                }
            }
        }
    }
}
