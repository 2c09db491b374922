//! Qrels: which passages answer which query, and how well. Read from TREC's four columns
//! (`qid 0 docid relevance`) or BEIR's three with a header (`query-id corpus-id score`).

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{DataError, Mismatch, quote};
use crate::lines::{BadLines, LineFile};

/// Judged relevance by query, then by passage; both in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qrels {
    queries: BTreeMap<String, BTreeMap<String, i32>>,
}

impl Qrels {
    /// Reads a qrels file, plain or `.gz`.
    ///
    /// # Errors
    /// On bad lines, on a pair judged twice with different grades, or when the
    /// file holds no judgment.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let mut qrels = Self::default();
        let mut file =
            LineFile::open(path, BadLines::Stop, Box::new(parse_line))?.checked_outside();
        while let Some(row) = file.next() {
            let Some((qid, docid, relevance)) = row? else {
                continue;
            };
            let old = qrels.insert(&qid, &docid, relevance);
            if old.is_some_and(|old| old != relevance) {
                let pair = format!("{qid} and {docid} judged again");
                file.reject(Mismatch::new("each pair judged once", pair));
            }
        }
        if qrels.queries.is_empty() {
            return Err(DataError::unexpected(path, "at least one judgment", "none"));
        }
        Ok(qrels)
    }

    /// Sets a judgment; returns the earlier one of this pair.
    pub fn insert(&mut self, qid: &str, docid: &str, relevance: i32) -> Option<i32> {
        self.queries.entry(qid.to_owned()).or_default().insert(docid.to_owned(), relevance)
    }

    /// The judgments of a query.
    pub fn get(&self, qid: &str) -> Option<&BTreeMap<String, i32>> {
        self.queries.get(qid)
    }

    /// All queries with their judgments, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, i32>)> {
        self.queries.iter().map(|(qid, judged)| (qid.as_str(), judged))
    }

    /// The number of judged queries.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether nothing is judged.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }
}

type Row = Option<(String, String, i32)>;

/// One line; `None` for the header of a BEIR file.
fn parse_line(line: &str) -> Result<Row, Mismatch> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (qid, docid, grade) = match columns[..] {
        [qid, docid, grade] => (qid, docid, grade),
        [qid, _, docid, grade] => (qid, docid, grade),
        _ => {
            let found = format!("{} columns: {}", columns.len(), quote(line));
            return Err(Mismatch::new("3 or 4 columns", found));
        }
    };
    if grade == "score" {
        return Ok(None);
    }
    let relevance =
        grade.parse().map_err(|_| Mismatch::new("a whole number as relevance", quote(grade)))?;
    Ok(Some((qid.to_owned(), docid.to_owned(), relevance)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Qrels, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.tsv");
        std::fs::write(&path, text).unwrap();
        Qrels::read(&path)
    }

    #[test]
    fn beir_and_trec_files_read_the_same() {
        let beir = read("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n").unwrap();
        let trec = read("q1 0 d1 2\nq1 0 d2 0\n").unwrap();
        assert_eq!(beir, trec);
        assert_eq!(beir.get("q1").unwrap()["d1"], 2);
    }

    #[test]
    fn contradictions_and_wrong_columns_are_refused() {
        assert!(read("q1 0 d1 2\nq1 0 d1 1\n").unwrap_err().to_string().contains("line 2"));
        assert!(read("q1 d1\n").is_err() && read("q1 0 d1 x\n").is_err() && read("\n").is_err());
    }
}
