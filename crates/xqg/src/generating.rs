//! Generating: for each passage questions in the readers' languages, by whatever writes them. It
//! joins models, an index and the network, so it lives in the binary.
//!
//! `writer` says what writes questions; `neural` is a generator, `bank` finds them in a log of real ones, `endpoint` has a
//! language model behind HTTP write them. `gate` judges what was written and `round_trip` asks
//! the retriever; `work` goes through the passages in work units, which `crate::units` keeps on disk,
//! and `counts` adds up by language.

pub mod bank;
pub mod counts;
pub mod endpoint;

pub mod gate;
pub mod judged;
pub mod language;
pub mod neural;
pub mod place;
pub mod round_trip;
pub mod work;
pub mod writer;
