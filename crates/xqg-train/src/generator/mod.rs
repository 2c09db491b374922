//! Training a generator of questions: a decoder over the frozen retriever's token states, or a T5.
//!
//! The way through: [`config`] says what is asked, [`rows`] reads the tasks, [`vocabulary`] keeps the
//! tokens that their questions are made of, [`memories`] computes what the encoder says about every
//! source, once; [`prepared`] and [`sampler`] say what a step sees, [`trainer`] learns by [`learning`],
//! [`folder`] writes what a program opens. [`t5`] learns from the same rows with prompts in place of
//! memories; [`run`] is the loop of both.

pub mod config;
pub mod event;
pub mod folder;
pub mod learning;
pub mod memories;
pub mod prepared;
pub mod rows;
pub mod run;
pub mod sampler;
pub mod t5;
pub mod trainer;
pub mod vocabulary;
