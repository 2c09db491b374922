//! Training: the encoder with gradients, losses, optimiser and trainer.
//!
//! The way through: [`network`] turns texts into embeddings and gradients of embeddings into
//! gradients of [`parameters`].

pub mod cache;
pub mod error;
pub mod gradients;
pub mod loss;
pub mod network;
pub mod optimiser;
pub mod parameters;
