//! `tokenizer.json` with fewer tokens: the vocabulary, and every place where an id stands.

use std::path::Path;

use serde_json::{Map, Value, json};
use xqg_data::error::DataError;

use crate::error::TrainError;

/// The vocabulary of a Unigram or WordPiece tokenizer.
#[derive(Debug)]
pub struct Vocabulary {
    file: Value,
    /// Pieces by id, with Unigram's score.
    pieces: Vec<(String, f64)>,
    unigram: bool,
}

/// Reads a JSON file.
///
/// # Errors
/// When it is missing or no JSON.
pub fn read_value(path: &Path) -> Result<Value, TrainError> {
    let bytes = std::fs::read(path).map_err(DataError::io("reading", path))?;
    serde_json::from_slice(&bytes).map_err(|e| unexpected(path, e.to_string()))
}

fn unexpected(path: &Path, found: impl Into<String>) -> TrainError {
    TrainError::Unexpected {
        path: path.to_path_buf(),
        expected: "a Unigram or WordPiece tokenizer".into(),
        found: found.into(),
        hint: "only the vocabularies of BERT and XLM-RoBERTa models can be pruned",
    }
}

impl Vocabulary {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// When the tokenizer is of another kind, or its ids are not 0 to the number of its tokens.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let file = read_value(path)?;
        let kind = file["model"]["type"].as_str().unwrap_or("a model without a type");
        let vocabulary = &file["model"]["vocab"];
        let (pieces, unigram) = match kind {
            "Unigram" => (unigram(vocabulary), true),
            "WordPiece" => (word_piece(vocabulary), false),
            other => return Err(unexpected(path, other)),
        };
        let pieces = pieces.ok_or_else(|| unexpected(path, "a vocabulary with holes"))?;
        Ok(Self { file, pieces, unigram })
    }

    /// Ids and pieces.
    pub fn pieces(&self) -> impl Iterator<Item = (u32, &str)> {
        self.pieces.iter().enumerate().map(|(id, (piece, _))| (id as u32, piece.as_str()))
    }

    /// The ids of special and other added tokens, and the one for what is unknown.
    pub fn special(&self) -> impl Iterator<Item = u32> {
        let added = self.file["added_tokens"].as_array().into_iter().flatten();
        let added = added.filter_map(|token| token["id"].as_u64());
        let unknown = self.file["model"]["unk_id"].as_u64();
        let named = self.file["model"]["unk_token"].as_str();
        let named = named.and_then(|name| self.pieces.iter().position(|(p, _)| p == name));
        added.chain(unknown).chain(named.map(|id| id as u64)).map(|id| id as u32)
    }

    /// Tokens that the others' use depends on: Unigram takes what it holds for an unknown character
    /// from the lowest score.
    pub fn needed(&self) -> Option<u32> {
        let scores = self.pieces.iter().map(|(_, score)| *score).enumerate();
        let lowest = scores.min_by(|a, b| a.1.total_cmp(&b.1))?;
        self.unigram.then_some(lowest.0 as u32)
    }

    /// The file with these ids only, which become 0, 1, 2 …
    pub fn pruned(&self, ids: &[u32]) -> Value {
        let mut file = self.file.clone();
        let kept: Vec<&(String, f64)> =
            ids.iter().filter_map(|&id| self.pieces.get(id as usize)).collect();
        let vocabulary = if self.unigram {
            kept.iter().map(|(piece, score)| json!([piece, score])).collect()
        } else {
            let numbered = kept.iter().enumerate();
            Value::Object(numbered.map(|(id, (piece, _))| (piece.clone(), json!(id))).collect())
        };
        file["model"]["vocab"] = vocabulary;
        for place in ["/model/unk_id", "/padding/pad_id"] {
            file.pointer_mut(place).into_iter().for_each(|id| renumber(id, ids));
        }
        let added = file.get_mut("added_tokens").and_then(Value::as_array_mut);
        for id in added.into_iter().flatten().filter_map(|token| token.get_mut("id")) {
            renumber(id, ids);
        }
        if let Some(template) = file.get_mut("post_processor") {
            renumber_template(template, ids);
        }
        file
    }
}

fn unigram(vocabulary: &Value) -> Option<Vec<(String, f64)>> {
    let piece = |entry: &Value| Some((entry[0].as_str()?.to_owned(), entry[1].as_f64()?));
    vocabulary.as_array()?.iter().map(piece).collect()
}

