//! The way back through the layers. Within a layer every group first finds the gradients of its
//! states, one thread a group; then the weights' gradients are summed over all groups in order.

use rayon::prelude::*;
use xqg_kernel::gradient::{activation_back, affine};
use xqg_kernel::ops::View;

use super::Encoder;
use super::embedding;
use super::forward::{Scratch, Site, site};
use super::pass::{GroupBack, GroupPass, Keep, LayerPass, Pass, Workspace, sized};
use crate::gradients::Gradients;
use crate::layers::add_norm;

impl Encoder {
    /// Adds to `gradients` what a pass gives them, given the gradient of its embeddings.
    ///
    /// # Panics
    /// When the pass kept nothing, or `grad` does not have a row for each of its texts.
    pub fn backward(
        &self,
        mut pass: Pass,
        grad: &[f32],
        gradients: &mut Gradients,
        workspace: &mut Workspace,
    ) {
        assert!(pass.keep != Keep::Nothing, "a pass for the way back keeps something");
        let texts = pass.groups.last().map_or(0, |group| group.texts.end);
        assert_eq!(grad.len(), texts * self.config.hidden_size, "a gradient for each embedding");
        let mut backs = std::mem::take(&mut workspace.back);
        backs.resize_with(pass.groups.len().max(backs.len()), GroupBack::default);
        let used = &mut backs[..pass.groups.len()];
        self.begin(&pass.groups, grad, used);
        for layer in (0..self.places.layers.len()).rev() {
            pass.groups
                .par_iter_mut()
                .zip(&mut *used)
                .for_each_init(Scratch::default, |scratch, (group, back)| {
                    self.group_back(layer, (group, back), pass.keep, scratch)
                });
            let slot = if pass.keep == Keep::All { layer } else { 0 };
            self.weight_gradients(layer, slot, (&pass.groups, used), gradients);
        }
        self.end(&pass.groups, used, gradients);
        workspace.back = backs;
        workspace.recycle(pass);
    }

    /// From embeddings to the states of the last layer.
    fn begin(&self, groups: &[GroupPass], grad: &[f32], backs: &mut [GroupBack]) {
        let h = self.config.hidden_size;
        groups.par_iter().zip(backs).for_each(|(group, back)| {
            let grad = &grad[group.texts.start * h..group.texts.end * h];
            self.pool_back(group, grad, sized(&mut back.states, group.rows() * h));
        });
    }

    /// From the states of the first layer to the embedding tables.
    fn end(&self, groups: &[GroupPass], backs: &mut [GroupBack], gradients: &mut Gradients) {
        groups.par_iter().zip(&mut *backs).for_each(|(group, back)| {
            self.drop(group, embedding::SITE, &mut back.states);
            let kept = (&*group.normed, &*group.scales);
            let sums = &mut back.norms[0];
            self.parameters.norm_back(&self.places.norm, &mut back.states, kept, sums);
        });
        for (group, back) in groups.iter().zip(&*backs) {
            self.embed_back(group, &back.states, gradients);
            add_norm(gradients, &self.places.norm, &back.norms[0]);
        }
    }

    fn group_back(
        &self,
        index: usize,
        (group, back): (&mut GroupPass, &mut GroupBack),
        keep: Keep,
        scratch: &mut Scratch,
    ) {
        self.input(index, group, back);
        let slot = if keep == Keep::All { index } else { 0 };
        let mut pass = std::mem::take(&mut group.layers[slot]);
        if keep == Keep::Inputs {
            let states = sized(&mut group.states, back.input.len());
            states.copy_from_slice(&back.input);
            let mut states = std::mem::take(&mut group.states);
            self.layer_forward(index, group, &mut states, &mut pass, scratch);
            group.states = states;
        }
        self.feed_forward_back(index, group, &mut pass, back);
        self.attention_back(index, group, &pass, back, scratch);
        group.layers[slot] = pass;
    }

    /// The input of a layer, made again from what the one before kept.
    fn input(&self, index: usize, group: &GroupPass, back: &mut GroupBack) {
        let states = sized(&mut back.input, group.rows() * self.config.hidden_size);
        match (group.inputs.get(index), index.checked_sub(1)) {
            (Some(kept), _) => states.copy_from_slice(kept),
            (None, None) => self.embedded(group, states),
            (None, Some(before)) => {
                let norm = self.parameters.affine(&self.places.layers[before].output_norm);
                affine(&group.layers[before].normed2, norm, states);
            }
        }
    }

    /// Through the second norm and the feed-forward part: `back.states` becomes the gradient of its
    /// input, `pass.inner` the inner states after the activation.
    fn feed_forward_back(
        &self,
        index: usize,
        group: &GroupPass,
        pass: &mut LayerPass,
        back: &mut GroupBack,
    ) {
        let layer = &self.places.layers[index];
        let kept = (&*pass.normed2, &*pass.scales2);
        let sums = &mut back.norms[1];
        self.parameters.norm_back(&layer.output_norm, &mut back.states, kept, sums);
        let contracted = sized(&mut back.contracted, back.states.len());
        contracted.copy_from_slice(&back.states);
        self.drop(group, site(index, Site::Output), contracted);
        let inner = sized(&mut back.inner, pass.inner.len());
        self.parameters.project_back(&layer.contract, contracted, inner);
        activation_back(&mut pass.inner, inner, self.config.hidden_act);
        self.parameters.project_back_add(
            &layer.expand,
            View::new(inner, layer.expand.output),
            &mut back.states,
        );
        let middle = sized(&mut back.middle, back.states.len());
        affine(&pass.normed1, self.parameters.affine(&layer.attention_norm), middle);
    }

    /// Through the first norm and the attention.
    fn attention_back(
        &self,
        index: usize,
        group: &GroupPass,
        pass: &LayerPass,
        back: &mut GroupBack,
        scratch: &mut Scratch,
    ) {
        let (layer, h) = (&self.places.layers[index], self.config.hidden_size);
        let kept = (&*pass.normed1, &*pass.scales1);
        let sums = &mut back.norms[0];
        self.parameters.norm_back(&layer.attention_norm, &mut back.states, kept, sums);
        let attention = sized(&mut back.attention, back.states.len());
        attention.copy_from_slice(&back.states);
        self.drop(group, site(index, Site::Attention), attention);
        let context = sized(&mut back.context, attention.len());
        self.parameters.project_back(&layer.attention_out, attention, context);
        let qkv = sized(&mut back.qkv, pass.qkv.len());
        self.attend_back(index, group, (&pass.qkv, context), qkv, &mut scratch.attention);
        for (part, linear) in layer.qkv.iter().enumerate() {
            self.parameters.project_back_add(
                linear,
                View::new(&qkv[part * h..], 3 * h),
                &mut back.states,
            );
        }
    }
}
