//! Attention of one head over one text in whole numbers. In 16 bits a step has twice as many products
//! as in f32, at an error far below that of 8-bit weights: queries, keys and values become numbers of
//! 13 bits with one scale a head and text. In 8 bits it has four times as many, at an error like that
//! of the 8-bit layers. A softmax of the scores gives whole weights, whose exact sum is divided by at
//! the end. AVX-512 only; [`fits`] tells whether a head may take this path.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(unused, reason = "other architectures have no such kernels")
)]

use crate::isa::{Isa, Set};
use crate::product::fits as inside;

#[cfg(target_arch = "x86_64")]
use crate::attention_avx512 as kernel;

/// The greatest query, key and value: two of them over 64 dimensions stay within 31 bits.
pub(crate) const GREATEST: f32 = 4095.0;
/// The longest text: beyond it weights would be too coarse, for all of them times a value must stay
/// within 31 bits.
const LONGEST: usize = 512;
/// What all weights of a row may add up to.
const WEIGHTS: usize = 1 << 19;
/// Rows of scores that are made, normalised and used while they lie in the cache.
const QUERY_BLOCK: usize = 48;
/// Columns of a panel.
pub(crate) const PANEL: usize = 32;

/// One head of one text inside rows that hold queries, keys and values of all heads side by side.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Rows of all heads' queries, keys and values.
    pub qkv: &'a [f32],
    /// Numbers between the beginnings of two rows.
    pub stride: usize,
    /// Tokens.
    pub n: usize,
    /// Where the head's query, key and value begin in a row.
    pub columns: [usize; 3],
    /// Length of each.
    pub dim: usize,
    /// What a product of query and key is multiplied by before the softmax.
    pub scale: f32,
}

/// How exact the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 13 bits in 16.
    Sixteen,
    /// 8 bits.
    Eight,
}

/// Memory for one head of the longest text; grows and is reused.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) queries: Vec<i16>,
    pub(crate) keys: Vec<i16>,
    pub(crate) values: Vec<i16>,
    pub(crate) scores: Vec<i32>,
    pub(crate) weights: Vec<i16>,
    pub(crate) totals: Vec<f32>,
    pub(crate) starts: Vec<i32>,
}

/// Whether a head of this length may attend over a text of `n` tokens in 16 bits.
pub fn fits(isa: Isa, n: usize, dim: usize) -> bool {
    isa.0 == Set::Avx512Vnni && n <= LONGEST && (dim == 32 || dim == 64)
}

/// Writes the head's context: `dim` numbers at the beginning of rows that lie `out_stride` apart.
///
/// # Panics
/// When the head does not [fit](fits), or a buffer is shorter than the shapes say.
pub fn attend(
    isa: Isa,
    width: Width,
    head: Head,
    (out, out_stride): (&mut [f32], usize),
    s: &mut Scratch,
) {
    let Head { qkv, stride, n, columns, dim, .. } = head;
    assert!(fits(isa, n, dim), "a head for 16 bits");
    assert!(columns.iter().all(|c| inside(qkv.len(), n, stride, c + dim)), "all rows are there");
    assert!(inside(out.len(), n, out_stride, dim), "the context has room");
    let keys = n.next_multiple_of(PANEL);
    grow(&mut s.queries, n * dim);
    grow(&mut s.keys, keys * dim);
    grow(&mut s.values, keys * dim);
    grow(&mut s.scores, QUERY_BLOCK * keys);
    grow(&mut s.weights, QUERY_BLOCK * keys);
    grow(&mut s.totals, QUERY_BLOCK);
    grow(&mut s.starts, keys);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the set is there, as `fits` says; rows and context lie inside their buffers, and the
    // scratch has room for the text.
    unsafe {
        let to = (out.as_mut_ptr(), out_stride);
        match width {
            Width::Sixteen => all_rows::<false>(&head, greatest_weight(n), to, s),
            Width::Eight => all_rows::<true>(&head, 255.0, to, s),
        }
    }
}

/// # Safety
/// As the kernels; the context has room for the head's rows.
#[cfg(target_arch = "x86_64")]
unsafe fn all_rows<const EIGHT: bool>(
    head: &Head,
    most: f32,
    (out, stride): (*mut f32, usize),
    s: &mut Scratch,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let scales = kernel::pack::<EIGHT>(head, s);
        for first in (0..head.n).step_by(QUERY_BLOCK) {
            let rows = QUERY_BLOCK.min(head.n - first);
            kernel::weigh::<EIGHT>(head, scales, most, (first, rows), s);
            kernel::gather::<EIGHT>(head, scales[2], rows, (out.add(first * stride), stride), s);
        }
    }
}

/// The weight of the token that is looked at most.
fn greatest_weight(n: usize) -> f32 {
    (WEIGHTS / n.max(1)).min(i16::MAX as usize) as f32
}

fn grow<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same in double precision.
    fn plainly(head: &Head) -> Vec<f64> {
        let part = |token: usize, which: usize| {
            &head.qkv[token * head.stride + head.columns[which]..][..head.dim]
        };
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let mut out = Vec::new();
        for query in 0..head.n {
            let scores: Vec<f64> = (0..head.n)
                .map(|key| dot(part(query, 0), part(key, 1)) * f64::from(head.scale))
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let total: f64 = weights.iter().sum();
            for i in 0..head.dim {
                let sum: f64 = (0..head.n).map(|k| weights[k] * f64::from(part(k, 2)[i])).sum();
                out.push(sum / total);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn whole_numbers_attend_nearly_as_double_precision(
            n in prop_oneof![1usize..6, Just(16), Just(17), Just(31), Just(47), Just(49), Just(97), Just(160)],
            dim in prop_oneof![Just(32usize), Just(64)],
            (size, seed) in (0.1f32..3.0, 0u32..1000),
        ) {
            let stride = 3 * dim + 7;
            let noise = |i: usize| {
                let x = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed).wrapping_mul(2_246_822_519);
                (x >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            let qkv: Vec<f32> = (0..n * stride).map(|i| noise(i) * size).collect();
            let columns = [3, dim + 4, 2 * dim + 5];
            let head = Head { qkv: &qkv, stride, n, columns, dim, scale: 1.0 / (dim as f32).sqrt() };
            let expected = plainly(&head);
            let sets = Isa::available().into_iter().filter(|&isa| fits(isa, n, dim));
            for (isa, width) in sets.flat_map(|isa| [(isa, Width::Sixteen), (isa, Width::Eight)]) {
                let wide = dim + 3;
                let mut out = vec![f32::NAN; n * wide];
                // Memory of an earlier, other text must not show.
                let mut s = Scratch::default();
                s.scores.resize(QUERY_BLOCK * 192, i32::MAX);
                s.weights.resize(QUERY_BLOCK * 192, i16::MAX);
                s.keys.resize(192 * dim, i16::MAX);
                s.values.resize(192 * dim, i16::MAX);
                s.starts.resize(192, 77);
                attend(isa, width, head, (&mut out, wide), &mut s);
                for (i, expected) in expected.iter().enumerate() {
                    let found = f64::from(out[i / dim * wide + i % dim]);
                    let exact = if width == Width::Sixteen { 2e-3 } else { 2e-2 };
                    let bound = exact * f64::from(size) * f64::from(size.max(1.0)).powi(2);
                    prop_assert!((found - expected).abs() < bound, "{i}: {found} for {expected}");
                }
                prop_assert!((0..n).all(|i| out[i * wide + dim..(i + 1) * wide].iter().all(|x| x.is_nan())));
            }
        }
    }
}
