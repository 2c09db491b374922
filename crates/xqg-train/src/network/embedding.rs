//! The sum of word, position and type embeddings, its norm and its dropout; and the way back, which
//! touches only the rows of the words that occur.

use xqg_kernel::gradient::{add_to, affine, normalise};

use super::Encoder;
use super::pass::{GroupPass, sized};
use crate::gradients::{Gradient, Gradients};

/// Dropout's name for the embeddings; the layers' begin at 4.
pub(crate) const SITE: u64 = 0;

impl Encoder {
    /// Fills a group's states with the embeddings of its tokens.
    pub(super) fn embed(&self, group: &mut GroupPass) {
        let (h, rows) = (self.config.hidden_size, group.rows());
        let mut normed = std::mem::take(&mut group.normed);
        sized(&mut normed, rows * h);
        let [words, positions, types] =
            [self.places.words, self.places.positions, self.places.types]
                .map(|place| self.parameters.values(place));
        let places = group.lengths.iter().flat_map(|&n| 0..n);
        for ((row, &id), place) in normed.chunks_exact_mut(h).zip(&group.ids).zip(places) {
            row.copy_from_slice(&words[id as usize * h..][..h]);
            add_to(row, &positions[(self.config.first_position() + place) * h..][..h]);
            add_to(row, &types[..h]);
        }
        normalise(&mut normed, sized(&mut group.scales, rows), self.config.layer_norm_eps);
        group.normed = normed;
        let mut states = std::mem::take(&mut group.states);
        self.embedded(group, sized(&mut states, rows * h));
        group.states = states;
    }

    /// The result of the embeddings again, from what was kept.
    pub(super) fn embedded(&self, group: &GroupPass, states: &mut [f32]) {
        affine(&group.normed, self.parameters.affine(&self.places.norm), states);
        self.drop(group, SITE, states);
    }

    /// Adds the gradients of the three tables, given that of their sum.
    pub(super) fn embed_back(&self, group: &GroupPass, grad: &[f32], gradients: &mut Gradients) {
        let h = self.config.hidden_size;
        if let Gradient::Rows(rows) = &mut gradients.0[self.places.words] {
            let padding = self.config.padding_id();
            let ids = grad.chunks_exact(h).zip(&group.ids);
            for (row, &id) in ids.filter(|(_, id)| **id as usize != padding) {
                add_to(rows.row(id), row);
            }
        }
        let places = group.lengths.iter().flat_map(|&n| 0..n);
        if let Gradient::Dense(positions) = &mut gradients.0[self.places.positions] {
            for (row, place) in grad.chunks_exact(h).zip(places) {
                add_to(&mut positions[(self.config.first_position() + place) * h..][..h], row);
            }
        }
        if let Gradient::Dense(types) = &mut gradients.0[self.places.types] {
            grad.chunks_exact(h).for_each(|row| add_to(&mut types[..h], row));
        }
    }
}
