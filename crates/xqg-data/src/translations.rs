//! Translations of queries into the language of the passages: lines of `question TAB translation`,
//! plain or `.gz`, as XOR-TyDi's parallel questions have them. Before the tab may stand a qid as
//! well. White space around and between words does not count when a question is looked up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{DataError, Mismatch, quote};
use crate::lines::{BadLines, LineFile};
use crate::query::Query;

/// Translations by question or qid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translations {
    by_question: BTreeMap<String, String>,
}

impl Translations {
    /// Reads any number of files. A question that is translated again keeps its first translation.
    ///
    /// # Errors
    /// On bad lines, or when a file holds no translation.
    pub fn read(paths: &[PathBuf]) -> Result<Self, DataError> {
        let mut all = Self::default();
        paths.iter().try_for_each(|path| all.extend(path))?;
        Ok(all)
    }

    fn extend(&mut self, path: &Path) -> Result<(), DataError> {
        let mut none = true;
        for line in LineFile::open(path, BadLines::Stop, Box::new(parse_line))? {
            if let Some((question, translation)) = line? {
                self.by_question.entry(question).or_insert(translation);
                none = false;
            }
        }
        if none {
            return Err(DataError::unexpected(path, "at least one translation", "none"));
        }
        Ok(())
    }

    /// All questions with their translations, in the order of the questions.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_question.iter().map(|(question, text)| (question.as_str(), text.as_str()))
    }

    /// The translation of a query, by its id or else by its text.
    pub fn get(&self, query: &Query) -> Option<&str> {
        let by_text = || self.by_question.get(&single_spaced(&query.text));
        self.by_question.get(&query.qid).or_else(by_text).map(String::as_str)
    }
}

/// A text with single spaces between its words and none around them.
pub fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One line; `None` where nobody translated the question, as in a few lines of XOR-TyDi's files.
fn parse_line(line: &str) -> Result<Option<(String, String)>, Mismatch> {
    let expected = || Mismatch::new("question TAB translation", quote(line));
    let (question, translation) = line.split_once('\t').ok_or_else(expected)?;
    let (question, translation) = (single_spaced(question), translation.trim());
    if question.is_empty() || translation.contains('\t') {
        return Err(expected());
    }
    Ok((!translation.is_empty()).then(|| (question, translation.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(qid: &str, text: &str) -> Query {
        Query { qid: qid.into(), lang: None, text: text.into(), answers: Vec::new() }
    }

    fn read(text: &str) -> Result<Translations, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fi-en.tsv");
        std::fs::write(&path, text).unwrap();
        Translations::read(&[path])
    }

    #[test]
    fn questions_are_found_by_text_or_id() {
        let all = read(
            "Missä on talo?\t \nMissä  on talo ?\tWhere is the house?\nq7\tWho?\nMissä on talo ?\tB\n",
        );
        let all = all.unwrap();
        assert_eq!(all.get(&query("x", " Missä on talo  ? ")), Some("Where is the house?"));
        assert_eq!(all.get(&query("q7", "Kuka?")), Some("Who?"));
        assert_eq!(all.get(&query("q8", "Kuka?")), None);
    }

    #[test]
    fn lines_of_other_columns_are_refused() {
        for text in ["Kuka?\n", "\tWho?\n", "a\tb\tc\n"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("line 1: expected question TAB translation"), "{error}");
        }
        assert!(read("\n").is_err() && read("Kuka?\t\n").is_err(), "nothing is translated");
    }
}
