//! Text to vectors, on the CPU: model folders, tokenizer, checkpoint, and the BERT and XLM-RoBERTa
//! encoders with the contract that every embedding carries.
//!
//! Nothing here knows an index or a measure. The way through: [`get`] fetches a folder,
//! [`recipe`] and [`config`] read what it is, [`checkpoint`] its weights, [`tokenizer`] makes ids,
//! `network` turns them into token states, and [`encoder`] into embeddings. The arithmetic is
//! `xqg-kernel`'s.

mod attention;
mod buffer;
pub mod checkpoint;
pub mod config;
pub mod encoder;
pub mod error;
pub mod generator;
pub mod get;
pub mod linear;
mod network;
mod packed;
pub mod recipe;
pub mod scripts;
pub mod t5_config;
pub mod tokenizer;
mod weights;
