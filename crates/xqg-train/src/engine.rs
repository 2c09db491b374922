//! One network that learns, on whichever engine computes it: the processor's kernels written by hand
//! ([`crate::network`]) or candle's operations on a device ([`crate::composed`]). What calls it need
//! not know which.

use crate::cache::{Chunks, Encoded};
use crate::composed::device::Opened;
use crate::composed::learner::{Learner, Tape};
use crate::error::TrainError;
use crate::gradients::Gradients;
use crate::network::Encoder;
use crate::network::pass::{Keep, Text, Workspace};
use crate::optimiser::{AdamW, Optimiser};

/// Texts that are encoded at once where nothing is kept.
const AT_ONCE: usize = 256;

/// One network that learns.
#[derive(Debug)]
pub struct Tower {
    /// The network. On a device its parameters are those of the last [`Tower::to_host`].
    pub encoder: Encoder,
    /// What changes its parameters; its moments as the network's parameters.
    pub optimiser: Optimiser,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Kernels(Gradients),
    Composed(Box<Learner>),
}

/// Texts that were encoded, and what the way back needs of them.
#[derive(Debug)]
pub(crate) struct Passed {
    /// One row for each text.
    pub embeddings: Vec<f32>,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Kernels(Encoded),
    Composed(Option<Tape>),
}

impl Tower {
    /// A network that has not learned yet, on the processor.
    pub fn new(encoder: Encoder, settings: AdamW) -> Self {
        let optimiser = Optimiser::new(settings, &encoder.parameters);
        let engine = Engine::Kernels(Gradients::zeros(&encoder.parameters));
        Self { encoder, optimiser, engine }
    }

    /// Goes to a device, with what it has learned so far.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn place(&mut self, device: &Opened) -> Result<(), TrainError> {
        let learner = Learner::new(&self.encoder, &self.optimiser, device)?;
        self.engine = Engine::Composed(Box::new(learner));
        Ok(())
    }

    /// Encodes texts, to come back.
    pub(crate) fn encode(
        &self,
        texts: &[Text],
        chunks: Chunks,
        workspace: &mut Workspace,
    ) -> Result<Passed, TrainError> {
        match &self.engine {
            Engine::Kernels(_) => {
                let mut encoded = chunks.encode(&self.encoder, texts, workspace);
                let embeddings = std::mem::take(&mut encoded.embeddings);
                Ok(Passed { embeddings, kept: Kept::Kernels(encoded) })
            }
            Engine::Composed(learner) => {
                let (embeddings, tape) = learner.encode(&self.encoder, texts, chunks)?;
                Ok(Passed { embeddings, kept: Kept::Composed(tape) })
            }
        }
    }

    /// Adds the gradients of the parameters, given that of each embedding.
    pub(crate) fn back(
        &mut self,
        (texts, passed): (&[Text], Passed),
        grad: &[f32],
        chunks: Chunks,
        workspace: &mut Workspace,
    ) -> Result<(), TrainError> {
        match (&mut self.engine, passed.kept) {
            (Engine::Kernels(gradients), Kept::Kernels(encoded)) => {
                chunks.back(&self.encoder, (texts, encoded), grad, gradients, workspace);
                Ok(())
            }
            (Engine::Composed(learner), Kept::Composed(tape)) => {
                learner.back(&self.encoder, (texts, tape), grad, chunks)
            }
            _ => unreachable!("a tower changes its engine between steps only"),
        }
    }

    /// The embeddings of texts, nothing left out, and nothing kept but the states of `tokens` tokens.
    pub(crate) fn embed(
        &mut self,
        (texts, tokens): (&[Text], usize),
        workspace: &mut Workspace,
    ) -> Result<Vec<f32>, TrainError> {
        let dropout = self.encoder.dropout.take();
        let mut embeddings = Vec::new();
        for part in texts.chunks(AT_ONCE) {
            let chunks = Chunks { tokens, keep: Keep::Nothing };
            match self.encode(part, chunks, workspace) {
                Ok(passed) => embeddings.extend(self.forget(passed, workspace)),
                Err(error) => {
                    self.encoder.dropout = dropout;
                    return Err(error);
                }
            }
        }
        self.encoder.dropout = dropout;
        Ok(embeddings)
    }

    /// The embeddings alone; the memory behind them can be used again.
    fn forget(&self, passed: Passed, workspace: &mut Workspace) -> Vec<f32> {
        if let Kept::Kernels(Encoded { pass: Some(pass), .. }) = passed.kept {
            workspace.recycle(pass);
        }
        passed.embeddings
    }

    /// The gradients that were added, place by place as the parameters; none for frozen ones.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        match &self.engine {
            Engine::Kernels(gradients) => {
                let all = gradients.0.iter().zip(&self.encoder.parameters.0);
                Ok(all.map(|(gradient, p)| gradient.whole(p.values.len())).collect())
            }
            Engine::Composed(learner) => learner.gradients(),
        }
    }

    /// The sum of the squares of all gradients that were added.
    pub(crate) fn squares(&self) -> Result<f64, TrainError> {
        match &self.engine {
            Engine::Kernels(gradients) => Ok(gradients.norm().powi(2)),
            Engine::Composed(learner) => learner.squares(),
        }
    }

    /// Changes all parameters by the gradients, and forgets these.
    pub(crate) fn step(&mut self, norm: f64, rate: f64) -> Result<(), TrainError> {
        match &mut self.engine {
            Engine::Kernels(gradients) => {
                self.optimiser.step_of_norm(&mut self.encoder.parameters, gradients, (norm, rate));
                gradients.clear();
                Ok(())
            }
            Engine::Composed(learner) => {
                learner.step(&self.encoder, &mut self.optimiser, (norm, rate))
            }
        }
    }

    /// Waits until a device has done all that it was asked.
    pub(crate) fn wait(&self) -> Result<(), TrainError> {
        match &self.engine {
            Engine::Kernels(_) => Ok(()),
            Engine::Composed(learner) => learner.wait(),
        }
    }

    /// Brings what was learned to where it is saved from.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn to_host(&mut self) -> Result<(), TrainError> {
        match &self.engine {
            Engine::Kernels(_) => Ok(()),
            Engine::Composed(learner) => learner.to_host(&mut self.encoder, &mut self.optimiser),
        }
    }
}
