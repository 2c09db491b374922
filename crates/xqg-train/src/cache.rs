//! Big batches in small memory: gradient caching (Gao et al. 2021, arXiv 2101.06983, section 3). All
//! texts are embedded without keeping anything, the loss gives the gradient of every embedding, and
//! then chunk after chunk is encoded again and taken back. The gradient is the same as in one piece,
//! for dropout draws by text and not by time.

use xqg_kernel::dropout::Key;

use crate::gradients::Gradients;
use crate::network::Encoder;
use crate::network::pass::{Keep, Pass, Text, Workspace};

/// How much is held in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// Tokens that are encoded with everything kept for the way back.
    pub tokens: usize,
    /// What is kept of them.
    pub keep: Keep,
}

/// Texts that were encoded, and what the way back needs of them.
#[derive(Debug)]
pub struct Encoded {
    /// One row for each text.
    pub embeddings: Vec<f32>,
    /// What was kept, where all texts fit at once.
    pub(crate) pass: Option<Pass>,
}

/// The chunks of texts, each of at most the given number of tokens, or of one text.
fn chunks(texts: &[Text], tokens: usize) -> Vec<&[Text]> {
    let (mut chunks, mut start, mut total) = (Vec::new(), 0, 0);
    for (i, text) in texts.iter().enumerate() {
        if i > start && total + text.ids.len() > tokens {
            chunks.push(&texts[start..i]);
            (start, total) = (i, 0);
        }
        total += text.ids.len();
    }
    if start < texts.len() {
        chunks.push(&texts[start..]);
    }
    chunks
}

impl Chunks {
    /// Encodes all texts; keeps what the way back needs only where they fit into one chunk.
    pub fn encode(self, encoder: &Encoder, texts: &[Text], workspace: &mut Workspace) -> Encoded {
        let chunks = chunks(texts, self.tokens);
        if let [chunk] = chunks[..] {
            let mut pass = encoder.forward(chunk, self.keep, workspace);
            let embeddings = std::mem::take(&mut pass.embeddings);
            return Encoded { embeddings, pass: Some(pass) };
        }
        let mut embeddings = Vec::new();
        for chunk in chunks {
            let pass = encoder.forward(chunk, Keep::Nothing, workspace);
            embeddings.extend_from_slice(&pass.embeddings);
            workspace.recycle(pass);
        }
        Encoded { embeddings, pass: None }
    }

    /// Adds the gradients of the encoder's parameters, given that of each embedding.
    pub fn back(
        self,
        encoder: &Encoder,
        (texts, encoded): (&[Text], Encoded),
        grad: &[f32],
        gradients: &mut Gradients,
        workspace: &mut Workspace,
    ) {
        if let Some(pass) = encoded.pass {
            return encoder.backward(pass, grad, gradients, workspace);
        }
        let dim = grad.len() / texts.len().max(1);
        let mut rest = grad;
        for chunk in chunks(texts, self.tokens) {
            let (here, later) = rest.split_at(chunk.len() * dim);
            rest = later;
            let pass = encoder.forward(chunk, self.keep, workspace);
            encoder.backward(pass, here, gradients, workspace);
        }
    }
}

/// The texts of a batch with the dropout keys of its step: query i and passage i draw for
/// themselves, in whatever chunk they lie.
pub fn keyed(ids: Vec<Vec<u32>>, step: Key) -> Vec<Text> {
    let key = |(i, ids)| Text { ids, key: step.part(i as u64) };
    ids.into_iter().enumerate().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_all_texts_in_order_and_no_more_tokens_than_they_may() {
        let lengths = [3, 4, 9, 1, 1, 1, 7];
        let texts = keyed(lengths.iter().map(|&n| vec![5; n]).collect(), Key::new(1));
        let chunks = chunks(&texts, 7);
        let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
        assert_eq!(sizes, [2, 1, 3, 1]);
        assert_eq!(chunks.concat(), texts);
    }
}
