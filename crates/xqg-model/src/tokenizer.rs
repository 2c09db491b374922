//! Text to token ids, by the model's own `tokenizer.json`. Truncation happens here, so that it can
//! be counted: a text that is cut says so.

use std::path::Path;

use tokenizers::{Tokenizer as Inner, TruncationDirection};

use crate::error::ModelError;

/// Why a tokenizer refuses a text.
pub type TokenizeError = tokenizers::Error;

/// A tokenizer with its special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    special: usize,
    hash: String,
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
    /// Opens `tokenizer.json` of a model folder.
    ///
    /// # Errors
    /// When the file is missing or no tokenizer.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| ModelError::Io {
            path: path.clone(),
            source,
            hint: "the folder needs a tokenizer.json; transformers' save_pretrained writes one",
        })?;
        let unexpected = |found: String| ModelError::Unexpected {
            path: path.clone(),
            expected: "a tokenizer of the tokenizers library".to_owned(),
            found,
        };
        let mut inner = Inner::from_bytes(&bytes).map_err(|e| unexpected(e.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| unexpected(e.to_string()))?;
        let probe = inner.encode_fast("", true).map_err(|e| unexpected(e.to_string()))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        Ok(Self { inner, special: probe.len(), hash })
    }

    /// The blake3 hash of the tokenizer file, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The tokens of a text, prefix first, cut to `max_tokens` special tokens included.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode_one(
        &self,
        prefix: &str,
        text: &str,
        max_tokens: usize,
    ) -> Result<Tokens, TokenizeError> {
        let mut encoding = self.inner.encode_fast([prefix, text].concat(), false)?;
        let room = max_tokens.saturating_sub(self.special);
        let truncated = encoding.len() > room;
        if truncated {
            encoding.truncate(room, 0, TruncationDirection::Right);
        }
        let framed = self.inner.post_process(encoding, None, true)?;
        Ok(Tokens { ids: framed.get_ids().to_vec(), truncated })
    }
}
