//! Training a generator of questions: a decoder over the frozen retriever's token states, or a T5.
//!
//! The way through: [`config`] says what is asked, [`rows`] reads the tasks, [`vocabulary`] keeps the
//! tokens that their questions are made of, [`memories`] computes what the encoder says about every
//! source, once; [`sampler`] draws, [`trainer`] learns, [`folder`] writes what a program opens. [`t5`]
//! learns from the same rows with prompts in place of memories; [`run`] is the loop of both.

pub mod config;
pub mod folder;
pub mod memories;
pub mod rows;
pub mod run;
pub mod sampler;
pub mod t5;
pub mod trainer;
pub mod vocabulary;
