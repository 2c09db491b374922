//! R@kt of XOR-TyDi: the share of questions for which an answer occurs in the first so many
//! thousand word tokens of the ranked passages (Asai et al., XOR QA: Cross-lingual Open-Retrieval
//! Question Answering, NAACL 2021, the metrics of XOR-Retrieve). The official script has quirks
//! that move the number; [`AnswerMode`] says which of them are kept.
//!
//! In both modes the texts of the passages, without titles, are tokenized one by one, joined in the
//! order of the run until the limit is reached, cut there and joined with single spaces. A question
//! is a hit when any answer is a substring of that, upper and lower case kept apart. The answer
//! itself is not tokenized, so one with punctuation may be missed although it is there. The answers
//! `yes` and `no` are not looked for; a question with no other answer is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use memchr::memmem;
use rayon::prelude::*;
use xqg_data::query::Query;
use xqg_data::run::{Run, ScoredDoc};

use crate::error::MeasureError;
use crate::passages::{JoinedTokens, Tokenize, TokenizedPassages};

/// What becomes of questions that the run does not answer properly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerMode {
    /// As the official script: a question that the run misses is left out of the mean, and an
    /// empty answer string occurs everywhere.
    #[default]
    Official,
    /// A question that the run misses is a miss, and blank answers are not looked for.
    Strict,
}

/// Tokens that one passage has at the least, for a first guess of how many passages are needed.
const TOKENS_A_PASSAGE: usize = 50;

/// Questions with their answers, and the passages read so far; scores any number of runs.
#[derive(Debug)]
pub struct AnswerRecall {
    answers: BTreeMap<String, Vec<String>>,
    skipped: Vec<String>,
    mode: AnswerMode,
    passages: TokenizedPassages,
}

/// What one run scores on every question that counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerScores {
    /// For each question, in the order of the ids: a hit or not at each limit asked for.
    pub hits: Vec<(String, Vec<bool>)>,
    /// For each limit asked for, the questions whose ranking ends before it.
    pub short: Vec<Vec<String>>,
    /// Questions that can be scored but have no ranking.
    pub missing: Vec<String>,
    /// Rankings without a question.
    pub not_asked: Vec<String>,
}

impl AnswerRecall {
    /// Takes the answers of the questions; no passage is read yet.
    pub fn new(queries: &[Query], corpus: &Path, mode: AnswerMode, tokenize: Tokenize) -> Self {
        let mut answers = BTreeMap::new();
        let mut skipped = BTreeSet::new();
        for query in queries {
            let wanted: Vec<String> =
                query.answers.iter().filter(|a| is_looked_for(a, mode)).cloned().collect();
            if wanted.is_empty() {
                skipped.insert(query.qid.clone());
            } else {
                answers.insert(query.qid.clone(), wanted);
            }
        }
        let passages = TokenizedPassages::new(corpus, tokenize);
        Self { answers, skipped: skipped.into_iter().collect(), mode, passages }
    }

    /// The questions that are never scored, for they have no answer to look for.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// How missing questions and blank answers are treated.
    pub fn mode(&self) -> AnswerMode {
        self.mode
    }

    /// Whether a run has a ranking for any question that can be scored.
    pub fn shares_a_question(&self, run: &Run) -> bool {
        self.answers.keys().any(|qid| run.get(qid).is_some())
    }

    /// Reads from the corpus what these runs need to fill `limit` tokens. How many passages that
    /// takes is known only once they are tokenized: a first guess is loaded, and where it was too
    /// low, twice as many more, until every ranking is filled or ends.
    ///
    /// # Errors
    /// When the corpus cannot be read or lacks a passage of a run.
    pub fn load(&mut self, runs: &[&Run], limit: usize) -> Result<(), MeasureError> {
        let mut more = limit / TOKENS_A_PASSAGE + 1;
        loop {
            let mut wanted = BTreeSet::new();
            for run in runs {
                for ranking in self.answers.keys().filter_map(|qid| run.get(qid)) {
                    wanted.extend(self.unread(ranking, limit, more));
                }
            }
            if wanted.is_empty() {
                return Ok(());
            }
            self.passages.load(wanted)?;
            more = more.saturating_mul(2);
        }
    }

