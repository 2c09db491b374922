//! Text to token ids, by the model's own files. Unigram models, as XLM-R, multilingual E5, BGE-M3
//! and mT5 have, are read by our own code, which keeps its tables in a mapped file; all others go
//! by the `tokenizers` crate. Truncation happens here, so that it can be counted: a text that is cut
//! says so.

mod added;
mod cached;
mod charsmap;
mod double_array;
mod json;
mod lattice;
mod normalize;
mod proto;
mod settings;
mod spiece;
mod spiece_text;
mod tables;
mod unigram;
mod words;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tokenizers::{Tokenizer as Inner, TruncationDirection};

use self::cached::Opened;
use self::spiece::Family;
use self::tables::Tables;
use self::unigram::{Borrowed, UnigramTokenizer};
use crate::error::ModelError;
use crate::generator::pieces::Piece;

/// Why a tokenizer refuses a text.
pub type TokenizeError = tokenizers::Error;

/// A tokenizer with its special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    kind: Kind,
    hash: String,
}

#[derive(Debug)]
enum Kind {
    Unigram(Box<UnigramTokenizer>),
    /// Whatever the crate reads, and how many special tokens stand around a text.
    Crate(Box<Inner>, usize),
}

/// The tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Whether tokens were cut off at the end.
    pub truncated: bool,
}

impl Tokenizer {
    /// Opens a model folder's `tokenizer.json` or, where there is none, its SentencePiece model:
    /// `sentencepiece.bpe.model` as XLM-R's, `spiece.model` as T5's and mT5's.
    ///
    /// # Errors
    /// When the file is missing or no tokenizer.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let json = folder.join("tokenizer.json");
        if !json.exists()
            && let Some((path, family)) = find_spiece(folder)?
        {
            return Self::open_spiece(&path, family);
        }
        let hint = "the folder needs a tokenizer.json; transformers' save_pretrained writes one";
        match cached::open(&json, |bytes| Ok(json::read(bytes)), io_error(&json, hint))? {
            Opened::Tables(tables) => Ok(Self::own(*tables)),
            Opened::Unknown(bytes) => Self::by_crate(&json, &bytes),
        }
    }

    fn open_spiece(path: &Path, family: Family) -> Result<Self, ModelError> {
        let unexpected = |[expected, found]: [String; 2]| ModelError::Unexpected {
            path: path.to_path_buf(),
            expected,
            found,
        };
        let read = |bytes: &[u8]| spiece::read(bytes, family).map(Some).map_err(unexpected);
        match cached::open(path, read, io_error(path, "the model cannot be used without it"))? {
            Opened::Tables(tables) => Ok(Self::own(*tables)),
            Opened::Unknown(_) => {
                let damaged =
                    ["rules of normalising and fewer than 8 million trie units", "others"];
                Err(unexpected(damaged.map(str::to_owned)))
            }
        }
    }

    fn own(tables: Tables) -> Self {
        let hash = blake3::Hash::from(tables.key.hash).to_hex().to_string();
        Self { kind: Kind::Unigram(Box::new(UnigramTokenizer::new(tables))), hash }
    }

    /// Opens the tokenizer with the `tokenizers` crate whatever its kind: what the tests compare
    /// with.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_by_crate(path: &Path) -> Result<Self, ModelError> {
        let failed = io_error(path, "name a tokenizer.json");
        Self::by_crate(path, &std::fs::read(path).map_err(failed)?)
    }

    fn by_crate(path: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let unexpected = |found: String| ModelError::Unexpected {
            path: path.to_path_buf(),
            expected: "a tokenizer of the tokenizers library".to_owned(),
            found,
        };
        let mut inner = Inner::from_bytes(bytes).map_err(|e| unexpected(e.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| unexpected(e.to_string()))?;
        let probe = inner.encode_fast("", true).map_err(|e| unexpected(e.to_string()))?;
        let hash = blake3::hash(bytes).to_hex().to_string();
        Ok(Self { kind: Kind::Crate(Box::new(inner), probe.len()), hash })
    }

    /// The blake3 hash of the tokenizer file, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether the tables are our own rather than the `tokenizers` crate's.
    pub fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Unigram(_))
    }

    /// The tokenizer for one thread and one text after another.
    pub fn session(&self) -> Session<'_> {
        Session(match &self.kind {
            Kind::Unigram(own) => Memory::Own(own.borrow()),
            Kind::Crate(inner, special) => Memory::Crate(inner, *special),
        })
    }

    /// The tokens of each text, prefix first, cut to `max_tokens` special tokens included.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub fn encode(
        &self,
        prefix: &str,
        texts: &[String],
        max_tokens: usize,
    ) -> Result<Vec<Tokens>, ModelError> {
        let encode = |session: &mut Session, (index, text): (usize, &String)| {
            let tokens = session.encode(prefix, text, max_tokens);
            tokens.map_err(|source| ModelError::Tokenize { index, source })
        };
        let texts = texts.par_iter().enumerate().with_min_len(LEAST_TEXTS);
        texts.map_init(|| self.session(), encode).collect()
    }
}

