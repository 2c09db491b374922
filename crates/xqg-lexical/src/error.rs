//! What can go wrong between passages and a ranking by words.

use std::path::PathBuf;

use xqg_data::error::DataError;

/// The error of building, opening and searching a lexical index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LexicalError {
    /// A passages file could not be read, or a folder not be made.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The search engine failed: as a rule the disk did.
    #[error(
        "{doing} {path}: {source}\nhint: if the disk is full, free some space and run the same command again"
    )]
    Engine {
        /// The action as a participle, for example `searching`.
        doing: &'static str,
        /// The index folder.
        path: PathBuf,
        /// What the engine said.
        source: Box<tantivy::TantivyError>,
    },
    /// The folder holds no finished index, or not one of ours.
    #[error(
        "opening {path}: expected {expected}, found {found}\nhint: remove the folder and build it again"
    )]
    Damaged {
        /// The index folder.
        path: PathBuf,
        /// What a sound index has.
        expected: String,
        /// What this one has.
        found: String,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, LexicalError>;
