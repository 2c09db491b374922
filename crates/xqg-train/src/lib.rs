//! Training: encoders with gradients, losses, optimiser and trainer.
//!
//! The way through: [`config`] says what is asked, [`folder`] opens the base model, [`examples`] reads
//! the rows, [`sampler`] draws from them and [`batch`] lays out what a step sees. [`network`] turns
//! texts into embeddings and gradients of embeddings into gradients of [`parameters`]; [`cache`] does
//! so in chunks; [`loss`] stands between. [`engine`] is one network on the processor or a device, [`towers`] one
//! step of all that, [`optimiser`] what follows it, and [`trainer`] the loop with its [`state`], [`log`] and [`validate`]. [`prune`] makes a vocabulary small.
//! [`composed`] holds networks of candle's operations: T5 and mT5, and the encoders on a GPU.

pub mod batch;
pub mod cache;
pub mod card;
pub mod composed;
pub mod config;
pub mod corpus;
pub mod decoder;
pub mod engine;
pub mod error;
pub mod examples;
pub mod folder;
pub mod generator;
pub mod gradients;
pub(crate) mod layers;
pub mod log;
pub mod loss;
pub mod material;
pub mod memory;
pub mod network;
pub mod optimiser;
pub mod parameters;
pub mod prune;
pub mod sampler;
pub mod state;
pub mod towers;
pub mod trainer;
pub mod validate;
