//! Tokens and their places as states, and the way back.

use xqg_kernel::gradient::add_to;

use super::Decoder;
use super::pass::{Group, Workspace};
use crate::gradients::Gradients;
use crate::network::pass::sized;

/// Dropout's name for the embeddings; the layers' begin at 4.
pub(crate) const SITE: u64 = 0;

impl Decoder {
    /// Fills a group's states with its tokens' embeddings.
    pub(super) fn embed(&self, group: &mut Group) {
        let (h, scale) = (self.shape.hidden, self.shape.embed_scale);
        let mut states = std::mem::take(&mut group.states);
        let words = self.parameters.values(self.places.words);
        let positions = self.parameters.values(self.places.positions);
        let places = group.lengths.iter().flat_map(|&n| 0..n);
        let rows = sized(&mut states, group.rows() * h).chunks_exact_mut(h);
        for ((row, &id), place) in rows.zip(&group.ids).zip(places) {
            let word = &words[id as usize * h..][..h];
            let position = &positions[place * h..][..h];
            for ((x, w), p) in row.iter_mut().zip(word).zip(position) {
                *x = w * scale + p;
            }
        }
        self.drop(group, SITE, &mut states);
        group.states = states;
    }

    /// Adds the gradients of words and positions, given that of the states.
    pub(super) fn embed_back(&self, gradients: &mut Gradients, workspace: &mut Workspace) {
        let (h, scale) = (self.shape.hidden, self.shape.embed_scale);
        for group in workspace.groups() {
            let mut states = std::mem::take(&mut group.back.states);
            self.drop(group, SITE, &mut states);
            let positions = gradients.0[self.places.positions].dense();
            let places = group.lengths.iter().flat_map(|&n| 0..n);
            for (row, place) in states.chunks_exact(h).zip(places) {
                add_to(&mut positions[place * h..][..h], row);
            }
            let words = gradients.0[self.places.words].dense();
            for (row, &id) in states.chunks_exact(h).zip(&group.ids) {
                let word = &mut words[id as usize * h..][..h];
                word.iter_mut().zip(row).for_each(|(w, x)| *w += x * scale);
            }
            group.back.states = states;
        }
    }
}
