//! Token states to embeddings, and back.

use xqg_kernel::gradient::{add_to, dot_product};
use xqg_model::recipe::Pooling;

use super::Encoder;
use super::pass::{GroupPass, sized};

/// Below this length a pooled vector is not scaled, as in PyTorch's `normalize`.
const SHORTEST: f32 = 1e-12;

impl Encoder {
    /// Fills a group's embeddings from its states.
    pub(super) fn pool(&self, group: &mut GroupPass) {
        let h = self.config.hidden_size;
        let spans: Vec<_> = group.spans().collect();
        sized(&mut group.norms, spans.len()).fill(1.0);
        let embeddings = sized(&mut group.embeddings, spans.len() * h);
        embeddings.fill(0.0);
        for ((out, norm), span) in embeddings.chunks_exact_mut(h).zip(&mut group.norms).zip(spans) {
            let (span, share) = self.pooled(span);
            group.states[span.start * h..span.end * h].chunks_exact(h).for_each(|s| add_to(out, s));
            out.iter_mut().for_each(|x| *x *= share);
            if self.head.normalize {
                *norm = dot_product(out, out).sqrt().max(SHORTEST);
                out.iter_mut().for_each(|x| *x /= *norm);
            }
        }
    }

    /// The rows of a text that its vector is made of, and the share of each.
    fn pooled(&self, span: std::ops::Range<usize>) -> (std::ops::Range<usize>, f32) {
        match self.head.pooling {
            Pooling::Mean => (span.clone(), 1.0 / span.len() as f32),
            Pooling::Cls => (span.start..span.start + 1, 1.0),
        }
    }

    /// The gradient of a group's states, given that of its embeddings.
    pub(super) fn pool_back(&self, group: &GroupPass, grad: &[f32], states: &mut [f32]) {
        let h = self.config.hidden_size;
        states.fill(0.0);
        let texts = grad.chunks_exact(h).zip(group.embeddings.chunks_exact(h)).zip(&group.norms);
        for (((grad, embedding), norm), span) in texts.zip(group.spans()) {
            let along = if self.head.normalize { dot_product(grad, embedding) } else { 0.0 };
            let (span, share) = self.pooled(span);
            let share = share / norm;
            for row in states[span.start * h..span.end * h].chunks_exact_mut(h) {
                for ((x, g), e) in row.iter_mut().zip(grad).zip(embedding) {
                    *x = (g - e * along) * share;
                }
            }
        }
    }
}
