//! The way forward through the layers, for one group of texts on one thread.

use rayon::prelude::*;
use xqg_kernel::dropout::Rate;
use xqg_kernel::gradient::{add_bias, add_to, affine, normalise};
use xqg_kernel::ops::{Shape, View, matmul_transposed};
use xqg_kernel::row::activate;

use super::Encoder;
use super::attention::AttentionScratch;
use super::pass::{GroupPass, Keep, LayerPass, Pass, Text, Workspace, sized};
use super::places::{Linear, Norm};

/// The places of a layer at which dropout draws.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Site {
    /// The attention's probabilities.
    Probabilities,
    /// After the attention's output layer.
    Attention,
    /// After the feed-forward part.
    Output,
}

/// What a group's texts are called in dropout: layer and place.
pub(crate) fn site(layer: usize, site: Site) -> u64 {
    4 + layer as u64 * 4 + site as u64
}

/// Memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub inner: Vec<f32>,
    pub attention: AttentionScratch,
}

impl Encoder {
    /// Encodes texts and keeps what the way back needs.
    ///
    /// # Panics
    /// When a text is empty, or an id or a length is beyond the embeddings: the tokenizer's border
    /// checks them.
    pub fn forward(&self, texts: &[Text], keep: Keep, workspace: &mut Workspace) -> Pass {
        let mut groups = workspace.groups(texts);
        groups.par_iter_mut().for_each_init(Scratch::default, |scratch, group| {
            self.group_forward(group, keep, scratch);
        });
        let embeddings = groups.iter().flat_map(|g| g.embeddings.iter().copied()).collect();
        Pass { groups, keep, embeddings }
    }

    fn group_forward(&self, group: &mut GroupPass, keep: Keep, scratch: &mut Scratch) {
        let count = self.places.layers.len();
        let kept = if keep == Keep::All { count } else { 1 };
        group.layers.resize_with(kept, LayerPass::default);
        group.inputs.resize_with(if keep == Keep::Inputs { count } else { 0 }, Vec::new);
        self.embed(group);
        let mut states = std::mem::take(&mut group.states);
        for layer in 0..count {
            if let Some(input) = group.inputs.get_mut(layer) {
                sized(input, states.len()).copy_from_slice(&states);
            }
            let mut pass = std::mem::take(&mut group.layers[layer % kept]);
            self.layer_forward(layer, group, &mut states, &mut pass, scratch);
            group.layers[layer % kept] = pass;
        }
        group.states = states;
        self.pool(group);
    }

    /// One layer: `states` come as its input and leave as its result.
    pub(super) fn layer_forward(
        &self,
        index: usize,
        group: &GroupPass,
        states: &mut [f32],
        pass: &mut LayerPass,
        scratch: &mut Scratch,
    ) {
        let (layer, h, rows) = (&self.places.layers[index], self.config.hidden_size, group.rows());
        sized(&mut pass.qkv, rows * 3 * h);
        for (part, linear) in layer.qkv.iter().enumerate() {
            self.project(linear, states, &mut pass.qkv[part * h..], 3 * h);
        }
        let biases = layer.qkv.map(|linear| self.parameters.values(linear.bias));
        add_bias(&mut pass.qkv, &biases.concat());
        self.attend(index, group, &pass.qkv, sized(&mut pass.context, rows * h), scratch);

        self.project(&layer.attention_out, &pass.context, sized(&mut pass.normed1, rows * h), h);
        let norm = (&layer.attention_out, &layer.attention_norm, site(index, Site::Attention));
        self.finish(group, norm, states, (&mut pass.normed1, &mut pass.scales1));

        let inner = sized(&mut pass.inner, rows * layer.expand.output);
        self.project(&layer.expand, states, inner, layer.expand.output);
        add_bias(inner, self.parameters.values(layer.expand.bias));
        let active = sized(&mut scratch.inner, inner.len());
        active.copy_from_slice(inner);
        activate(self.isa, active, self.config.hidden_act);
        self.project(&layer.contract, active, sized(&mut pass.normed2, rows * h), h);
        let norm = (&layer.contract, &layer.output_norm, site(index, Site::Output));
        self.finish(group, norm, states, (&mut pass.normed2, &mut pass.scales2));
    }

    /// `out = x Wᵀ` for all rows of x; rows of `out` lie `stride` apart.
    fn project(&self, linear: &Linear, x: &[f32], out: &mut [f32], stride: usize) {
        let shape = Shape { m: x.len() / linear.input, n: linear.output, k: linear.input };
        let weight = View::new(self.parameters.values(linear.weight), linear.input);
        matmul_transposed(shape, View::new(x, linear.input), weight, out, stride);
    }

    /// Bias, dropout, residual and norm after a product: the product comes in `normed` and leaves
    /// normalised, the residual comes in `states`, which leave as the norm's result.
    fn finish(
        &self,
        group: &GroupPass,
        (linear, norm, site): (&Linear, &Norm, u64),
        states: &mut [f32],
        (normed, scales): (&mut [f32], &mut Vec<f32>),
    ) {
        add_bias(normed, self.parameters.values(linear.bias));
        self.drop(group, site, normed);
        add_to(normed, states);
        normalise(normed, sized(scales, group.rows()), self.config.layer_norm_eps);
        affine(normed, self.parameters.affine(norm), states);
    }

    /// The rate of dropout over states, where there is any.
    fn hidden_rate(&self) -> Option<Rate> {
        self.dropout.map(|d| d.hidden).filter(|rate| !rate.is_zero())
    }

    /// Leaves out numbers of each text's states; the way back does the same to their gradient.
    pub(super) fn drop(&self, group: &GroupPass, site: u64, states: &mut [f32]) {
        let Some(rate) = self.hidden_rate() else { return };
        let h = self.config.hidden_size;
        for (span, key) in group.spans().zip(&group.keys) {
            rate.apply(key.part(site), 0, &mut states[span.start * h..span.end * h]);
        }
    }
}
