//! The way forward through the layers, for one group of targets on one thread.

use rayon::prelude::*;
use xqg_kernel::gradient::{add_bias, add_to, affine, normalise};
use xqg_kernel::ops::{Activation, Shape, View, matmul_transposed};
use xqg_kernel::row::activate;

use super::attention::{Head, Parts, Scratch};
use super::pass::{Group, LayerPass, Workspace};
use super::{Batch, Decoder};
use crate::network::pass::sized;
use crate::network::places::{Linear, Norm};

/// The activation between the two halves of a feed-forward part.
pub(super) const ACTIVATION: Activation = Activation::Gelu;

/// The three sublayers, in their order: places of norms, inputs and dropout.
pub(crate) const OWN: usize = 0;
pub(crate) const CROSS: usize = 1;
pub(crate) const FEED: usize = 2;

/// What a sublayer's dropout is called.
pub(crate) fn site(layer: usize, sublayer: usize) -> u64 {
    4 + layer as u64 * 4 + sublayer as u64
}

impl Decoder {
    /// Carries a batch through all layers, keeping what the way back needs.
    pub(super) fn forward(&self, batch: &Batch, workspace: &mut Workspace) {
        let groups = workspace.lay_out(batch, self.shape.hidden);
        groups.par_iter_mut().with_max_len(1).for_each_init(Scratch::default, |scratch, group| {
            self.group_forward(group, scratch);
        });
    }

    fn group_forward(&self, group: &mut Group, scratch: &mut Scratch) {
        let (h, rows) = (self.shape.hidden, group.rows());
        self.embed(group);
        group.layers.resize_with(self.shape.layers, LayerPass::default);
        for index in 0..self.shape.layers {
            let mut pass = std::mem::take(&mut group.layers[index]);
            self.own_forward(index, group, &mut pass, scratch);
            self.cross_forward(index, group, &mut pass, scratch);
            self.feed_forward(index, group, &mut pass, scratch);
            group.layers[index] = pass;
        }
        sized(&mut group.normed, rows * h).copy_from_slice(&group.states);
        normalise(&mut group.normed, sized(&mut group.scales, rows), self.shape.norm_eps);
        affine(&group.normed, self.parameters.affine(&self.places.final_norm), &mut group.states);
    }

    /// The input of a sublayer in `out`; its rows before the norm's weight are kept.
    fn input(
        &self,
        norm: &Norm,
        states: &[f32],
        (normed, scales): (&mut Vec<f32>, &mut Vec<f32>),
        out: &mut Vec<f32>,
    ) {
        let rows = states.len() / self.shape.hidden;
        sized(normed, states.len()).copy_from_slice(states);
        normalise(normed, sized(scales, rows), self.shape.norm_eps);
        affine(normed, self.parameters.affine(norm), sized(out, states.len()));
    }

    fn own_forward(&self, index: usize, group: &mut Group, p: &mut LayerPass, s: &mut Scratch) {
        let (layer, h) = (&self.places.layers[index], self.shape.hidden);
        let mut input = std::mem::take(&mut group.back.input);
        let kept = (&mut p.normed[OWN], &mut p.scales[OWN]);
        self.input(&layer.self_norm, &group.states, kept, &mut input);
        sized(&mut p.qkv, input.len() * 3);
        self.project(&layer.own.qkv, &input, &mut p.qkv);
        sized(&mut p.own_context, input.len());
        for span in group.spans() {
            let qkv = &p.qkv[span.start * 3 * h..span.end * 3 * h];
            let out = &mut p.own_context[span.start * h..span.end * h];
            for index in 0..self.shape.heads {
                let head = self.head(span.len(), span.len(), true);
                head.forward(own_parts(qkv, h, index * head.d), (&mut out[index * head.d..], h), s);
            }
        }
        group.back.input = input;
        self.finish(group, &layer.own.out, &p.own_context, site(index, OWN));
    }

