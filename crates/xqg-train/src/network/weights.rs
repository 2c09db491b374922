//! The gradients of a layer's weights, biases and norms.

use super::Encoder;
use super::pass::{GroupBack, GroupPass};
use crate::gradients::Gradients;
use crate::layers::{Seen, add_norm, add_weights};

/// Which linear layer of a layer.
#[derive(Debug, Clone, Copy)]
enum Which {
    /// Query 0, key 1, value 2.
    Qkv(usize),
    AttentionOut,
    Expand,
    Contract,
}

/// The groups with their gradients.
type Groups<'a> = (&'a [GroupPass], &'a [GroupBack]);

impl Encoder {
    /// Adds the gradients of all weights, biases and norms of a layer.
    pub(super) fn weight_gradients(
        &self,
        index: usize,
        slot: usize,
        (groups, backs): Groups,
        gradients: &mut Gradients,
    ) {
        let layer = &self.places.layers[index];
        let [query, key, value] = layer.qkv;
        let all = [
            (Which::Contract, layer.contract),
            (Which::Expand, layer.expand),
            (Which::Qkv(0), query),
            (Which::Qkv(1), key),
            (Which::Qkv(2), value),
            (Which::AttentionOut, layer.attention_out),
        ];
        let (h, f) = (self.config.hidden_size, layer.expand.output);
        add_weights(&all, gradients, groups.len(), |which, group| {
            let (pass, back) = (&groups[group].layers[slot], &backs[group]);
            let (grad, stride, input) = match which {
                Which::Qkv(part) => (&back.qkv[part * h..], 3 * h, &back.input),
                Which::AttentionOut => (&back.attention[..], h, &pass.context),
                Which::Expand => (&back.inner[..], f, &back.middle),
                Which::Contract => (&back.contracted[..], h, &pass.inner),
            };
            Seen { grad, stride, input }
        });
        for back in backs {
            add_norm(gradients, &layer.attention_norm, &back.norms[0]);
            add_norm(gradients, &layer.output_norm, &back.norms[1]);
        }
    }
}
