//! A decoder that learns, on whichever engine computes it: the processor's kernels written by hand
//! ([`crate::decoder`]) or candle's operations on a device ([`crate::composed::decoder`]).

use crate::composed::decoder::Learner;
use crate::composed::device::Opened;
use crate::decoder::{Batch, Decoder, Lists, TextLoss, Workspace};
use crate::error::TrainError;
use crate::gradients::Gradients;
use crate::optimiser::{AdamW, Optimiser};

/// One decoder that learns.
#[derive(Debug)]
pub struct LearningDecoder {
    /// The decoder. On a device its parameters are those of the last [`LearningDecoder::to_host`].
    pub decoder: Decoder,
    /// What changes its parameters.
    pub optimiser: Optimiser,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Kernels { gradients: Gradients, workspace: Box<Workspace> },
    Composed(Box<Learner>),
}

impl LearningDecoder {
    /// A decoder that has not learned yet, on the processor.
    pub fn new(decoder: Decoder, settings: AdamW) -> Self {
        let optimiser = Optimiser::new(settings, &decoder.parameters);
        let gradients = Gradients::zeros(&decoder.parameters);
        Self {
            decoder,
            optimiser,
            engine: Engine::Kernels { gradients, workspace: Box::default() },
        }
    }

    /// Goes to a device, with what it has learned so far.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn place(&mut self, device: &Opened) -> Result<(), TrainError> {
        let learner = Learner::new(&self.decoder, &self.optimiser, device)?;
        self.engine = Engine::Composed(Box::new(learner));
        Ok(())
    }

    /// Adds the gradients of a batch's mean loss over its tokens; returns the loss.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn learn(
        &mut self,
        batch: &Batch,
        settings: (&Lists, f32),
    ) -> Result<TextLoss, TrainError> {
        match &mut self.engine {
            Engine::Kernels { gradients, workspace } => {
                Ok(self.decoder.learn(batch, settings, gradients, workspace))
            }
            Engine::Composed(learner) => learner.learn(&self.decoder, batch, settings),
        }
    }

    /// The loss of a batch, nothing left out and nothing learned.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn loss(&mut self, batch: &Batch, lists: &Lists) -> Result<TextLoss, TrainError> {
        let dropout = self.decoder.dropout.take();
        let loss = match &mut self.engine {
            Engine::Kernels { workspace, .. } => {
                Ok(self.decoder.loss(batch, (lists, 0.0), workspace))
            }
            Engine::Composed(learner) => learner.loss(&self.decoder, batch, (lists, 0.0)),
        };
        self.decoder.dropout = dropout;
        loss
    }

    /// The length of all gradients that were added.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn norm(&self) -> Result<f64, TrainError> {
        match &self.engine {
            Engine::Kernels { gradients, .. } => Ok(gradients.norm()),
            Engine::Composed(learner) => Ok(learner.squares()?.sqrt()),
        }
    }

    /// The gradients that were added, place by place.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        match &self.engine {
            Engine::Kernels { gradients, .. } => {
                Ok(gradients.0.iter().map(|gradient| gradient.kept().to_vec()).collect())
            }
            Engine::Composed(learner) => learner.gradients(),
        }
    }

    /// Changes all parameters by the gradients, and forgets these.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn step(&mut self, norm: f64, rate: f64) -> Result<(), TrainError> {
        match &mut self.engine {
            Engine::Kernels { gradients, .. } => {
                let parameters = &mut self.decoder.parameters;
                self.optimiser.step_of_norm(parameters, gradients, (norm, rate));
                gradients.clear();
                Ok(())
            }
            Engine::Composed(learner) => {
                learner.step(&self.decoder, &mut self.optimiser, (norm, rate))
            }
        }
    }

    /// Brings what was learned to where it is saved from.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn to_host(&mut self) -> Result<(), TrainError> {
        match &self.engine {
            Engine::Kernels { .. } => Ok(()),
            Engine::Composed(learner) => learner.to_host(&mut self.decoder, &mut self.optimiser),
        }
    }
}
