//! What a forward pass keeps for the way back, group by group, and the memory for both.

use std::ops::Range;

use xqg_kernel::dropout::Key;

/// Tokens of a group: enough for large products, few enough that states stay in the cache and the
/// threads have several groups each.
const GROUP_TOKENS: usize = 512;

/// A text as the network reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Decides what dropout leaves out of this text.
    pub key: Key,
}

/// How much a forward pass keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Embeddings only: there is no way back.
    Nothing,
    /// The input of each layer; the way back makes the rest again, for a third more time.
    Inputs,
    /// Everything that the way back needs.
    All,
}

/// What one layer keeps.
#[derive(Debug, Default)]
pub(super) struct LayerPass {
    /// Query, key and value side by side.
    pub qkv: Vec<f32>,
    /// What attention gives to its output layer.
    pub context: Vec<f32>,
    /// Rows of the first norm, before its weight.
    pub normed1: Vec<f32>,
    /// Their scales.
    pub scales1: Vec<f32>,
    /// Inner states before the activation.
    pub inner: Vec<f32>,
    /// Rows of the second norm, before its weight.
    pub normed2: Vec<f32>,
    /// Their scales.
    pub scales2: Vec<f32>,
}

/// Some texts that go through the network together.
#[derive(Debug, Default)]
pub(super) struct GroupPass {
    /// Their numbers in the batch.
    pub texts: Range<usize>,
    /// Tokens of each.
    pub lengths: Vec<usize>,
    /// Dropout keys of each.
    pub keys: Vec<Key>,
    /// All tokens, end to end.
    pub ids: Vec<u32>,
    /// Rows of the embeddings' norm, before its weight.
    pub normed: Vec<f32>,
    /// Their scales.
    pub scales: Vec<f32>,
    /// The layers; one only, used again and again, where not all is kept.
    pub layers: Vec<LayerPass>,
    /// The inputs of the layers, where these are kept.
    pub inputs: Vec<Vec<f32>>,
    /// The states: of the last layer when the pass is done.
    pub states: Vec<f32>,
    /// Lengths of the pooled vectors before they were scaled to one.
    pub norms: Vec<f32>,
    /// The embeddings of the group.
    pub embeddings: Vec<f32>,
}

impl GroupPass {
    /// Number of tokens.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// The range of rows of each text.
    pub fn spans(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.lengths.iter().scan(0, |end, &n| {
            *end += n;
            Some(*end - n..*end)
        })
    }
}

/// A forward pass over some texts.
#[derive(Debug)]
pub struct Pass {
    pub(super) groups: Vec<GroupPass>,
    pub(super) keep: Keep,
    /// One row for each text.
    pub embeddings: Vec<f32>,
}

impl Pass {
    /// Token states after the last layer, all texts end to end.
    pub fn states(&self) -> Vec<f32> {
        self.groups.iter().flat_map(|g| g.states.iter().copied()).collect()
    }
}

/// The gradients that a group passes from layer to layer, and those that the weights need.
#[derive(Debug, Default)]
pub(super) struct GroupBack {
    /// Gradient of the states.
    pub states: Vec<f32>,
    /// Input of the layer.
    pub input: Vec<f32>,
    /// Input of the feed-forward part.
    pub middle: Vec<f32>,
    /// Gradient of query, key and value.
    pub qkv: Vec<f32>,
    /// Gradient of the attention's output layer.
    pub attention: Vec<f32>,
    /// Gradient of the inner states before the activation.
    pub inner: Vec<f32>,
    /// Gradient of the second linear layer of the feed-forward part.
    pub contracted: Vec<f32>,
    /// Gradients of the two norms' weight and bias.
    pub norms: [[Vec<f32>; 2]; 2],
    /// Gradient of the context; scratch.
    pub context: Vec<f32>,
}

/// Memory that passes leave behind for the next ones.
#[derive(Debug, Default)]
pub struct Workspace {
    free: Vec<GroupPass>,
    pub(super) back: Vec<GroupBack>,
}

impl Workspace {
    /// Groups of neighbouring texts.
    pub(super) fn groups(&mut self, texts: &[Text]) -> Vec<GroupPass> {
        let (mut groups, mut start, mut tokens) = (Vec::new(), 0, 0);
        for (i, text) in texts.iter().enumerate() {
            tokens += text.ids.len();
            if tokens >= GROUP_TOKENS || i + 1 == texts.len() {
                groups.push(self.group(texts, start..i + 1));
                (start, tokens) = (i + 1, 0);
            }
        }
        groups
    }

    fn group(&mut self, texts: &[Text], range: Range<usize>) -> GroupPass {
        let mut group = self.free.pop().unwrap_or_default();
        let members = &texts[range.clone()];
        group.lengths = members.iter().map(|t| t.ids.len()).collect();
        group.keys = members.iter().map(|t| t.key).collect();
        group.ids = members.iter().flat_map(|t| t.ids.iter().copied()).collect();
        group.texts = range;
        group
    }

    /// Takes a pass apart whose way back is done, or that needs none.
    pub fn recycle(&mut self, pass: Pass) {
        self.free.extend(pass.groups);
    }
}

/// A buffer of exactly that length, whose content does not matter.
pub(crate) fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.capacity() < length {
        // Nothing of the old content is worth copying.
        *buffer = vec![0.0; length];
    }
    buffer.resize(length, 0.0);
    buffer
}

/// The same, of zeros.
pub(crate) fn zeroed(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    let buffer = sized(buffer, length);
    buffer.fill(0.0);
    buffer
}
