//! The gradients of a layer's weights: products over all rows of a batch, in tiles of rows that the
//! threads share. A tile sums over the groups in order, so its bits do not depend on threads.

use rayon::prelude::*;
use xqg_kernel::gradient::add_column_sums;
use xqg_kernel::ops::{Shape, View, matmul_left_transposed_add};

use super::Decoder;
use super::backward::add_norm;
use super::forward::{CROSS, FEED, OWN};
use super::pass::Group;
use crate::gradients::{Gradient, Gradients};
use crate::network::places::Linear;

/// Rows of a tile: the fewer, the more often the inputs are packed; the more, the fewer tiles.
const TILE: usize = 384;

/// Which linear layer of a layer.
#[derive(Debug, Clone, Copy)]
enum Which {
    /// Query 0, key 1, value 2 of the self-attention.
    Own(usize),
    OwnOut,
    CrossQuery,
    /// Key 0, value 1.
    CrossMemory(usize),
    CrossOut,
    Expand,
    Contract,
}

/// Some rows of one weight's gradient.
struct Tile<'a> {
    which: Which,
    linear: Linear,
    first: usize,
    weight: &'a mut [f32],
    bias: &'a mut [f32],
}

impl Decoder {
    /// Adds the gradients of all weights, biases and norms of a layer.
    pub(super) fn weight_gradients(
        &self,
        index: usize,
        groups: &[Group],
        gradients: &mut Gradients,
    ) {
        let layer = &self.places.layers[index];
        let ([q, k, v], [query, key, value]) = (layer.own.qkv, layer.cross.qkv);
        // The long ones first, so that the threads finish together.
        let all = [
            (Which::Contract, layer.contract),
            (Which::Expand, layer.expand),
            (Which::CrossMemory(0), key),
            (Which::CrossMemory(1), value),
            (Which::Own(0), q),
            (Which::Own(1), k),
            (Which::Own(2), v),
            (Which::OwnOut, layer.own.out),
            (Which::CrossQuery, query),
            (Which::CrossOut, layer.cross.out),
        ];
        let mut taken = all.map(|(_, linear)| take(gradients, linear));
        let mut tiles: Vec<Tile> = all
            .iter()
            .zip(&mut taken)
            .flat_map(|(&(which, linear), (weight, bias))| tiles(which, linear, weight, bias))
            .collect();
        tiles.par_iter_mut().with_max_len(1).for_each(|tile| self.fill(tile, index, groups));
        for ((_, linear), (weight, bias)) in all.into_iter().zip(taken) {
            gradients.0[linear.weight] = Gradient::Dense(weight);
            gradients.0[linear.bias] = Gradient::Dense(bias);
        }
        for group in groups {
            let norms = [&layer.self_norm, &layer.cross_norm, &layer.ffn_norm];
            norms.iter().zip(&group.back.norms).for_each(|(n, sums)| add_norm(gradients, n, sums));
        }
    }

    fn fill(&self, tile: &mut Tile, index: usize, groups: &[Group]) {
        let (h, inner) = (self.shape.hidden, self.shape.inner);
        let (input, rows) = (tile.linear.input, tile.weight.len() / tile.linear.input);
        for group in groups {
            let (pass, back) = (&group.layers[index], &group.back);
            let (grad, stride, x) = match tile.which {
                Which::Own(part) => (&back.qkv[part * h..], 3 * h, &back.inputs[OWN]),
                Which::OwnOut => (&back.outs[OWN][..], h, &pass.own_context),
                Which::CrossQuery => (&back.query[..], h, &back.inputs[CROSS]),
                Which::CrossMemory(part) => (&back.key_value[part * h..], 2 * h, &group.memory),
                Which::CrossOut => (&back.outs[CROSS][..], h, &pass.cross_context),
                Which::Expand => (&back.inner[..], inner, &back.inputs[FEED]),
                Which::Contract => (&back.outs[FEED][..], h, &pass.inner),
            };
            let (grad, count) = (&grad[tile.first..], x.len() / input);
            let shape = Shape { m: rows, n: input, k: count };
            let x = View::new(x, input);
            matmul_left_transposed_add(shape, View::new(grad, stride), x, tile.weight, input);
            for row in grad.chunks(stride).take(count) {
                add_column_sums(&row[..rows], tile.bias);
            }
        }
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

fn tiles<'a>(
    which: Which,
    linear: Linear,
    weight: &'a mut [f32],
    bias: &'a mut [f32],
) -> impl Iterator<Item = Tile<'a>> {
    let rows = weight.chunks_mut(TILE * linear.input).zip(bias.chunks_mut(TILE));
    rows.enumerate().map(move |(i, (weight, bias))| Tile {
        which,
        linear,
        first: i * TILE,
        weight,
        bias,
    })
}
