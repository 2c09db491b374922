//! What can go wrong between a model folder and an embedding.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;

/// The error of opening a model and of encoding with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file of the model folder is missing or cannot be read.
    #[error("reading {path}: {source}\nhint: {hint}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// The way out.
        hint: &'static str,
    },
    /// A file of the model folder does not hold what it must.
    #[error("reading {path}: expected {expected}, found {found}")]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What a usable file holds.
        expected: String,
        /// What this one holds.
        found: String,
    },
    /// The folder does not say how token states become one vector, and neither did the user.
    #[error(
        "opening {path}: expected a pooling, found no modules.json\n\
         hint: say --pooling mean or --pooling cls, as the model's authors do"
    )]
    NoPooling {
        /// The model folder.
        path: PathBuf,
    },
    /// The weights cannot be read or do not fit the configuration.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Laid-out weights beside the model lack something; the model's own files have it.
    #[error("reading laid-out weights: expected {name}, found none")]
    NotPacked {
        /// The array.
        name: String,
    },
    /// A length beyond what the position embeddings reach.
    #[error("opening {path}: expected at most {limit} tokens, found {asked}\nhint: {hint}")]
    TooLong {
        /// The model folder.
        path: PathBuf,
        /// The most tokens that the model can read.
        limit: usize,
        /// The asked number.
        asked: usize,
        /// The way out.
        hint: &'static str,
    },
    /// Passages were given to a network that learned to encode queries only.
    #[error(
        "encoding passages: expected a model of passages, found {model}, which encodes queries only\n\
         hint: index with the model that it was trained against, and search with this one (--model)"
    )]
    QueriesOnly {
        /// The model's name.
        model: String,
    },
    /// The tokenizer failed on a text.
    #[error("tokenizing text {index}: {source}")]
    Tokenize {
        /// The text's place in the batch, from 0.
        index: usize,
        /// What the tokenizer said.
        source: crate::tokenizer::TokenizeError,
    },
    /// The tokenizer gave a token that the embeddings do not have.
    #[error("tokenizing text {index}: expected {expected}, found {found}")]
    Token {
        /// The text's place in the batch, from 0.
        index: usize,
        /// What a fitting tokenizer gives.
        expected: String,
        /// What this one gave.
        found: String,
    },
    /// Another artefact's contract or file; its message says all.
    #[error(transparent)]
    Data(#[from] xqg_data::error::DataError),
    /// A shared-encoder generator without the encoder whose states it reads.
    #[error(
        "opening {path}: expected the encoder that the generator reads with, found none\n\
         hint: it was made for {model}; name that model's folder"
    )]
    NoEncoder {
        /// The generator's folder.
        path: PathBuf,
        /// The encoder's name.
        model: String,
    },
    /// A language that the generator does not write.
    #[error("writing questions: expected languages among {expected}, found {found}")]
    Language {
        /// The languages that it writes.
        expected: String,
        /// The one asked for.
        found: String,
    },
    /// A way of decoding that makes no sense.
    #[error("writing questions: {what}: expected {expected}, found {found}")]
    Decoding {
        /// The setting.
        what: &'static str,
        /// What makes sense.
        expected: String,
        /// What was asked for.
        found: String,
    },
    /// A generator that reads with an encoder of its own was asked for the retriever's embeddings.
    #[error(
        "encoding passages by a generator: expected a shared-encoder generator, found {found}\n\
         hint: encode the passages with the retriever, and write questions apart"
    )]
    OwnEncoder {
        /// The kind of generator.
        found: &'static str,
    },
}
