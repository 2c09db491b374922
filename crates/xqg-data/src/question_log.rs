//! A log of questions that people asked: a search log, a FAQ, the questions of a data set. JSON lines
//! with `lang` and `question` or `text` (XOR-TyDi and BEIR queries, generated queries), or a plain
//! text of one question a line whose name says the language: `te.txt`, `te.txt.gz`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{DataError, Mismatch, quote};
use crate::lang::Lang;
use crate::lines::{BadLines, LineFile, json_object, text_field};
use crate::query::lang_field;

/// A question of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedQuestion {
    /// The language it was asked in.
    pub lang: Lang,
    /// The question; never blank.
    pub text: String,
}

/// Streams the questions of a file.
///
/// # Errors
/// When the file cannot be opened, or is a text whose name says no language; a bad line is an error
/// of the iterator.
pub fn read_question_log(path: &Path) -> Result<LineFile<LoggedQuestion>, DataError> {
    if !is_plain(path) {
        let parse = |line: &str| parse_logged(&json_object(line)?);
        return LineFile::open(path, BadLines::Stop, Box::new(parse));
    }
    let lang = lang_of_name(path)?;
    let parse = move |line: &str| Ok(LoggedQuestion { lang, text: line.trim().to_owned() });
    LineFile::open(path, BadLines::Stop, Box::new(parse))
}

/// The files of a log: the path itself or, of a folder, its `.txt` and `.jsonl` files, plain or
/// `.gz`, in the order of their names.
///
/// # Errors
/// When the folder cannot be read or holds no such file.
pub fn log_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).map_err(DataError::io("reading", path))?;
    let paths = entries.map(|e| e.map(|e| e.path()).map_err(DataError::io("reading", path)));
    let mut files = paths.collect::<Result<Vec<_>, _>>()?;
    files.retain(|file| is_plain(file) || ends_in(file, "jsonl"));
    files.sort();
    if files.is_empty() {
        return Err(DataError::unexpected(path, "files L.txt or NAME.jsonl", "none"));
    }
    Ok(files)
}

/// Reads one question from a JSON object.
///
/// # Errors
/// When there is no question in it, or no language.
pub fn parse_logged(object: &Value) -> Result<LoggedQuestion, Mismatch> {
    let key = if object.get("question").is_some() { "question" } else { "text" };
    let text = text_field(object, key)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(Mismatch::new("a `question` or a `text`", quote(&object.to_string())));
    }
    let none = || Mismatch::new("`lang`, a language code", "no `lang`");
    Ok(LoggedQuestion { lang: lang_field(object)?.ok_or_else(none)?, text })
}

/// The name without `.gz`.
fn bare_name(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|e| e == "gz") {
        path.with_extension("")
    } else {
        path.to_path_buf()
    }
}

fn ends_in(path: &Path, ending: &str) -> bool {
    bare_name(path).extension().is_some_and(|e| e == ending)
}

fn is_plain(path: &Path) -> bool {
    ends_in(path, "txt")
}

fn lang_of_name(path: &Path) -> Result<Lang, DataError> {
    let name = bare_name(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    name.parse().map_err(|m: Mismatch| DataError::Unexpected {
        path: path.to_path_buf(),
        expected: "a text named after its language, such as te.txt".into(),
        found: m.found,
        hint: "JSON lines with `lang` and `text` may have any name",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<(&'static str, String)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_question_log(&path)?.map(|q| q.map(|q| (q.lang.code(), q.text))).collect()
    }

    #[test]
    fn all_kinds_of_logs_are_read() {
        let json = "{\"id\":\"1\",\"question\":\"Kuka?\",\"lang\":\" fi\",\"answers\":[]}\n\
                    {\"_id\":\"2\",\"text\":\"누구?\",\"lang\":\"ko\"}\n\
                    {\"docid\":\"p\",\"lang\":\"te\",\"text\":\"x?\"}\n{\"lang\":\"ja\",\"text\":\"誰?\"}\n";
        let langs: Vec<_> = read("log.jsonl", json).unwrap().into_iter().map(|q| q.0).collect();
        assert_eq!(langs, ["fi", "ko", "te", "ja"]);
        assert_eq!(read("fi.txt", " Kuka? \n\nMikä?\n").unwrap().len(), 2);
    }

    #[test]
    fn a_question_without_a_language_is_refused() {
        let text = read("a.jsonl", "{\"_id\":\"1\",\"text\":\"x\"}\n").unwrap_err().to_string();
        assert!(text.contains("line 1: expected `lang`"), "{text}");
        let text = read("faq.txt", "x\n").unwrap_err().to_string();
        assert!(text.contains("te.txt") && text.contains("`faq`"), "{text}");
    }

    #[test]
    fn a_folder_stands_for_its_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(log_files(folder.path()).is_err());
        for name in ["te.txt", "a.jsonl.gz", "README.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = log_files(folder.path()).unwrap();
        assert_eq!(names, ["a.jsonl.gz", "te.txt"].map(|name| folder.path().join(name)));
    }
}
