//! Vectors in, nearest vectors out: the index that keeps a passage's own embedding apart from the
//! sums of its questions' embeddings, one sum a language, and fuses them while it searches.
//!
//! The score of a fused vector is linear in its parts, so the share of the questions, the choice
//! of sum or mean, and the weight of each language are settings of a search, not of the index. A
//! text never meets a network here: whoever builds an index hands in a function that encodes.

pub mod add;
mod block;
mod bounds;
pub mod build;
pub mod collapse;
pub mod error;
mod exact;
pub mod export;
pub mod fuse;
pub mod fused;
pub mod gram;
pub mod graph;
pub mod import;
pub mod index;
pub mod manifest;
pub mod merge;
mod ordered;
mod plain;
pub mod progress;
pub mod questions;
mod rescore;
pub mod resketch;
mod scan;
pub mod search;
mod share;
mod shortlist;
pub mod sketch;
pub mod stored;
pub mod top_k;
pub mod unit;
