//! A query: what a reader asks. Read from XOR-TyDi JSON lines (`id`, `question`, `answers`,
//! `lang`) or BEIR's (`_id`, `text`, optional `lang` and `answers`), told apart by their keys.

use std::path::Path;

use serde_json::Value;

use crate::error::{DataError, Mismatch, quote};
use crate::lang::Lang;
use crate::lines::{BadLines, LineFile, SeenIds, id_field, json_object, text_field};

/// A query with its language and its answers, where the file has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The identifier in runs and qrels.
    pub qid: String,
    /// The language it is asked in.
    pub lang: Option<Lang>,
    /// The question itself; never blank.
    pub text: String,
    /// Answer strings, for answer-based recall; empty where the file has none.
    pub answers: Vec<String>,
}

/// Streams the queries of a file, each qid once.
///
/// # Errors
/// When the file cannot be opened; a bad line is an error of the iterator.
pub fn stream_queries(path: &Path, policy: BadLines) -> Result<LineFile<Query>, DataError> {
    let mut seen = SeenIds::default();
    let parse = move |line: &str| {
        let query = parse_query(&json_object(line)?)?;
        seen.insert("id", &query.qid)?;
        Ok(query)
    };
    LineFile::open(path, policy, Box::new(parse))
}

/// Reads all queries of a file, in its order.
///
/// # Errors
/// On bad lines, or when there is no query at all.
pub fn read_queries(path: &Path) -> Result<Vec<Query>, DataError> {
    let queries: Vec<Query> = stream_queries(path, BadLines::Stop)?.collect::<Result<_, _>>()?;
    if queries.is_empty() {
        return Err(DataError::unexpected(path, "at least one query", "none"));
    }
    Ok(queries)
}

/// Reads one query from a JSON object of either kind.
///
/// # Errors
/// When the keys are of neither kind, or a value is not what it must be.
pub fn parse_query(object: &Value) -> Result<Query, Mismatch> {
    let (id_key, text_key) = match (object.get("id"), object.get("_id")) {
        (Some(_), _) => ("id", "question"),
        (None, Some(_)) => ("_id", "text"),
        (None, None) => {
            return Err(Mismatch::new("`_id` and `text`, or `id` and `question`", "no identifier"));
        }
    };
    let qid = id_field(object, id_key)?;
    let text = text_field(object, text_key)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(Mismatch::new(format!("a `{text_key}`"), format!("`{qid}` without one")));
    }
    Ok(Query { qid, lang: lang_field(object)?, text, answers: answers_field(object)? })
}

pub(crate) fn lang_field(object: &Value) -> Result<Option<Lang>, Mismatch> {
    text_field(object, "lang")?.map(|code| code.parse()).transpose()
}

pub(crate) fn answers_field(object: &Value) -> Result<Vec<String>, Mismatch> {
    let wrong = |v: &Value| Mismatch::new("`answers`, a list of strings", quote(&v.to_string()));
    let list = match object.get("answers") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong(other)),
    };
    list.iter().map(|a| a.as_str().map(str::to_owned).ok_or_else(|| wrong(a))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Query, Mismatch> {
        parse_query(&json_object(line)?)
    }

    #[test]
    fn both_kinds_of_file_are_recognised() {
        let xor = parse(r#"{"id":"1","question":"q?","answers":["a","a"],"lang":" te"}"#).unwrap();
        assert_eq!((xor.lang.unwrap().code(), xor.answers.len()), ("te", 2));
        let beir = parse(r#"{"_id":"1","text":"q?"}"#).unwrap();
        assert_eq!((beir.lang, beir.text.as_str()), (None, "q?"));
    }

    #[test]
    fn wrong_values_are_named() {
        for (line, word) in [
            (r#"{"text":"q"}"#, "identifier"),
            (r#"{"id":"1","question":" "}"#, "question"),
            (r#"{"_id":"1","text":"q","lang":"xx"}"#, "ISO 639"),
            (r#"{"_id":"1","text":"q","answers":[1]}"#, "answers"),
        ] {
            let m = parse(line).unwrap_err();
            assert!(format!("{} {}", m.expected, m.found).contains(word), "{line}");
        }
    }
}
