//! The gradients of a layer's weights, biases and norms.

use super::Decoder;
use super::forward::{CROSS, FEED, OWN};
use super::pass::Group;
use crate::gradients::Gradients;
use crate::layers::{Seen, add_norm, add_weights};

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
        let (h, inner) = (self.shape.hidden, self.shape.inner);
        add_weights(&all, gradients, groups.len(), |which, group| {
            let group = &groups[group];
            let (pass, back) = (&group.layers[index], &group.back);
            let (grad, stride, input) = match which {
                Which::Own(part) => (&back.qkv[part * h..], 3 * h, &back.inputs[OWN]),
                Which::OwnOut => (&back.outs[OWN][..], h, &pass.own_context),
                Which::CrossQuery => (&back.query[..], h, &back.inputs[CROSS]),
                Which::CrossMemory(part) => (&back.key_value[part * h..], 2 * h, &group.memory),
                Which::CrossOut => (&back.outs[CROSS][..], h, &pass.cross_context),
                Which::Expand => (&back.inner[..], inner, &back.inputs[FEED]),
                Which::Contract => (&back.outs[FEED][..], h, &pass.inner),
            };
            Seen { grad, stride, input }
        });
        for group in groups {
            let norms = [&layer.self_norm, &layer.cross_norm, &layer.ffn_norm];
            norms.iter().zip(&group.back.norms).for_each(|(n, sums)| add_norm(gradients, n, sums));
        }
    }
}