    /// The passages of a ranking that must be read next to get to `limit`: none once it is reached.
    fn unread<'r>(&self, ranking: &'r [ScoredDoc], limit: usize, more: usize) -> Vec<&'r str> {
        let mut room = limit;
        let mut read = 0;
        for passage in ranking.iter().map_while(|doc| self.passages.get(&doc.docid)) {
            room = room.saturating_sub(passage.count());
            read += 1;
            if room == 0 {
                return Vec::new();
            }
        }
        let next = ranking.iter().skip(read).take(more).map(|doc| doc.docid.as_str());
        next.filter(|docid| self.passages.get(docid).is_none()).collect()
    }

    /// Scores a run at each limit, given in tokens. Call [`load`](Self::load) with the greatest of
    /// them first: a passage that was not loaded counts as empty.
    pub fn score(&self, run: &Run, limits: &[usize]) -> AnswerScores {
        let mut scores =
            AnswerScores { short: vec![Vec::new(); limits.len()], ..Default::default() };
        let questions: Vec<_> = self.answers.iter().collect();
        let scored: Vec<_> = questions
            .into_par_iter()
            .map(|(qid, answers)| (qid, run.get(qid).map(|r| self.question(r, answers, limits))))
            .collect();
        for (qid, outcome) in scored {
            match outcome {
                Some(outcome) => scores.add(qid, outcome, limits),
                None => scores.add_missing(qid, limits, self.mode),
            }
        }
        let qids = run.iter().map(|(qid, _)| qid);
        scores.not_asked = qids.filter(|qid| !self.is_asked(qid)).map(str::to_owned).collect();
        scores
    }

    fn is_asked(&self, qid: &str) -> bool {
        let skipped = || self.skipped.binary_search_by(|s| s.as_str().cmp(qid)).is_ok();
        self.answers.contains_key(qid) || skipped()
    }

    fn question(&self, ranking: &[ScoredDoc], answers: &[String], limits: &[usize]) -> Outcome {
        let limit = limits.iter().copied().max().unwrap_or(0);
        let mut read = JoinedTokens::default();
        for passage in ranking.iter().filter_map(|doc| self.passages.get(&doc.docid)) {
            if read.count() >= limit {
                break;
            }
            read.push(passage);
        }
        let end = answers.iter().filter_map(|answer| first_end(read.text(), answer)).min();
        let hit = |&limit: &usize| end.is_some_and(|end| end <= read.cut(limit));
        Outcome { hits: limits.iter().map(hit).collect(), tokens: read.count() }
    }
}

/// One question in one run.
struct Outcome {
    /// A hit or not at each limit.
    hits: Vec<bool>,
    /// The tokens of the ranking, counted until the greatest limit is reached.
    tokens: usize,
}

impl AnswerScores {
    fn add(&mut self, qid: &str, outcome: Outcome, limits: &[usize]) {
        self.hits.push((qid.to_owned(), outcome.hits));
        for (short, &limit) in self.short.iter_mut().zip(limits) {
            if outcome.tokens < limit {
                short.push(qid.to_owned());
            }
        }
    }

    fn add_missing(&mut self, qid: &str, limits: &[usize], mode: AnswerMode) {
        self.missing.push(qid.to_owned());
        if mode == AnswerMode::Strict {
            self.hits.push((qid.to_owned(), vec![false; limits.len()]));
        }
    }
}

/// Whether a ranking of texts holds an answer in its first `limit` tokens, as the official script
/// counts it; `None` where there is no answer to look for.
pub fn holds_an_answer<'a>(
    texts: impl IntoIterator<Item = &'a JoinedTokens>,
    answers: &[String],
    limit: usize,
) -> Option<bool> {
    let answers: Vec<&String> =
        answers.iter().filter(|a| is_looked_for(a, AnswerMode::Official)).collect();
    let mut read = JoinedTokens::default();
    for text in texts {
        if read.count() >= limit {
            break;
        }
        read.push(text);
    }
    let end = answers.iter().filter_map(|answer| first_end(read.text(), answer)).min();
    (!answers.is_empty()).then(|| end.is_some_and(|end| end <= read.cut(limit)))
}

