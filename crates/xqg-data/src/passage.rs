//! A passage: what is searched. Read from BEIR's `corpus.jsonl` (`_id`, `title`, `text`).

use std::path::Path;

use serde_json::Value;

use crate::error::{DataError, Mismatch};
use crate::lines::{BadLines, LineFile, SeenIds, id_field, json_object, text_field};

/// A passage with its docid; title and text are never both empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The identifier in runs and qrels.
    pub docid: String,
    /// The title; often empty.
    pub title: String,
    /// The text; what XOR-TyDi's measure reads.
    pub text: String,
}

impl Passage {
    /// What an encoder reads: the title, a space, the text; the text alone without a title.
    pub fn encoder_text(&self) -> String {
        match (self.title.is_empty(), self.text.is_empty()) {
            (true, _) => self.text.clone(),
            (_, true) => self.title.clone(),
            _ => format!("{} {}", self.title, self.text),
        }
    }
}

/// Streams the passages of a corpus file, each docid once.
///
/// # Errors
/// When the file cannot be opened; a bad line is an error of the iterator.
pub fn read_passages(path: &Path, policy: BadLines) -> Result<LineFile<Passage>, DataError> {
    let mut seen = SeenIds::default();
    let parse = move |line: &str| {
        let passage = parse_passage(&json_object(line)?)?;
        seen.insert("_id", &passage.docid)?;
        Ok(passage)
    };
    LineFile::open(path, policy, Box::new(parse))
}

/// Reads one passage from a JSON object.
///
/// # Errors
/// When `_id` is missing or unusable, or there is no text at all.
pub fn parse_passage(object: &Value) -> Result<Passage, Mismatch> {
    let docid = id_field(object, "_id")?;
    let title = text_field(object, "title")?.unwrap_or_default();
    let text = text_field(object, "text")?.unwrap_or_default();
    if title.trim().is_empty() && text.trim().is_empty() {
        return Err(Mismatch::new("a `title` or a `text`", format!("`{docid}` with neither")));
    }
    Ok(Passage { docid, title, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Passage, Mismatch> {
        parse_passage(&json_object(line)?)
    }

    #[test]
    fn the_encoder_reads_title_and_text() {
        let full = parse(r#"{"_id":"a","title":"T","text":"x y"}"#).unwrap();
        assert_eq!(full.encoder_text(), "T x y");
        let bare = parse(r#"{"_id":"a","text":"x y"}"#).unwrap();
        assert_eq!(bare.encoder_text(), "x y");
    }

    #[test]
    fn empty_passages_and_missing_ids_are_refused() {
        assert!(parse(r#"{"_id":"a","text":" "}"#).is_err());
        assert!(parse(r#"{"text":"x"}"#).is_err());
    }

    #[test]
    fn a_docid_may_come_once_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.jsonl");
        std::fs::write(&path, "{\"_id\":\"a\",\"text\":\"x\"}\n{\"_id\":\"a\",\"text\":\"y\"}\n")
            .unwrap();
        let last = read_passages(&path, BadLines::Stop).unwrap().last().unwrap();
        assert!(last.unwrap_err().to_string().contains("line 2: expected a `_id` of its own"));
        let kept = read_passages(&path, BadLines::Skip).unwrap().filter(Result::is_ok).count();
        assert_eq!(kept, 1);
    }
}
