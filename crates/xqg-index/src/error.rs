//! What can go wrong between texts, vectors and a ranking.

use std::path::PathBuf;

use xqg_data::error::DataError;

/// The error of building, opening and searching an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A file could not be read or written, or does not hold what it must.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The encoder that was handed in failed.
    #[error("encoding: {0}")]
    Encode(Box<dyn std::error::Error + Send + Sync>),
    /// An unfinished build lies there that began from other inputs or settings.
    #[error(
        "resuming {path}: expected the inputs and settings it began with, found others: {difference}\n\
         hint: --force throws the unfinished work away and starts anew"
    )]
    OtherPlan {
        /// The unfinished index.
        path: PathBuf,
        /// Which settings differ.
        difference: String,
    },
    /// A questions file that is in the index already.
    #[error(
        "adding questions to {path}: expected a file that is not in the index, \
         found that of layer {layer}\nhint: --force counts its questions once more"
    )]
    Repeated {
        /// The index.
        path: PathBuf,
        /// The layer that holds the file's questions.
        layer: u32,
    },
    /// The parts given to a merge do not make one index.
    #[error("using {path}: expected {expected}, found {found}\nhint: {hint}")]
    Parts {
        /// The part at fault.
        path: PathBuf,
        /// What fits the other parts.
        expected: String,
        /// What this part is.
        found: String,
        /// The way out.
        hint: &'static str,
    },
    /// A collapsed index was asked for what it no longer holds apart.
    #[error(
        "using {path}: expected share 0 and no weights of languages, found {found}: its questions \
         were fused with its passages when it was collapsed ({fusion})\n\
         hint: use the index that it was collapsed from"
    )]
    Collapsed {
        /// The collapsed index.
        path: PathBuf,
        /// What was asked.
        found: String,
        /// What was fused, in words.
        fusion: String,
    },
    /// The graph's library failed.
    #[error("{doing} {path}: {source}")]
    Graph {
        /// The action as a participle.
        doing: &'static str,
        /// The graph's file.
        path: PathBuf,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An index without a graph, or with one of something else.
    #[error("searching {path} approximately: expected {expected}, found {found}\nhint: {hint}")]
    NoGraph {
        /// The index.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What is there.
        found: String,
        /// The way out.
        hint: String,
    },
    /// A setting outside its range.
    #[error("{name}: expected {expected}, found {found}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// Its range.
        expected: &'static str,
        /// What was asked.
        found: String,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, IndexError>;
