//! What a forward pass keeps for the way back, group by group, and the memory for both.

use std::ops::Range;

use xqg_kernel::dropout::Key;

use super::Batch;

/// What a group may cost: one for a token that is written, a tenth for a token of a memory, which
/// only passes through the keys and values. Enough for large products, few enough for the cache.
const GROUP_COST: usize = 3840;
const TOKEN_COST: usize = 10;

/// What one layer keeps.
#[derive(Debug, Default)]
pub(super) struct LayerPass {
    /// Rows of the three norms, before their weights, and their scales.
    pub normed: [Vec<f32>; 3],
    pub scales: [Vec<f32>; 3],
    /// Query, key and value of the self-attention side by side.
    pub qkv: Vec<f32>,
    /// What the self-attention gives to its output layer.
    pub own_context: Vec<f32>,
    /// The cross-attention's queries.
    pub query: Vec<f32>,
    /// Its keys and values side by side, a row for each token of a memory.
    pub key_value: Vec<f32>,
    /// What the cross-attention gives to its output layer.
    pub cross_context: Vec<f32>,
    /// Inner states before the activation; after it, once the way back has been there.
    pub inner: Vec<f32>,
}

/// The gradients that a group passes from layer to layer, and those that the weights need.
#[derive(Debug, Default)]
pub(super) struct GroupBack {
    /// Of the states.
    pub states: Vec<f32>,
    /// Inputs of self-attention, cross-attention and feed-forward part.
    pub inputs: [Vec<f32>; 3],
    /// Of what their last linear layers give.
    pub outs: [Vec<f32>; 3],
    /// Of the self-attention's query, key and value.
    pub qkv: Vec<f32>,
    /// Of the cross-attention's query.
    pub query: Vec<f32>,
    /// Of its keys and values.
    pub key_value: Vec<f32>,
    /// Of the inner states before the activation.
    pub inner: Vec<f32>,
    /// Of the norms: weights and biases.
    pub norms: [[Vec<f32>; 2]; 3],
    /// Of a context, and of a sublayer's input; scratch.
    pub context: Vec<f32>,
    pub input: Vec<f32>,
}

/// Some targets that go through the network together, with the memories that they need.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Rows of each target.
    pub lengths: Vec<usize>,
    /// Dropout keys of each.
    pub keys: Vec<Key>,
    /// The place of the first in the batch.
    pub first: usize,
    /// All input tokens, end to end.
    pub ids: Vec<u32>,
    /// All states of the memories, end to end.
    pub memory: Vec<f32>,
    /// Which rows attend to which rows of the memory.
    pub attends: Vec<(Range<usize>, Range<usize>)>,
    /// The layers.
    pub layers: Vec<LayerPass>,
    /// The states; after the pass, the result of the last norm.
    pub states: Vec<f32>,
    /// Rows of the last norm, before its weight, and their scales.
    pub normed: Vec<f32>,
    pub scales: Vec<f32>,
    /// What the way back needs.
    pub back: GroupBack,
}

impl Group {
    /// Number of tokens that are read in.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// The range of rows of each target.
    pub fn spans(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.lengths.iter().scan(0, |end, &n| {
            *end += n;
            Some(*end - n..*end)
        })
    }

    /// Lays out the targets of a range; those of one memory are neighbours and share it.
    fn lay_out(&mut self, batch: &Batch, range: Range<usize>, hidden: usize) {
        let targets = &batch.targets[range.clone()];
        self.first = range.start;
        self.lengths = targets.iter().map(|t| t.ids.len()).collect();
        self.keys = targets.iter().map(|t| t.key).collect();
        self.ids = targets.iter().flat_map(|t| t.ids.iter().copied()).collect();
        self.memory.clear();
        self.attends.clear();
        let (mut row, mut known) = (0, None);
        for target in targets {
            let rows = row..row + target.ids.len();
            row = rows.end;
            match self.attends.last_mut() {
                Some((before, _)) if known == Some(target.memory) => before.end = rows.end,
                _ => {
                    let start = self.memory.len() / hidden;
                    self.memory.extend_from_slice(&batch.memories[target.memory].rows);
                    self.attends.push((rows, start..self.memory.len() / hidden));
                }
            }
            known = Some(target.memory);
        }
    }
}

/// Memory that stays from step to step.
#[derive(Debug, Default)]
pub struct Workspace {
    groups: Vec<Group>,
    used: usize,
}

impl Workspace {
    /// Makes the groups of a batch.
    pub(super) fn lay_out(&mut self, batch: &Batch, hidden: usize) -> &mut [Group] {
        let (mut ranges, mut start, mut cost) = (Vec::new(), 0, 0);
        for (i, target) in batch.targets.iter().enumerate() {
            let new = i == start || batch.targets[i - 1].memory != target.memory;
            let memory = batch.memories[target.memory].rows.len() / hidden;
            cost += target.ids.len() * TOKEN_COST + if new { memory } else { 0 };
            if cost >= GROUP_COST || i + 1 == batch.targets.len() {
                ranges.push(start..i + 1);
                (start, cost) = (i + 1, 0);
            }
        }
        self.used = ranges.len();
        self.groups.resize_with(self.used.max(self.groups.len()), Group::default);
        for (group, range) in self.groups.iter_mut().zip(ranges) {
            group.lay_out(batch, range, hidden);
        }
        self.groups()
    }

    /// The groups of the batch that was laid out last.
    pub(super) fn groups(&mut self) -> &mut [Group] {
        &mut self.groups[..self.used]
    }
}
