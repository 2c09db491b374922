//! Mining: for each query the passages that answer it, by distant supervision or by judgments, and
//! passages that only look as if they did. It joins an index, words and answers, which as siblings
//! do not know each other, so it lives in the binary.
//!
//! One work unit of queries after another: `unit` ranks and reads, `select` chooses, `answers`
//! says which passage holds what, `crate::units` keeps finished units on disk and resumes, `counts` adds up
//! by language.

pub mod answers;
pub mod counts;
pub mod passages;
pub mod retriever;
pub mod select;
pub mod unit;
