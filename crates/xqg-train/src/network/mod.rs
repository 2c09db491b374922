//! A BERT or XLM-RoBERTa encoder that learns, on the CPU. Forward and backward are written by hand
//! over whole layers: texts lie end to end without padding, biases, dropout, residuals and norms are
//! joined, and only what the way back cannot cheaply make again is kept. A tape of single operations
//! takes two to three times as long.
//!
//! Texts are put into groups of some hundred tokens; a group goes through all layers on one thread.
//! Groups follow from the texts alone, so results do not depend on the number of threads.

mod attention;
mod backward;
pub(crate) mod embedding;
pub(crate) mod forward;
pub mod pass;
pub(crate) mod places;
mod pooling;
mod weights;

use std::path::Path;

use xqg_kernel::dropout::Rate;
use xqg_kernel::isa::Isa;
use xqg_model::checkpoint::Checkpoint;
use xqg_model::config::Config;
use xqg_model::recipe::Pooling;

use crate::error::TrainError;
use crate::parameters::{Parameter, Parameters};
use places::Places;

/// How token states become an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Mean or first token.
    pub pooling: Pooling,
    /// Whether embeddings are scaled to length one.
    pub normalize: bool,
}

/// What is left out while learning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Of the states: after the embeddings, the attention and the feed-forward part.
    pub hidden: Rate,
    /// Of the attention's probabilities.
    pub attention: Rate,
}

impl Dropout {
    /// Nothing is left out, as in encoding.
    pub const NONE: Option<Self> = None;
}

/// An encoder with its parameters.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// The parameters, by their published names.
    pub parameters: Parameters,
    /// What is left out in forward passes; nothing where it is `None`.
    pub dropout: Option<Dropout>,
    config: Config,
    head: Head,
    places: Places,
    isa: Isa,
    extra: Vec<Parameter>,
}

impl Encoder {
    /// Loads the weights that `config` asks for. Others (a pooler, a language-model head) are kept as
    /// they are and written back.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or holds a number that is not finite.
    pub fn load(checkpoint: &Checkpoint, config: Config, head: Head) -> Result<Self, TrainError> {
        let mut parameters = Parameters::default();
        let places = Places::load(checkpoint, &config, &mut parameters)?;
        let extra = places::others(checkpoint, &parameters)?;
        let isa = Isa::detect();
        Ok(Self { parameters, dropout: None, config, head, places, isa, extra })
    }

    /// The shape of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How token states become an embedding.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Where each part's parameters stand.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Stops the training of the word, position and type embeddings.
    pub fn freeze_embeddings(&mut self) {
        self.places.freeze_embeddings(&mut self.parameters);
    }

    /// Writes the weights under the names they were read by: whole or not at all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        self.parameters.write(path, &self.extra)
    }
}
