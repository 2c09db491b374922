//! What the networks written by hand have in common: a linear layer's and a norm's way back, and the
//! gradients of a layer's weights. These are products over all rows of a batch, in tiles of rows that
//! the threads share; a tile sums over the groups in order, so its bits do not depend on threads.

use rayon::prelude::*;
use xqg_kernel::gradient::{Affine, add_column_sums, add_to, norm_back};
use xqg_kernel::ops::{Shape, View, matmul, matmul_add, matmul_left_transposed_add};

use crate::gradients::{Gradient, Gradients};
use crate::network::pass::zeroed;
use crate::network::places::{Linear, Norm};
use crate::parameters::Parameters;

/// Rows of a tile: the fewer, the more often the inputs are packed; the more, the fewer tiles.
const TILE: usize = 384;

impl Parameters {
    /// The learned part of a norm.
    pub(crate) fn affine(&self, norm: &Norm) -> Affine<'_> {
        Affine { weight: self.values(norm.weight), bias: self.values(norm.bias) }
    }

    /// The gradient of a linear layer's input, given that of its result.
    pub(crate) fn project_back(&self, linear: &Linear, grad: &[f32], out: &mut [f32]) {
        let shape = Shape { m: grad.len() / linear.output, n: linear.input, k: linear.output };
        let weight = View::new(self.values(linear.weight), linear.input);
        matmul(shape, View::new(grad, linear.output), weight, out, linear.input);
    }

    /// The same, added to other gradients of that input.
    pub(crate) fn project_back_add(&self, linear: &Linear, grad: View, out: &mut [f32]) {
        let shape = Shape { m: out.len() / linear.input, n: linear.input, k: linear.output };
        let weight = View::new(self.values(linear.weight), linear.input);
        matmul_add(shape, grad, weight, out, linear.input);
    }

    /// Through a norm; the gradients of its weight and bias over these rows are left in `sums`.
    pub(crate) fn norm_back(
        &self,
        norm: &Norm,
        grad: &mut [f32],
        (normed, scales): (&[f32], &[f32]),
        [weight, bias]: &mut [Vec<f32>; 2],
    ) {
        let values = self.values(norm.weight);
        let (weight, bias) = (zeroed(weight, values.len()), zeroed(bias, values.len()));
        norm_back(grad, normed, scales, values, (weight, bias));
    }
}

/// Adds one group's gradients of a norm.
pub(crate) fn add_norm(gradients: &mut Gradients, norm: &Norm, [weight, bias]: &[Vec<f32>; 2]) {
    add_to(gradients.0[norm.weight].dense(), weight);
    add_to(gradients.0[norm.bias].dense(), bias);
}

/// What a linear layer read in one group, and the gradient of what it gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Rows of the gradient.
    pub grad: &'a [f32],
    /// Numbers between two of them.
    pub stride: usize,
    /// Rows of the input, end to end.
    pub input: &'a [f32],
}

/// Some rows of one weight's gradient.
struct Tile<'a, W> {
    which: W,
    linear: Linear,
    first: usize,
    weight: &'a mut [f32],
    bias: &'a mut [f32],
}

/// Adds the gradients of several linear layers over so many groups; `seen` says what each of them saw
/// in each group. The long ones should come first, so that the threads finish together.
pub(crate) fn add_weights<'a, W: Copy + Send + Sync>(
    all: &[(W, Linear)],
    gradients: &mut Gradients,
    groups: usize,
    seen: impl Fn(W, usize) -> Seen<'a> + Sync,
) {
    let mut taken: Vec<_> = all.iter().map(|&(_, linear)| take(gradients, linear)).collect();
    let parts = all.iter().zip(&mut taken);
    let mut tiles: Vec<Tile<W>> =
        parts.flat_map(|(&(which, linear), sums)| tiles(which, linear, sums)).collect();
    tiles.par_iter_mut().with_max_len(1).for_each(|tile| {
        (0..groups).for_each(|group| fill(tile, seen(tile.which, group)));
    });
    for ((_, linear), (weight, bias)) in all.iter().zip(taken) {
        gradients.0[linear.weight] = Gradient::Dense(weight);
        gradients.0[linear.bias] = Gradient::Dense(bias);
    }
}

fn fill<W>(tile: &mut Tile<W>, seen: Seen) {
    let input = tile.linear.input;
    let (rows, count) = (tile.weight.len() / input, seen.input.len() / input);
    let (grad, x) = (&seen.grad[tile.first..], View::new(seen.input, input));
    let shape = Shape { m: rows, n: input, k: count };
    matmul_left_transposed_add(shape, View::new(grad, seen.stride), x, tile.weight, input);
    for row in grad.chunks(seen.stride).take(count) {
        add_column_sums(&row[..rows], tile.bias);
    }
}

/// Takes the gradients of a linear layer out, so that several can be filled at once.
fn take(gradients: &mut Gradients, linear: Linear) -> (Vec<f32>, Vec<f32>) {
    let mut one = |place: usize| match std::mem::replace(&mut gradients.0[place], Gradient::Frozen)
    {
        Gradient::Dense(values) => values,
        _ => unreachable!("the weights of layers are trained"),
    };
    (one(linear.weight), one(linear.bias))
}

fn tiles<W: Copy>(
    which: W,
    linear: Linear,
    (weight, bias): &mut (Vec<f32>, Vec<f32>),
) -> impl Iterator<Item = Tile<'_, W>> {
    let rows = weight.chunks_mut(TILE * linear.input).zip(bias.chunks_mut(TILE));
    let tile = move |(i, (weight, bias))| Tile { which, linear, first: i * TILE, weight, bias };
    rows.enumerate().map(tile)
}
