//! A generated query: a question in a reader's language that a passage answers, whether a model
//! wrote it or a person. One JSON object a line: `docid`, `lang`, `text`; other keys are ignored.

use std::path::Path;

use serde_json::Value;

use crate::error::{DataError, Mismatch};
use crate::lang::Lang;
use crate::lines::{BadLines, LineFile, id_field, json_object, text_field};

/// A question attached to a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedQuery {
    /// The passage that answers it.
    pub docid: String,
    /// The language it is written in.
    pub lang: Lang,
    /// The question; never blank.
    pub text: String,
}

/// Streams the generated queries of a file, in any order of docids.
///
/// # Errors
/// When the file cannot be opened; a bad line is an error of the iterator.
pub fn read_generated(
    path: &Path,
    policy: BadLines,
) -> Result<LineFile<GeneratedQuery>, DataError> {
    LineFile::open(path, policy, Box::new(|line| parse_generated(&json_object(line)?)))
}

/// Reads one generated query from a JSON object.
///
/// # Errors
/// When a key is missing, the language is none, or the question is blank.
pub fn parse_generated(object: &Value) -> Result<GeneratedQuery, Mismatch> {
    let docid = id_field(object, "docid")?;
    let code = text_field(object, "lang")?
        .ok_or_else(|| Mismatch::new("`lang`, a language code", "no `lang`"))?;
    let text = text_field(object, "text")?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(Mismatch::new("a `text`", format!("a question for `{docid}` without one")));
    }
    Ok(GeneratedQuery { docid, lang: code.parse()?, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_keys_are_needed() {
        let parse = |line: &str| json_object(line).and_then(|v| parse_generated(&v));
        let q = parse(r#"{"docid":"p1","lang":"ko","text":"뭐?","logprob":-1.5}"#).unwrap();
        assert_eq!((q.docid.as_str(), q.lang.code()), ("p1", "ko"));
        assert!(parse(r#"{"docid":"p1","text":"x"}"#).is_err());
        assert!(parse(r#"{"docid":"p1","lang":"ko","text":""}"#).is_err());
        assert!(parse(r#"{"docid":"p1","lang":"??","text":"x"}"#).is_err());
    }
}
