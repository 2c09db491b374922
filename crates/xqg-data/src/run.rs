//! A run: for each query its passages with scores, best first. Ties are broken here and nowhere
//! else: score descending, then docid descending, as trec_eval does. Read and written in TREC's six
//! columns (`qid Q0 docid rank score tag`); the rank column is ignored when reading.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{DataError, Mismatch, quote};
use crate::file::PartialFile;
use crate::lines::{BadLines, LineFile};

/// A passage in a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredDoc {
    /// The passage.
    pub docid: String,
    /// Its score; greater is better; never NaN.
    pub score: f64,
}

/// The one order of rankings: score descending, then docid descending. Scores are compared in single
/// precision, as trec_eval reads them: what differs only beyond is a tie.
pub fn rank_order(a: (f64, &str), b: (f64, &str)) -> Ordering {
    (b.0 as f32).total_cmp(&(a.0 as f32)).then_with(|| b.1.cmp(a.1))
}

/// Rankings by query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    queries: BTreeMap<String, Vec<ScoredDoc>>,
}

impl Run {
    /// Reads a TREC run, plain or `.gz`, and sorts each ranking by [`rank_order`].
    ///
    /// # Errors
    /// On bad lines: not six columns, a score that is no finite number, a passage
    /// that comes twice for one query; or when the file is empty.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let mut run = Self::default();
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut file =
            LineFile::open(path, BadLines::Stop, Box::new(parse_line))?.checked_outside();
        while let Some(row) = file.next() {
            let (qid, doc) = row?;
            if !seen.entry(qid.clone()).or_default().insert(doc.docid.clone()) {
                let again = format!("{} again for {}", doc.docid, qid);
                file.reject(Mismatch::new("each passage once for a query", again));
            }
            run.queries.entry(qid).or_default().push(doc);
        }
        if run.queries.is_empty() {
            return Err(DataError::unexpected(path, "at least one ranking", "none"));
        }
        run.queries.values_mut().for_each(|docs| sort(docs));
        Ok(run)
    }

    /// Sets the ranking of a query, sorted by [`rank_order`].
    pub fn insert(&mut self, qid: &str, mut docs: Vec<ScoredDoc>) {
        sort(&mut docs);
        self.queries.insert(qid.to_owned(), docs);
    }

    /// The ranking of a query, best first.
    pub fn get(&self, qid: &str) -> Option<&[ScoredDoc]> {
        self.queries.get(qid).map(Vec::as_slice)
    }

    /// All rankings, in the order of the query ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[ScoredDoc])> {
        self.queries.iter().map(|(qid, docs)| (qid.as_str(), docs.as_slice()))
    }

    /// The number of queries.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether there is no ranking at all.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Writes six columns a line, rank from 1, scores with all their digits; compressed where the
    /// name ends in `.gz`.
    ///
    /// # Errors
    /// When the file cannot be written; an earlier file of that name is then untouched.
    pub fn write(&self, path: &Path, tag: &str) -> Result<(), DataError> {
        let mut file = PartialFile::create(path)?;
        let written = if path.extension().is_some_and(|e| e == "gz") {
            let mut gz = GzEncoder::new(&mut file, Compression::default());
            self.write_lines(&mut gz, tag).and_then(|()| gz.finish().map(|_| ()))
        } else {
            self.write_lines(&mut file, tag)
        };
        written.map_err(DataError::io("writing", path))?;
        file.commit()
    }

    fn write_lines(&self, out: &mut impl Write, tag: &str) -> io::Result<()> {
        for (qid, docs) in self.iter() {
            for (i, doc) in docs.iter().enumerate() {
                writeln!(out, "{qid} Q0 {} {} {} {tag}", doc.docid, i + 1, doc.score)?;
            }
        }
        Ok(())
    }
}

fn sort(docs: &mut [ScoredDoc]) {
    docs.sort_by(|a, b| rank_order((a.score, &a.docid), (b.score, &b.docid)));
}

fn parse_line(line: &str) -> Result<(String, ScoredDoc), Mismatch> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let [qid, _, docid, _, score, _] = columns[..] else {
        let found = format!("{} columns: {}", columns.len(), quote(line));
        return Err(Mismatch::new("6 columns: qid Q0 docid rank score tag", found));
    };
    match score.parse::<f64>() {
        Ok(score) if score.is_finite() => {
            Ok((qid.to_owned(), ScoredDoc { docid: docid.to_owned(), score }))
        }
        _ => Err(Mismatch::new("a finite number as score", quote(score))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Run, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.trec");
        std::fs::write(&path, text).unwrap();
        Run::read(&path)
    }

    #[test]
    fn ties_go_to_the_greater_docid() {
        let run = read("q Q0 a 1 1.0 t\nq Q0 b 2 1.0 t\nq Q0 c 3 2.0 t\n").unwrap();
        let order: Vec<&str> = run.get("q").unwrap().iter().map(|d| d.docid.as_str()).collect();
        assert_eq!(order, ["c", "b", "a"]);
    }

    #[test]
    fn scores_that_differ_beyond_single_precision_are_ties() {
        let run = read("q Q0 a 1 0.83512345678 t\nq Q0 b 2 0.83512345671 t\n").unwrap();
        assert_eq!(run.get("q").unwrap()[0].docid, "b");
    }

    #[test]
    fn nan_and_repeated_passages_are_refused_by_line() {
        for (text, word) in [
            ("q Q0 a 1 NaN t\n", "line 1: expected a finite number"),
            ("q Q0 a 1 1 t\nq Q0 a 2 0.5 t\n", "line 2: expected each passage once"),
            ("q a 1\n", "6 columns"),
            ("", "at least one ranking"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_run_survives_the_disk(scores in proptest::collection::vec(-1e3f32..1e3, 1..30)) {
            let docs = scores.iter().enumerate()
                .map(|(i, &s)| ScoredDoc { docid: format!("d{i}"), score: f64::from(s) }).collect();
            let mut run = Run::default();
            run.insert("q", docs);
            let folder = tempfile::tempdir().unwrap();
            for name in ["r.trec", "r.trec.gz"] {
                let path = folder.path().join(name);
                run.write(&path, "t").unwrap();
                prop_assert_eq!(Run::read(&path).unwrap(), run.clone());
            }
        }
    }
}
