//! A question that passed the gate or did not, as it lies in the unit files: the line itself, with
//! why it was rejected. What decides over all passages together, the share kept of a language, is
//! decided when all units are there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use xqg_data::error::DataError;
use xqg_data::generated::{GeneratedQuery, parse_generated};
use xqg_data::lines::{BadLines, LineFile, json_object};

use super::writer::rounded;

/// Why a question was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Too few characters, or none that are letters or digits.
    Short,
    /// Too many characters.
    Long,
    /// The same words again and again.
    Loop,
    /// It is written in another language than it says.
    Language,
    /// The passage has the same question already, but for case and signs.
    Duplicate,
    /// The passage has nearly the same question already.
    NearDuplicate,
    /// Words of the passage itself.
    Copy,
    /// The retriever does not find its passage with it.
    RoundTrip,
    /// Others of its language find their passages better.
    Share,
}

impl Reason {
    /// As it is written in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Loop => "loop",
            Self::Language => "language",
            Self::Duplicate => "duplicate",
            Self::NearDuplicate => "near-duplicate",
            Self::Copy => "copy",
            Self::RoundTrip => "round-trip",
            Self::Share => "share",
        }
    }
}

/// A question with its verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The question.
    pub question: GeneratedQuery,
    /// Its line.
    pub line: Map<String, Value>,
    /// Why it was rejected; none while it passes.
    pub reason: Option<Reason>,
}

impl Judged {
    /// A question that passes so far; its line holds a docid, a language and a text.
    ///
    /// # Errors
    /// When it does not.
    pub fn new(line: Map<String, Value>) -> Result<Self, xqg_data::error::Mismatch> {
        let value = Value::Object(line);
        let question = parse_generated(&value)?;
        let Value::Object(line) = value else { unreachable!("it was one above") };
        Ok(Self { question, line, reason: None })
    }

    /// Rejects it, unless it was rejected before.
    pub fn reject(&mut self, reason: Reason) {
        if self.reason.is_none() {
            self.reason = Some(reason);
            self.line.insert("reason".into(), json!(reason));
        }
    }

    /// Notes where the retriever ranks its passage (from 1) and how similar the two are.
    pub fn found(&mut self, rank: usize, similarity: f32) {
        self.line.insert("rank".into(), json!(rank));
        self.line.insert("similarity".into(), json!(rounded(similarity)));
    }

    fn similarity(&self) -> f64 {
        self.line.get("similarity").and_then(Value::as_f64).unwrap_or(f64::NEG_INFINITY)
    }

    /// Writes its line.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> std::io::Result<()> {
        serde_json::to_writer(&mut *out, &self.line)?;
        out.write_all(b"\n")
    }
}

/// Streams the questions of a unit file.
///
/// # Errors
/// When the file cannot be opened; a bad line is an error of the iterator.
pub fn read_judged(path: &Path) -> Result<LineFile<Judged>, DataError> {
    let parse = |line: &str| {
        let value = json_object(line)?;
        let reason = value.get("reason").and_then(|r| Reason::deserialize(r).ok());
        let Value::Object(line) = value else { unreachable!("checked above") };
        Ok(Judged { reason, ..Judged::new(line)? })
    };
    LineFile::open(path, BadLines::Stop, Box::new(parse))
}

/// What a product of a count and a share may be off by: 0.07 of 100 is 7, not 8.
const ROUNDING: f64 = 1e-6;

/// The least similarity that is kept of each language, so that at most a share of its questions
/// is, those most similar to their passages.
#[derive(Debug, Clone, Default)]
pub struct Thresholds(BTreeMap<String, (u64, Vec<f64>)>);

impl Thresholds {
    /// Counts a question.
    pub fn add(&mut self, judged: &Judged) {
        let entry = self.0.entry(judged.question.lang.code().to_owned()).or_default();
        entry.0 += 1;
        if judged.reason.is_none() {
            entry.1.push(judged.similarity());
        }
    }

    /// Settles the thresholds; a part of a question is one, and equals of the last one kept are kept too.
    pub fn settle(mut self, share: f64) -> BTreeMap<String, f64> {
        let mut settled = BTreeMap::new();
        for (lang, (all, similarities)) in &mut self.0 {
            let wanted = (*all as f64 * share - ROUNDING).ceil().max(1.0) as usize;
            if wanted >= similarities.len() {
                continue;
            }
            similarities.sort_by(|a, b| b.total_cmp(a));
            settled.insert(lang.clone(), similarities[wanted - 1]);
        }
        settled
    }
}

/// Rejects a question that lies below its language's threshold.
pub fn apply(thresholds: &BTreeMap<String, f64>, judged: &mut Judged) {
    let least = thresholds.get(judged.question.lang.code());
    if least.is_some_and(|least| judged.similarity() < *least) {
        judged.reject(Reason::Share);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A question for tests.
    pub fn judged(docid: &str, lang: &str, text: &str) -> Judged {
        let line = json!({"docid": docid, "lang": lang, "text": text});
        Judged::new(line.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_verdict_is_in_the_line_and_read_back() {
        let mut one = judged("p", "te", "x?");
        one.found(3, 0.5);
        one.reject(Reason::NearDuplicate);
        one.reject(Reason::Copy);
        let mut bytes = Vec::new();
        one.write(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with("\"rank\":3,\"similarity\":0.5,\"reason\":\"near-duplicate\"}\n"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.jsonl");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read_judged(&path).unwrap().next().unwrap().unwrap(), one);
        for reason in [Reason::Short, Reason::RoundTrip, Reason::NearDuplicate] {
            assert_eq!(json!(reason), reason.name());
        }
    }

    #[test]
    fn a_share_is_of_all_questions_of_a_language_and_ties_stay() {
        let mut all: Vec<Judged> = (0..10).map(|i| judged("p", "te", &format!("{i}"))).collect();
        for (i, one) in all.iter_mut().enumerate() {
            one.found(1, [0.9, 0.8, 0.8, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1][i]);
        }
        all[0].reject(Reason::Copy);
        let mut thresholds = Thresholds::default();
        all.iter().for_each(|one| thresholds.add(one));
        let settled = thresholds.clone().settle(0.2);
        all.iter_mut().for_each(|one| apply(&settled, one));
        let kept: Vec<usize> = (0..10).filter(|&i| all[i].reason.is_none()).collect();
        assert_eq!(kept, [1, 2, 3], "two are wanted, the third is their equal");
        assert!(thresholds.settle(1.0).is_empty());
    }

    #[test]
    fn a_share_counts_as_one_would_by_hand() {
        let kept = |all: usize, share: f64| {
            let mut questions: Vec<Judged> =
                (0..all).map(|i| judged("p", "te", &format!("{i}"))).collect();
            let mut thresholds = Thresholds::default();
            for (i, one) in questions.iter_mut().enumerate() {
                one.found(1, 1.0 / (1 + i) as f32);
                thresholds.add(one);
            }
            let settled = thresholds.settle(share);
            questions.iter_mut().for_each(|one| apply(&settled, one));
            questions.iter().filter(|one| one.reason.is_none()).count()
        };
        for (all, share, wanted) in [
            (10, 0.1, 1),
            (10, 0.2, 2),
            (10, 0.6, 6),
            (100, 0.07, 7),
            (3, 0.5, 2),
            (3, 0.01, 1),
            (3, 1.0, 3),
        ] {
            assert_eq!(kept(all, share), wanted, "{share} of {all}");
        }
    }
}
