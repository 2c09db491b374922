//! The gradients of a layer's weights: products over all tokens of a batch, in tiles of rows that
//! the threads share. A tile sums over the groups in order, so its bits do not depend on threads.

use rayon::prelude::*;
use xqg_kernel::gradient::add_column_sums;
use xqg_kernel::ops::{Shape, View, matmul_left_transposed_add};

use super::Encoder;
use super::backward::add_norm;
use super::pass::{GroupBack, GroupPass};
use super::places::Linear;
use crate::gradients::{Gradient, Gradients};

/// Rows of a tile: the fewer, the more often the inputs are packed; the more, the fewer tiles.
const TILE: usize = 384;

/// Which linear layer of a layer.
#[derive(Debug, Clone, Copy)]
enum Which {
    /// Query 0, key 1, value 2.
    Qkv(usize),
    AttentionOut,
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

/// The groups with their gradients.
type Groups<'a> = (&'a [GroupPass], &'a [GroupBack]);

impl Encoder {
    /// Adds the gradients of all weights, biases and norms of a layer.
    pub(super) fn weight_gradients(
        &self,
        index: usize,
        slot: usize,
        groups: Groups,
        gradients: &mut Gradients,
    ) {
        let layer = &self.places.layers[index];
        let [query, key, value] = layer.qkv;
        // The long ones first, so that the threads finish together.
        let all = [
            (Which::Contract, layer.contract),
            (Which::Expand, layer.expand),
            (Which::Qkv(0), query),
            (Which::Qkv(1), key),
            (Which::Qkv(2), value),
            (Which::AttentionOut, layer.attention_out),
        ];
        let mut taken = all.map(|(_, linear)| take(gradients, linear));
        let mut tiles: Vec<Tile> = all
            .iter()
            .zip(&mut taken)
            .flat_map(|(&(which, linear), (weight, bias))| tiles(which, linear, weight, bias))
            .collect();
        tiles.par_iter_mut().for_each(|tile| self.fill(tile, slot, groups));
        for ((_, linear), (weight, bias)) in all.into_iter().zip(taken) {
            gradients.0[linear.weight] = Gradient::Dense(weight);
            gradients.0[linear.bias] = Gradient::Dense(bias);
        }
        for back in groups.1 {
            let [weight1, bias1, weight2, bias2] = &back.norms;
            add_norm(gradients, &layer.attention_norm, weight1, bias1);
            add_norm(gradients, &layer.output_norm, weight2, bias2);
        }
    }

    fn fill(&self, tile: &mut Tile, slot: usize, (groups, backs): Groups) {
        let (input, rows) = (tile.linear.input, tile.weight.len() / tile.linear.input);
        for (group, back) in groups.iter().zip(backs) {
            let pass = &group.layers[slot];
            let h = self.config.hidden_size;
            let (grad, stride, x) = match tile.which {
                Which::Qkv(part) => (&back.qkv[part * h..], 3 * h, &back.input),
                Which::AttentionOut => (&back.attention[..], h, &pass.context),
                Which::Expand => (&back.inner[..], tile.linear.output, &back.middle),
                Which::Contract => (&back.contracted[..], h, &pass.inner),
            };
            let grad = &grad[tile.first..];
            let shape = Shape { m: rows, n: input, k: group.rows() };
            let x = View::new(x, input);
            matmul_left_transposed_add(shape, View::new(grad, stride), x, tile.weight, input);
            for row in grad.chunks(stride).take(group.rows()) {
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
