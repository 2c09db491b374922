//! A decoder that learns: a few pre-norm layers over the token states of a frozen encoder, its output
//! tied to its input embedding. Forward and backward are written by hand as in `network`: targets lie
//! end to end without padding, and only what the way back cannot cheaply make again is kept.
//!
//! x = `embed[id]` s + position; x += self(norm x), causal; x += cross(norm x, memory); x += ffn(norm x);
//! logits = norm(x) · embedᵀ c + bias (Vaswani et al. 2017, sections 3.1 to 3.4, with the norms before
//! the sublayers as in Xiong et al. 2020). The memory gets no gradient: its encoder is frozen.
//!
//! The output is computed language by language, over the tokens that may be written in it.

mod attention;
mod backward;
pub(crate) mod embedding;
pub(crate) mod forward;
mod init;
mod output;
mod pass;
pub(crate) mod places;
mod weights;

use xqg_kernel::dropout::{Key, Rate};
use xqg_kernel::isa::Isa;
use xqg_model::checkpoint::Checkpoint;

pub use init::Initial;
pub use pass::Workspace;

use crate::error::TrainError;
use crate::gradients::Gradients;
use crate::parameters::Parameters;
use places::Places;

/// The shape of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Length of a state: the encoder's.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Length of the inner state of the feed-forward part.
    pub inner: usize,
    /// The most tokens, the language's tag included.
    pub positions: usize,
    /// Tokens, language tags included.
    pub vocabulary: usize,
    /// Factor of an input embedding.
    pub embed_scale: f32,
    /// Factor of a logit.
    pub logit_scale: f32,
    /// Added to a norm's variance.
    pub norm_eps: f32,
}

/// What a text is that a decoder reads: the token states of a frozen encoder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Rows of `hidden` numbers.
    pub rows: Vec<f32>,
}

/// A text that a decoder learns to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Which memory of the batch it is written from; targets of one memory follow each other.
    pub memory: usize,
    /// What goes in: the language's tag, then the text's tokens.
    pub ids: Vec<u32>,
    /// Which tokens may be written: the place of a list.
    pub list: usize,
    /// Decides what dropout leaves out of this text.
    pub key: Key,
}

/// Texts with what they are written from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The memories.
    pub memories: Vec<Memory>,
    /// The targets, in the order of their memories.
    pub targets: Vec<Target>,
}

/// The tokens that may be written, and the token that ends a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Lists {
    /// Ids in rising order, the end's among them; a softmax is over one of these.
    pub lists: Vec<Vec<u32>>,
    /// The id that ends a text.
    pub eos: u32,
}

/// The loss of some texts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TextLoss {
    /// Mean over tokens of what is minimised: label smoothing included.
    pub smoothed: f64,
    /// Mean over tokens of the negative logarithm of the right token's probability.
    pub plain: f64,
    /// Tokens that were predicted, ends included.
    pub tokens: usize,
}

/// A decoder with its parameters.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The parameters.
    pub parameters: Parameters,
    /// What is left out of states in forward passes; nothing where it is `None`.
    pub dropout: Option<Rate>,
    shape: Shape,
    places: Places,
    isa: Isa,
}

impl Decoder {
    /// Loads the weights of a decoder of that shape.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn load(checkpoint: &Checkpoint, shape: Shape) -> Result<Self, TrainError> {
        let mut parameters = Parameters::default();
        let places = Places::fill(&shape, &mut |name, dims, kind| {
            parameters.load(checkpoint, name, dims, kind)
        })?;
        Ok(Self { parameters, dropout: None, shape, places, isa: Isa::detect() })
    }

    /// The shape of the network.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Adds the gradients of a batch's mean loss over its tokens; returns the loss.
    ///
    /// # Panics
    /// When a target is empty or longer than the positions, an id is beyond the embedding, or a token
    /// is not on its target's list: who reads the rows checks them.
    pub fn learn(
        &self,
        batch: &Batch,
        (lists, smoothing): (&Lists, f32),
        gradients: &mut Gradients,
        workspace: &mut Workspace,
    ) -> TextLoss {
        self.forward(batch, workspace);
        let loss = self.output(batch, (lists, smoothing), Some(gradients), workspace);
        if loss.smoothed.is_finite() {
            self.backward(gradients, workspace);
        }
        loss
    }

    /// The loss of a batch, nothing left out and nothing learned.
    ///
    /// # Panics
    /// As [`learn`](Self::learn).
    pub fn loss(
        &mut self,
        batch: &Batch,
        (lists, smoothing): (&Lists, f32),
        workspace: &mut Workspace,
    ) -> TextLoss {
        let dropout = self.dropout.take();
        self.forward(batch, workspace);
        let loss = self.output(batch, (lists, smoothing), None, workspace);
        self.dropout = dropout;
        loss
    }
}
