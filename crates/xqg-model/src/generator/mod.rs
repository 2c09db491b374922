//! Text to questions: generators that read a passage and write questions about it in the languages
//! asked for. There are two kinds on one decoding core: a decoder over the frozen retriever's own token
//! states (the shared-encoder generator), and T5 and mT5, which bring their encoder and are told the
//! language by a prompt.
//!
//! What a question says depends on the passage, its docid, the
//! language, the sample's number and the seed, never on what is written beside it: random numbers
//! are counted, not streamed, and the kernels give a row the same bits in any batch.

mod attend;
mod batch;
mod beam;
mod choose;
mod core;
mod decoder;
mod distances;
mod likelihood;
mod output;
pub(crate) mod pieces;
mod shared;
mod source;
mod t5;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xqg_kernel::isa::Isa;

pub use self::likelihood::{Candidates, Likelihoods};
use self::shared::Shared;
use self::t5::T5;
pub use self::t5::prompt;
use crate::config::read_json;
use crate::encoder::{Encoded, Encoder};
use crate::error::ModelError;
use crate::linear::Precision;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The likeliest token each time. All samples of a language are the same, so only one is made.
    Greedy,
    /// A token drawn from the likeliest ones.
    Sample {
        /// Only so many of the likeliest tokens are kept; 0 keeps all.
        top_k: usize,
        /// Only the likeliest tokens that have together at least this probability are kept; 1 keeps
        /// all.
        top_p: f32,
        /// The scores are divided by it before tokens are kept and drawn; 1 changes nothing.
        temperature: f32,
    },
    /// The best of so many hypotheses kept side by side, as transformers' `generate` with length
    /// penalty 1 and `early_stopping=False`.
    Beam {
        /// Hypotheses that are kept.
        width: usize,
    },
}

/// How questions are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decoding {
    /// Questions for each passage and language.
    pub n: usize,
    /// The choice of tokens.
    pub method: Method,
    /// The most tokens of a question, the end token counted.
    pub max_tokens: usize,
    /// Decides every draw.
    pub seed: u64,
    /// Whether only tokens that the language may write are scored at all.
    pub shortlist: bool,
}

impl Default for Decoding {
    /// The paper's setting: 5 questions by top-10 sampling (Zhuang et al. 2023, section 4).
    fn default() -> Self {
        let method = Method::Sample { top_k: 10, top_p: 1.0, temperature: 1.0 };
        Self { n: 5, method, max_tokens: 32, seed: 1, shortlist: true }
    }
}

/// A question that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its language: the one asked for; whether it is written in it is for a filter to find.
    pub lang: Lang,
    /// The text.
    pub text: String,
    /// The natural logarithm of its probability, end token included: the softmax is over all tokens
    /// that were allowed, before temperature, top-k and top-p.
    pub logprob: f32,
    /// Its tokens, the end token not counted.
    pub tokens: usize,
    /// Whether it reached the greatest length without an end.
    pub cut: bool,
}

/// The questions of one passage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// Languages in the order asked for, each with its samples in order.
    pub questions: Vec<Question>,
    /// Whether the passage was cut to the greatest length.
    pub truncated: bool,
}

/// What a user may say about a generator beyond what its folder says.
#[derive(Debug, Clone, Default)]
pub struct GeneratorOptions {
    /// The retriever's encoder: a shared-encoder generator reads its token states.
    pub encoder: Option<Arc<Encoder>>,
    /// The arithmetic of the linear layers.
    pub precision: Precision,
    /// The kernels; by default the best of this machine.
    pub isa: Option<Isa>,
    /// For a generator with an encoder of its own: the most tokens of a passage and the prompt before
    /// it; by default 192.
    pub passage_max_tokens: Option<usize>,
    /// Whether weights, once laid out, are kept beside the model for the next time.
    pub keep_packed: bool,
}

/// A model that writes questions.
#[derive(Debug)]
pub struct Generator {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Shared(Box<Shared>),
    T5(Box<T5>),
}

