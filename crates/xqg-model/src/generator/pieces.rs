//! Tokens back to text: the pieces of a tokenizer by their ids, `▁` as the space that it stands for,
//! special tokens left out, bytes put together.

use std::path::Path;

use serde::Deserialize;
use tokenizers::Tokenizer as Crate;

use crate::error::ModelError;
use crate::tokenizer::spiece_pieces;

/// What one token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text, in which `▁` is a space.
    Text(String),
    /// One byte of a character that is in no piece.
    Byte(u8),
    /// Nothing that is shown.
    Special,
}

/// The pieces by their ids.
#[derive(Debug)]
pub(crate) enum Pieces {
    /// A unigram tokenizer's.
    Own(Vec<Piece>),
    /// Whatever the tokenizers crate knows to decode.
    Crate(Box<Crate>),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vec<(String, f64)>,
    #[serde(default)]
    unk_id: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
}

impl Pieces {
    /// The pieces of a folder's tokenizer: `tokenizer.json`, else `spiece.model`.
    ///
    /// # Errors
    /// When there is neither, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let json = folder.join("tokenizer.json");
        if !json.exists()
            && let Some(pieces) = spiece_pieces(folder)?
        {
            return Ok(Self::Own(pieces));
        }
        let hint = "the folder needs a tokenizer.json or a spiece.model";
        let failed = |source| ModelError::Io { path: json.clone(), source, hint };
        let bytes = std::fs::read(&json).map_err(failed)?;
        if let Ok(file) = serde_json::from_slice::<File>(&bytes) {
            return Ok(Self::Own(file.pieces()));
        }
        let inner = Crate::from_bytes(&bytes).map_err(|e| ModelError::Unexpected {
            path: json.clone(),
            expected: "a tokenizer of the tokenizers library".to_owned(),
            found: e.to_string(),
        })?;
        Ok(Self::Crate(Box::new(inner)))
    }

    /// Whether a token stands for no text.
    pub fn is_special(&self, id: u32) -> bool {
        match self {
            Self::Own(pieces) => pieces.get(id as usize) == Some(&Piece::Special),
            Self::Crate(inner) => {
                let added = inner.get_added_tokens_decoder();
                added.get(&id).is_some_and(|token| token.special)
            }
        }
    }

    /// The text of tokens, without white space at its ends.
    pub fn text(&self, ids: &[u32]) -> String {
        match self {
            Self::Own(pieces) => own_text(pieces, ids),
            Self::Crate(inner) => inner.decode(ids, true).unwrap_or_default().trim().to_owned(),
        }
    }
}

fn own_text(pieces: &[Piece], ids: &[u32]) -> String {
    let mut bytes = Vec::new();
    for piece in ids.iter().filter_map(|&id| pieces.get(id as usize)) {
        match piece {
            Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
            Piece::Byte(byte) => bytes.push(*byte),
            Piece::Special => {}
        }
    }
    String::from_utf8_lossy(&bytes).replace('▁', " ").trim().to_owned()
}

impl File {
    fn pieces(self) -> Vec<Piece> {
        let bytes = self.model.byte_fallback;
        let piece = |(text, _): (String, f64)| match byte(&text).filter(|_| bytes) {
            Some(byte) => Piece::Byte(byte),
            None => Piece::Text(text),
        };
        let mut pieces: Vec<Piece> = self.model.vocab.into_iter().map(piece).collect();
        if let Some(unknown) = self.model.unk_id.and_then(|id| pieces.get_mut(id)) {
            *unknown = Piece::Special;
        }
        for added in self.added_tokens.into_iter().filter(|a| a.id < 1 << 24) {
            pieces.resize(pieces.len().max(added.id + 1), Piece::Special);
            let special = added.special;
            pieces[added.id] = if special { Piece::Special } else { Piece::Text(added.content) };
        }
        pieces
    }
}

/// The byte that `<0x41>` spells.
pub(crate) fn byte(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_text_without_what_is_special() {
        let text = |t: &str| Piece::Text(t.to_owned());
        let pieces = vec![
            Piece::Special,
            text("▁Wo"),
            text("▁i"),
            text("st"),
            Piece::Byte(0xc3),
            Piece::Byte(0xa4),
            text("?"),
        ];
        assert_eq!(own_text(&pieces, &[0, 1, 2, 3, 0, 4, 5, 6, 99]), "Wo istä?");
        assert_eq!(own_text(&pieces, &[4, 6]), "\u{fffd}?");
        assert_eq!((byte("<0x0A>"), byte("<0xA>"), byte("0A")), (Some(10), None, None));
    }
}
