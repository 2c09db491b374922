//! What can go wrong while a network is opened, trained and saved.

use std::path::PathBuf;

use xqg_data::error::DataError;
use xqg_model::checkpoint::CheckpointError;
use xqg_model::error::ModelError;

/// The error of training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The base model cannot be opened.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its weights cannot be read or do not fit.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Training data cannot be read, or an output not be written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The tensor library or its device refuses.
    #[error(
        "computing on the device: {0}\n\
         hint: where its memory is full, a smaller batch.chunk_tokens gives the same gradient"
    )]
    Device(#[from] candle_core::Error),
    /// There is no such device.
    #[error("opening the device cuda:{number}: expected {expected}, found {found}\nhint: {hint}")]
    NoDevice {
        /// The GPU's number.
        number: usize,
        /// What it takes.
        expected: &'static str,
        /// What is there.
        found: String,
        /// The way out.
        hint: &'static str,
    },
    /// A file or folder holds something else than it must.
    #[error("reading {}: expected {expected}, found {found}\nhint: {hint}", path.display())]
    Unexpected {
        /// The file or folder.
        path: PathBuf,
        /// What it must hold.
        expected: String,
        /// What it holds.
        found: String,
        /// The way out.
        hint: &'static str,
    },
    /// A setting that cannot be meant.
    #[error("setting {name}: expected {expected}, found {found}")]
    Setting {
        /// The setting's name in the configuration.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The loss is no number any more; the last saved state is good.
    #[error(
        "training step {step}: expected a finite loss, found {loss} with the queries {queries}\n\
         hint: the saved state and the best model are from before this step; look at these rows and \
         start the same command again, or lower the learning rate and begin anew in another `out`"
    )]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// What came out.
        loss: f64,
        /// The first queries of the batch.
        queries: String,
    },
    /// A batch that the memory cannot hold.
    #[error(
        "planning the batch: expected at most {limit} MB of memory, found {needed} MB needed\n\
         hint: {hint}"
    )]
    Memory {
        /// Memory that may be used.
        limit: u64,
        /// Memory that the first step would use.
        needed: u64,
        /// The settings that would fit.
        hint: String,
    },
}