impl Generator {
    /// Opens a generator's folder.
    ///
    /// # Errors
    /// When a file is missing, damaged or of an unknown kind; when it reads the states of an encoder
    /// that is not the one in `options`.
    pub fn open(folder: &Path, options: &GeneratorOptions) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config: serde_json::Value = read_json(&path)?;
        let kind = match config["model_type"].as_str() {
            Some("xqg-decoder") => Kind::Shared(Box::new(Shared::open(folder, options)?)),
            Some("t5" | "mt5") => Kind::T5(Box::new(T5::open(folder, options)?)),
            other => {
                return Err(ModelError::Unexpected {
                    path,
                    expected: "a generator of model_type xqg-decoder, t5 or mt5".to_owned(),
                    found: other.unwrap_or("no model_type").to_owned(),
                });
            }
        };
        Ok(Self { kind })
    }

    /// The languages that it was made for; `None` where the model does not tell.
    pub fn languages(&self) -> Option<&[Lang]> {
        match &self.kind {
            Kind::Shared(shared) => Some(&shared.langs),
            Kind::T5(_) => None,
        }
    }

    /// Refuses what [`Generator::write`] would refuse, before there is a passage.
    ///
    /// # Errors
    /// When a language is not the model's, or the way of decoding makes no sense.
    pub fn check(&self, langs: &[Lang], how: &Decoding) -> Result<(), ModelError> {
        match &self.kind {
            Kind::Shared(shared) => {
                shared.core.check(langs, how)?;
                shared.spoken(langs).map(drop)
            }
            Kind::T5(t5) => t5.core.check(langs, how),
        }
    }

    /// Questions about passages, one [`Written`] for each passage, in their order.
    ///
    /// # Errors
    /// When a language is not the model's, the way of decoding makes no sense, or the tokenizer does
    /// not fit the network.
    pub fn write(
        &self,
        passages: &[Passage],
        langs: &[Lang],
        how: &Decoding,
    ) -> Result<Vec<Written>, ModelError> {
        let t5 = match &self.kind {
            Kind::Shared(_) => return Ok(self.encode_and_write(passages, langs, how)?.1),
            Kind::T5(t5) => t5,
        };
        t5.core.check(langs, how)?;
        let spoken = t5.spoken(langs, how.shortlist);
        let finished = t5.core.run(&**t5, passages, &spoken, how)?;
        Ok(finished.chunks(langs.len()).map(|jobs| t5.core.written(langs, jobs)).collect())
    }

    /// How likely questions are for their passages, one [`Likelihoods`] for each question, in their order; the
    /// same numbers whatever is asked beside it.
    ///
    /// # Errors
    /// When a language is not the model's, or the tokenizer does not fit the network.
    pub fn likelihoods(&self, asked: &[Candidates]) -> Result<Vec<Likelihoods>, ModelError> {
        let all = asked.par_iter().enumerate();
        match &self.kind {
            Kind::Shared(shared) => {
                let tokenizer = shared.tokenizer()?;
                let judge = |(index, one): (usize, &Candidates)| {
                    let spoken = shared.spoken(&[one.lang])?[0];
                    let tokens = shared.tokens(&tokenizer, (index, one.question))?;
                    shared.core.likelihoods(&**shared, one.passages, spoken, tokens)
                };
                all.map(judge).collect()
            }
            Kind::T5(t5) => {
                let judge = |(index, one): (usize, &Candidates)| {
                    let spoken = t5.spoken(&[one.lang], false)[0];
                    let tokens = t5.tokens(index, one.question)?;
                    t5.core.likelihoods(&**t5, one.passages, spoken, tokens)
                };
                all.map(judge).collect()
            }
        }
    }

    /// The passages' embeddings and their questions by one pass of the encoder; for a shared-encoder
    /// generator only.
    ///
    /// # Errors
    /// As [`Generator::write`], and for a generator with an encoder of its own.
    pub fn encode_and_write(
        &self,
        passages: &[Passage],
        langs: &[Lang],
        how: &Decoding,
    ) -> Result<(Encoded, Vec<Written>), ModelError> {
        let Kind::Shared(shared) = &self.kind else {
            return Err(ModelError::OwnEncoder { found: "a T5" });
        };
        shared.core.check(langs, how)?;
        let spoken = shared.spoken(langs)?;
        let finished = shared.core.run(&**shared, passages, &spoken, how)?;
        let encoded = Encoded {
            vectors: finished.iter().flat_map(|f| &f.embedding).copied().collect(),
            tokens: finished.iter().map(|f| f.tokens).sum(),
            truncated: finished.iter().filter(|f| f.truncated).count(),
        };
        let written = finished.chunks(1).map(|jobs| shared.core.written(langs, jobs)).collect();
        Ok((encoded, written))
    }
}