fn is_looked_for(answer: &str, mode: AnswerMode) -> bool {
    let blank = mode == AnswerMode::Strict && answer.trim().is_empty();
    !blank && answer != "yes" && answer != "no"
}

/// Where the first occurrence of an answer ends.
fn first_end(text: &str, answer: &str) -> Option<usize> {
    memmem::find(text.as_bytes(), answer.as_bytes()).map(|start| start + answer.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    fn query(qid: &str, answers: &[&str]) -> Query {
        let answers = answers.iter().map(|&a| a.to_owned()).collect();
        Query { qid: qid.to_owned(), lang: None, text: "?".to_owned(), answers }
    }

    /// Passages `p0`, `p1`, ... of three tokens each; the run ranks them in this order.
    fn corpus(passages: usize) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.jsonl");
        let line =
            |i| format!("{{\"_id\":\"p{i}\",\"title\":\"T{i}\",\"text\":\"a{i} b{i} c{i}\"}}\n");
        std::fs::write(&path, (0..passages).map(line).collect::<String>()).unwrap();
        (folder, path)
    }

    fn run(qids: &[&str], passages: usize) -> Run {
        let doc = |i: usize| ScoredDoc { docid: format!("p{i}"), score: -(i as f64) };
        let mut run = Run::default();
        qids.iter().for_each(|qid| run.insert(qid, (0..passages).map(doc).collect()));
        run
    }

    #[test]
    fn answers_may_cross_passages_but_not_the_limit() {
        let (_folder, path) = corpus(4);
        let questions = [
            query("1", &["c0 a1"]),
            query("2", &["b3"]),
            query("3", &["T1", "C0"]),
            query("4", &["c0 "]),
        ];
        let mut recall = AnswerRecall::new(&questions, &path, AnswerMode::Official, split);
        let run = run(&["1", "2", "3", "4"], 4);
        recall.load(&[&run], 12).unwrap();
        let scores = recall.score(&run, &[3, 4, 10, 11, 12]);
        let hits = |i: usize| scores.hits[i].1.clone();
        assert_eq!(hits(0), [false, true, true, true, true]);
        assert_eq!(hits(1), [false, false, false, true, true]);
        assert_eq!(hits(3), [false, true, true, true, true], "no space stands at the end");
        assert_eq!(hits(2), [false; 5], "neither titles nor another case may hit");
    }

    #[test]
    fn passages_are_read_until_the_limit_and_not_beyond() {
        let (_folder, path) = corpus(900);
        let mut recall =
            AnswerRecall::new(&[query("1", &["x"])], &path, AnswerMode::Official, split);
        let run = run(&["1"], 900);
        recall.load(&[&run], 500).unwrap();
        let loaded = (0..900).filter(|i| recall.passages.get(&format!("p{i}")).is_some()).count();
        assert!((167..400).contains(&loaded), "{loaded} passages for 500 tokens of 3 each");
        assert_eq!(recall.score(&run, &[500]).short, [Vec::<String>::new()]);
    }

    #[test]
    fn the_modes_differ_in_missing_questions_and_blank_answers() {
        let (_folder, path) = corpus(1);
        let questions =
            [query("gone", &["a0"]), query("blank", &[""]), query("yes", &["yes", "no"])];
        let run = run(&["blank", "yes", "other"], 1);
        let score = |mode| {
            let mut recall = AnswerRecall::new(&questions, &path, mode, split);
            recall.load(&[&run], 3).unwrap();
            (recall.skipped().to_vec(), recall.score(&run, &[3, 5]))
        };
        let (skipped, official) = score(AnswerMode::Official);
        assert_eq!(
            (skipped, &official.hits),
            (vec!["yes".to_owned()], &vec![("blank".to_owned(), vec![true; 2])])
        );
        assert_eq!(
            (official.missing, official.not_asked),
            (vec!["gone".to_owned()], vec!["other".to_owned()])
        );
        assert_eq!(official.short, [vec![], vec!["blank".to_owned()]]);
        let (skipped, strict) = score(AnswerMode::Strict);
        assert_eq!(skipped, ["blank", "yes"]);
        assert_eq!(strict.hits, [("gone".to_owned(), vec![false; 2])]);
    }
}
