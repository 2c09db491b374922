//! The nouns of cross-lingual retrieval, and how they lie on disk.
//!
//! Every verb of `xqg` reads files of this crate and writes files of this crate: passages and
//! queries as JSON lines, generated queries, qrels, TREC runs, embeddings as `.npy` shards with a
//! manifest. Nothing here encodes, searches or measures. A file that a person may have written is
//! read with care: each bad line is named with its number, what was expected and what stood there.

pub mod contract;
pub mod embeddings;
pub mod error;
pub mod file;
pub mod fvecs;
pub mod generated;
pub mod lang;
pub mod lines;
pub mod map;
pub mod npy;
pub mod passage;
pub mod qrels;
pub mod query;
pub mod question_log;
pub mod run;
pub mod training;
pub mod translations;
pub mod vectors;