fn word_piece(vocabulary: &Value) -> Option<Vec<(String, f64)>> {
    let map = vocabulary.as_object()?;
    let mut pieces = vec![None; map.len()];
    for (piece, id) in map {
        *pieces.get_mut(usize::try_from(id.as_u64()?).ok()?)? = Some((piece.clone(), 0.0));
    }
    pieces.into_iter().collect()
}

/// Puts the new id in the place of an old one; what is no kept id stays as it is.
fn renumber(value: &mut Value, ids: &[u32]) {
    let Some(old) = value.as_u64() else { return };
    if let Some(new) = ids.iter().position(|&id| u64::from(id) == old) {
        *value = json!(new);
    }
}

/// The ids of special tokens in a post-processor: lists called `ids` in templates, pairs of token
/// and id called `sep` and `cls` in the older kinds.
fn renumber_template(value: &mut Value, ids: &[u32]) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), &mut *value) {
                    ("ids", Value::Array(list)) => {
                        list.iter_mut().for_each(|id| renumber(id, ids));
                    }
                    ("sep" | "cls", Value::Array(pair)) if pair.len() == 2 => {
                        renumber(&mut pair[1], ids);
                    }
                    _ => renumber_template(value, ids),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| renumber_template(item, ids)),
        _ => {}
    }
}

/// The ids in `config.json`, and the number of tokens.
pub fn renumber_config(config: &mut Value, ids: &[u32]) {
    for key in ["pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"] {
        if let Some(value) = config.get_mut(key) {
            renumber(value, ids);
        }
    }
    config["vocab_size"] = json!(ids.len());
}

/// The added tokens of `tokenizer_config.json`, which are named by id.
pub fn renumber_decoder(config: &mut Value, ids: &[u32]) {
    let Some(Value::Object(decoder)) = config.get_mut("added_tokens_decoder") else { return };
    let moved = |(id, token): (String, Value)| {
        let mut id = json!(id.parse::<u64>().ok()?);
        renumber(&mut id, ids);
        Some((id.to_string(), token))
    };
    *decoder = std::mem::take(decoder).into_iter().filter_map(moved).collect::<Map<_, _>>();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(model: Value) -> Vocabulary {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let file = json!({
            "added_tokens": [{"id": 0, "content": "<s>"}, {"id": 4, "content": "<mask>"}],
            "post_processor": {"special_tokens": {"<s>": {"id": "<s>", "ids": [4]}}, "sep": ["x", 4]},
            "padding": {"pad_id": 4},
            "model": model,
        });
        std::fs::write(&path, file.to_string()).unwrap();
        Vocabulary::read(&path).unwrap()
    }

    #[test]
    fn every_id_moves_along() {
        let pieces =
            json!([["<s>", 0.0], ["a", -1.0], ["b", -3.0], ["<unk>", 0.0], ["<mask>", 0.0]]);
        let vocabulary = file(json!({"type": "Unigram", "unk_id": 3, "vocab": pieces}));
        assert_eq!(vocabulary.special().collect::<Vec<_>>(), [0, 4, 3]);
        assert_eq!(vocabulary.needed(), Some(2), "the lowest score decides about unknowns");
        let pruned = vocabulary.pruned(&[0, 2, 3, 4]);
        assert_eq!(pruned["model"]["vocab"][1], json!(["b", -3.0]));
        assert_eq!(pruned["model"]["unk_id"], 2);
        assert_eq!(pruned["added_tokens"][1]["id"], 3);
        assert_eq!(pruned["padding"]["pad_id"], 3);
        let post = &pruned["post_processor"];
        assert_eq!(
            (&post["special_tokens"]["<s>"]["ids"][0], &post["sep"][1]),
            (&json!(3), &json!(3))
        );
    }

    #[test]
    fn word_pieces_are_numbered_anew() {
        let vocabulary = json!({"[UNK]": 1, "<s>": 0, "b": 3, "a": 2, "<mask>": 4});
        let model = json!({"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocabulary});
        let vocabulary = file(model);
        assert_eq!(vocabulary.special().collect::<Vec<_>>(), [0, 4, 1]);
        let pruned = vocabulary.pruned(&[0, 1, 3, 4]);
        assert_eq!(pruned["model"]["vocab"], json!({"<s>": 0, "[UNK]": 1, "b": 2, "<mask>": 3}));
    }
}
