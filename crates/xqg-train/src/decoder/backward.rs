//! The way back through the layers. Within a layer every group first finds the gradients of its
//! states, one thread a group; then the weights' gradients are summed over all groups in order.

use rayon::prelude::*;
use xqg_kernel::gradient::{activation_back, add_to, affine};
use xqg_kernel::ops::View;

use super::Decoder;
use super::attention::{Part, Scratch};
use super::forward::{ACTIVATION, CROSS, FEED, OWN, cross_parts, own_parts, site};
use super::pass::{Group, GroupBack, LayerPass, Workspace};
use crate::gradients::Gradients;
use crate::layers::add_norm;
use crate::network::pass::{sized, zeroed};
use crate::network::places::Norm;

impl Decoder {
    /// Adds the gradients of all parameters below the output, given that of the last norm's result in
    /// each group's `back.states`.
    pub(super) fn backward(&self, gradients: &mut Gradients, workspace: &mut Workspace) {
        let groups = workspace.groups();
        groups.par_iter_mut().for_each(|group| {
            let mut back = std::mem::take(&mut group.back);
            let kept = (&*group.normed, &*group.scales);
            let (states, sums) = (&mut back.states, &mut back.norms[OWN]);
            self.parameters.norm_back(&self.places.final_norm, states, kept, sums);
            group.back = back;
        });
        for group in &*groups {
            add_norm(gradients, &self.places.final_norm, &group.back.norms[OWN]);
        }
        for index in (0..self.shape.layers).rev() {
            groups.par_iter_mut().with_max_len(1).for_each_init(Scratch::default, |s, group| {
                let mut back = std::mem::take(&mut group.back);
                let mut pass = std::mem::take(&mut group.layers[index]);
                self.feed_back(index, group, &mut pass, &mut back);
                self.cross_back(index, group, &pass, &mut back, s);
                self.own_back(index, group, &pass, &mut back, s);
                (group.back, group.layers[index]) = (back, pass);
            });
            self.weight_gradients(index, groups, gradients);
        }
        self.embed_back(gradients, workspace);
    }

    /// The gradient of what a sublayer's last linear layer gives: that of the states after dropout.
    fn out_gradient(&self, group: &Group, site: u64, states: &[f32], out: &mut Vec<f32>) {
        sized(out, states.len()).copy_from_slice(states);
        self.drop(group, site, out);
    }

    /// Through a sublayer's norm: adds the gradient of its input, in `back.input`, to the states'.
    fn join(&self, norm: &Norm, sublayer: usize, pass: &LayerPass, back: &mut GroupBack) {
        let kept = (&*pass.normed[sublayer], &*pass.scales[sublayer]);
        self.parameters.norm_back(norm, &mut back.input, kept, &mut back.norms[sublayer]);
        add_to(&mut back.states, &back.input);
        let input = sized(&mut back.inputs[sublayer], back.states.len());
        affine(kept.0, self.parameters.affine(norm), input);
    }

    fn feed_back(&self, index: usize, group: &Group, pass: &mut LayerPass, back: &mut GroupBack) {
        let layer = &self.places.layers[index];
        self.out_gradient(group, site(index, FEED), &back.states, &mut back.outs[FEED]);
        let inner = sized(&mut back.inner, pass.inner.len());
        self.parameters.project_back(&layer.contract, &back.outs[FEED], inner);
        activation_back(&mut pass.inner, inner, ACTIVATION);
        self.parameters.project_back(
            &layer.expand,
            inner,
            sized(&mut back.input, back.states.len()),
        );
        self.join(&layer.ffn_norm, FEED, pass, back);
    }

    fn cross_back(
        &self,
        index: usize,
        group: &Group,
        pass: &LayerPass,
        back: &mut GroupBack,
        scratch: &mut Scratch,
    ) {
        let (layer, h) = (&self.places.layers[index], self.shape.hidden);
        self.out_gradient(group, site(index, CROSS), &back.states, &mut back.outs[CROSS]);
        let context = sized(&mut back.context, back.states.len());
        self.parameters.project_back(&layer.cross.out, &back.outs[CROSS], context);
        let to_query = zeroed(&mut back.query, pass.query.len());
        let to_memory = zeroed(&mut back.key_value, pass.key_value.len());
        for (rows, memory) in &group.attends {
            let query = &pass.query[rows.start * h..rows.end * h];
            let key_value = &pass.key_value[memory.start * 2 * h..memory.end * 2 * h];
            for index in 0..self.shape.heads {
                let head = self.head(rows.len(), memory.len(), false);
                let at = index * head.d;
                let parts = cross_parts(query, key_value, h, at);
                let context = (&context[rows.start * h..rows.end * h][at..], h);
                let mut add = |part, fill: &dyn Fn(&mut [f32], usize)| match part {
                    Part::Query => fill(&mut to_query[rows.start * h..rows.end * h][at..], h),
                    Part::Key => {
                        fill(&mut to_memory[memory.start * 2 * h..memory.end * 2 * h][at..], 2 * h)
                    }
                    Part::Value => fill(
                        &mut to_memory[memory.start * 2 * h..memory.end * 2 * h][h + at..],
                        2 * h,
                    ),
                };
                head.backward(parts, context, &mut add, scratch);
            }
        }
        let input = sized(&mut back.input, back.states.len());
        self.parameters.project_back(&layer.cross.qkv[0], to_query, input);
        self.join(&layer.cross_norm, CROSS, pass, back);
    }

    fn own_back(
        &self,
        index: usize,
        group: &Group,
        pass: &LayerPass,
        back: &mut GroupBack,
        scratch: &mut Scratch,
    ) {
        let (layer, h) = (&self.places.layers[index], self.shape.hidden);
        self.out_gradient(group, site(index, OWN), &back.states, &mut back.outs[OWN]);
        let context = sized(&mut back.context, back.states.len());
        self.parameters.project_back(&layer.own.out, &back.outs[OWN], context);
        let to = zeroed(&mut back.qkv, pass.qkv.len());
        for span in group.spans() {
            let rows = span.start * 3 * h..span.end * 3 * h;
            let (qkv, to) = (&pass.qkv[rows.clone()], &mut to[rows]);
            for index in 0..self.shape.heads {
                let head = self.head(span.len(), span.len(), true);
                let at = index * head.d;
                let context = (&context[span.start * h..span.end * h][at..], h);
                let mut add = |part: Part, fill: &dyn Fn(&mut [f32], usize)| {
                    let place = match part {
                        Part::Query => 0,
                        Part::Key => h,
                        Part::Value => 2 * h,
                    };
                    fill(&mut to[place + at..], 3 * h);
                };
                head.backward(own_parts(qkv, h, at), context, &mut add, scratch);
            }
        }
        let input = zeroed(&mut back.input, back.states.len());
        for (part, linear) in layer.own.qkv.iter().enumerate() {
            self.parameters.project_back_add(linear, View::new(&to[part * h..], 3 * h), input);
        }
        self.join(&layer.self_norm, OWN, pass, back);
    }
}