/// Texts that a thread tokenises with memory that it fetched once; fewer do not repay the fetching.
pub(crate) const LEAST_TEXTS: usize = 32;

/// A tokenizer in the hands of one thread, with memory that is used from text to text.
pub struct Session<'t>(Memory<'t>);

enum Memory<'t> {
    Own(Borrowed<'t>),
    Crate(&'t Inner, usize),
}

impl Session<'_> {
    /// The tokens of one text, prefix first, cut to `max_tokens` special tokens included.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(
        &mut self,
        prefix: &str,
        text: &str,
        max_tokens: usize,
    ) -> Result<Tokens, TokenizeError> {
        // Few scripts have fewer bytes a token.
        let some = (prefix.len() + text.len()) / 4 + 4;
        let mut ids = Vec::with_capacity(some.min(max_tokens));
        let truncated = self.encode_into(prefix, text, max_tokens, &mut ids)?;
        Ok(Tokens { ids, truncated })
    }

    /// Adds the tokens of one text to `ids`, prefix first, at most `max_tokens` of them special
    /// tokens included; whether tokens were cut off at the end.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode_into(
        &mut self,
        prefix: &str,
        text: &str,
        max_tokens: usize,
        ids: &mut Vec<u32>,
    ) -> Result<bool, TokenizeError> {
        match &mut self.0 {
            Memory::Own(own) => Ok(own.encode(&[prefix, text], max_tokens, ids)),
            Memory::Crate(inner, special) => {
                let room = max_tokens.saturating_sub(*special);
                crate_ids(inner, &[prefix, text].concat(), room, ids)
            }
        }
    }
}

fn io_error(path: &Path, hint: &'static str) -> impl FnOnce(std::io::Error) -> ModelError {
    let path = path.to_path_buf();
    move |source| ModelError::Io { path, source, hint }
}

/// What the tokens of a folder's SentencePiece model stand for, by their ids; `None` where there is
/// no such model.
///
/// # Errors
/// When it cannot be read or is damaged.
pub(crate) fn spiece_pieces(folder: &Path) -> Result<Option<Vec<Piece>>, ModelError> {
    let Some((path, family)) = find_spiece(folder)? else { return Ok(None) };
    let failed = io_error(&path, "the model cannot be used without it");
    let pieces = spiece::pieces(&std::fs::read(&path).map_err(failed)?, family);
    pieces.map(Some).ok_or_else(|| ModelError::Unexpected {
        path,
        expected: "a SentencePiece model".to_owned(),
        found: "something else, or a damaged one".to_owned(),
    })
}

/// The SentencePiece model in a folder and whose ids it means: by its name, and the kind of model
/// in `config.json`, if it is there, must be one that uses it so.
fn find_spiece(folder: &Path) -> Result<Option<(PathBuf, Family)>, ModelError> {
    let known: [(_, _, &[&str]); 2] = [
        ("sentencepiece.bpe.model", Family::XlmR, &["xlm-roberta", "xlm-roberta-xl"]),
        ("spiece.model", Family::T5, &["t5", "mt5", "umt5"]),
    ];
    let found = known.into_iter().find(|(name, ..)| folder.join(name).exists());
    let Some((name, family, kinds)) = found else { return Ok(None) };
    let config = std::fs::read(folder.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    match config["model_type"].as_str() {
        Some(kind) if !kinds.contains(&kind) => Err(ModelError::Unexpected {
            path: folder.join("config.json"),
            expected: format!("a model_type of {} beside {name}", kinds.join(", ")),
            found: format!("{kind}, whose ids are not known without a tokenizer.json"),
        }),
        _ => Ok(Some((folder.join(name), family))),
    }
}

fn crate_ids(
    inner: &Inner,
    text: &str,
    room: usize,
    ids: &mut Vec<u32>,
) -> tokenizers::Result<bool> {
    let mut encoding = inner.encode_fast(text, false)?;
    let truncated = encoding.len() > room;
    if truncated {
        encoding.truncate(room, 0, TruncationDirection::Right);
    }
    ids.extend_from_slice(inner.post_process(encoding, None, true)?.get_ids());
    Ok(truncated)
}
