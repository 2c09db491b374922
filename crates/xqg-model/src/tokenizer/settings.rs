//! What a unigram tokenizer does besides its tables: how text becomes words, which tokens are found
//! before that, and what stands around the ids.

use serde::{Deserialize, Serialize};

/// The small part of a tokenizer; the large one are its [tables](super::tables).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How a text becomes the words that are segmented.
    pub words: Words,
    /// Tokens that are found in the text as it is.
    pub added: Vec<Added>,
    /// Tokens that are found in the text as it is after normalising.
    pub added_normalized: Vec<Added>,
    /// Ids before a text.
    pub front: Vec<u32>,
    /// Ids after a text.
    pub back: Vec<u32>,
    /// The id of what is in no piece.
    pub unknown: u32,
    /// The score of one unknown character.
    pub unknown_score: f64,
    /// The ids of the 256 bytes, for models that spell out what they do not know; else empty.
    pub bytes: Vec<u32>,
}

/// How a text becomes words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Words {
    /// As a `tokenizer.json` says.
    Json {
        /// The normalizer's steps.
        steps: Vec<Step>,
        /// The pre-tokenizer.
        split: Split,
    },
    /// As SentencePiece does: the whole text is one word.
    Spiece(Spiece),
}

/// One step of normalising.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Characters by the charsmap.
    Charsmap,
    /// White space off the left or the right end.
    Strip {
        /// Off the left end.
        left: bool,
        /// Off the right end.
        right: bool,
    },
    /// A string for each place where another one is.
    Replace {
        /// What is looked for.
        pattern: String,
        /// What comes instead.
        content: String,
    },
    /// A string for each run of two or more spaces.
    Spaces {
        /// What comes instead.
        content: String,
    },
}

/// How normalised text is split: at white space if `whitespace`, then as Metaspace does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Whether white space parts words and is lost.
    pub whitespace: bool,
    /// What stands for a space: `▁`.
    pub marker: String,
    /// Where a marker is put in front.
    pub prepend: Prepend,
    /// Whether each marker begins a new word.
    pub split: bool,
}

/// Where Metaspace puts a marker in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prepend {
    /// Wherever none is.
    Always,
    /// At the beginning of the text.
    First,
    /// Nowhere.
    Never,
}

/// What a SentencePiece model says about white space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spiece {
    /// Whether a space is put before the text, or after it.
    pub dummy: bool,
    /// Whether spaces at the ends go, and one stands for many.
    pub squeeze: bool,
    /// Whether `▁` stands for a space.
    pub escape: bool,
    /// Whether the marker ends a word rather than begins it.
    pub suffix: bool,
    /// Pieces that are kept from normalising.
    pub user: Vec<String>,
}

/// A token that is found in text before anything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// What is looked for.
    pub content: String,
    /// Its id.
    pub id: u32,
    /// Whether it takes the white space before it.
    pub lstrip: bool,
    /// Whether it takes the white space after it.
    pub rstrip: bool,
}
