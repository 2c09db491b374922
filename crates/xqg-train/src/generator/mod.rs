//! Training a generator of questions: a decoder over the frozen retriever's token states.
//!
//! The way through: [`config`] says what is asked, [`rows`] reads the tasks, [`vocabulary`] keeps the
//! tokens that their questions are made of, [`memories`] computes what the encoder says about every
//! source, once; [`sampler`] draws, [`trainer`] learns, [`folder`] writes what a program opens.

pub mod config;
pub mod folder;
pub mod memories;
pub mod rows;
pub mod sampler;
pub mod trainer;
pub mod vocabulary;