    fn cross_forward(&self, index: usize, group: &mut Group, p: &mut LayerPass, s: &mut Scratch) {
        let (layer, h) = (&self.places.layers[index], self.shape.hidden);
        let mut input = std::mem::take(&mut group.back.input);
        let kept = (&mut p.normed[CROSS], &mut p.scales[CROSS]);
        self.input(&layer.cross_norm, &group.states, kept, &mut input);
        let [query, key, value] = layer.cross.qkv;
        self.project(&[query], &input, sized(&mut p.query, input.len()));
        sized(&mut p.key_value, group.memory.len() * 2);
        self.project(&[key, value], &group.memory, &mut p.key_value);
        sized(&mut p.cross_context, input.len());
        for (rows, memory) in &group.attends {
            let out = &mut p.cross_context[rows.start * h..rows.end * h];
            let query = &p.query[rows.start * h..rows.end * h];
            let key_value = &p.key_value[memory.start * 2 * h..memory.end * 2 * h];
            for index in 0..self.shape.heads {
                let head = self.head(rows.len(), memory.len(), false);
                let parts = cross_parts(query, key_value, h, index * head.d);
                head.forward(parts, (&mut out[index * head.d..], h), s);
            }
        }
        group.back.input = input;
        self.finish(group, &layer.cross.out, &p.cross_context, site(index, CROSS));
    }

    fn feed_forward(&self, index: usize, group: &mut Group, p: &mut LayerPass, s: &mut Scratch) {
        let layer = &self.places.layers[index];
        let mut input = std::mem::take(&mut group.back.input);
        let kept = (&mut p.normed[FEED], &mut p.scales[FEED]);
        self.input(&layer.ffn_norm, &group.states, kept, &mut input);
        self.project(&[layer.expand], &input, sized(&mut p.inner, group.rows() * self.shape.inner));
        let active = sized(&mut s.active, p.inner.len());
        active.copy_from_slice(&p.inner);
        activate(self.isa, active, ACTIVATION);
        group.back.input = input;
        self.finish(group, &layer.contract, active, site(index, FEED));
    }

    /// Linear layers of one input side by side, with their biases.
    fn project(&self, linears: &[Linear], x: &[f32], out: &mut [f32]) {
        let stride: usize = linears.iter().map(|l| l.output).sum();
        let mut at = 0;
        for linear in linears {
            let shape = Shape { m: x.len() / linear.input, n: linear.output, k: linear.input };
            let weight = View::new(self.parameters.values(linear.weight), linear.input);
            if shape.m > 0 {
                let x = View::new(x, linear.input);
                matmul_transposed(shape, x, weight, &mut out[at..], stride);
            }
            at += linear.output;
        }
        let biases: Vec<&[f32]> = linears.iter().map(|l| self.parameters.values(l.bias)).collect();
        add_bias(out, &biases.concat());
    }

    /// The last linear layer of a sublayer, dropout, and the sum with the states.
    fn finish(&self, group: &mut Group, linear: &Linear, x: &[f32], site: u64) {
        let mut out = std::mem::take(&mut group.back.context);
        let rows = group.rows();
        self.project(&[*linear], x, sized(&mut out, rows * linear.output));
        self.drop(group, site, &mut out);
        add_to(&mut group.states, &out);
        group.back.context = out;
    }

    /// A head of `n` rows over `m`.
    pub(super) fn head(&self, n: usize, m: usize, causal: bool) -> Head {
        Head { isa: self.isa, n, m, d: self.shape.hidden / self.shape.heads, causal }
    }

    /// Leaves out numbers of each target's states; the way back does the same to their gradient.
    pub(super) fn drop(&self, group: &Group, site: u64, states: &mut [f32]) {
        let Some(rate) = self.dropout.filter(|rate| !rate.is_zero()) else { return };
        let h = self.shape.hidden;
        for (span, key) in group.spans().zip(&group.keys) {
            rate.apply(key.part(site), 0, &mut states[span.start * h..span.end * h]);
        }
    }
}

/// A head's parts of the self-attention's rows; `at` is where the head begins.
pub(super) fn own_parts(qkv: &[f32], h: usize, at: usize) -> Parts<'_> {
    let part = |place: usize| (&qkv[place * h + at..], 3 * h);
    Parts { query: part(0), key: part(1), value: part(2) }
}

/// A head's parts of the cross-attention's rows.
pub(super) fn cross_parts<'a>(
    query: &'a [f32],
    key_value: &'a [f32],
    h: usize,
    at: usize,
) -> Parts<'a> {
    Parts {
        query: (&query[at..], h),
        key: (&key_value[at..], 2 * h),
        value: (&key_value[h + at..], 2 * h),
    }
}
