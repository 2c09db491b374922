//! How good a run is, and whether a difference is real.
//!
//! [`evaluate`] turns a run and its judgments, or the answers of its questions, into values for
//! each query and means for each language; [`compare`] puts runs beside a baseline with a paired
//! test, Holm's correction and an interval; [`report`] prints both. Nothing here searches, encodes
//! or writes files, and what is odd about a run comes back as a [`warning`], never on the terminal.

pub mod answer_recall;
pub mod bootstrap;
pub mod compare;
pub mod comparison;
pub mod error;
pub mod evaluate;
pub mod evaluation;
pub mod measure;
pub mod measures;
pub mod passages;
pub mod report;
pub mod resampling;
pub mod significance;
pub mod table;
pub mod warning;
pub mod words;
