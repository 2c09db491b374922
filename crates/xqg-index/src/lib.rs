//! Vectors in, nearest vectors out: the index that keeps a passage's own embedding apart from the
//! sums of its questions' embeddings, one sum a language, and fuses them while it searches.
//!
//! The score of a fused vector is linear in its parts, so the share of the questions, the choice
//! of sum or mean, and the weight of each language are settings of a search, not of the index. A
//! text never meets a network here: whoever builds an index hands in a function that encodes.

pub mod add;
pub mod build;
pub mod error;
pub mod fuse;
pub mod import;
pub mod index;
pub mod manifest;
pub mod merge;
pub mod progress;
pub mod questions;
pub mod search;
pub mod top_k;
pub mod unit;
