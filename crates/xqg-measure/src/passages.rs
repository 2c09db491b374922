//! The texts that answer-based recall reads: each passage of the corpus at most once, cut into word
//! tokens and kept as one string, so that a run scored later finds it ready. Only the passages
//! asked for are kept; the corpus itself is streamed. Titles are not read, as the official script
//! does not.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use memchr::memchr_iter;
use rayon::prelude::*;
use xqg_data::error::SHOWN_PROBLEMS;
use xqg_data::lines::BadLines;
use xqg_data::passage::read_passages;

use crate::error::MeasureError;

/// A word tokenizer: from a text to its tokens, none of which holds white space.
pub type Tokenize = fn(&str) -> Vec<&str>;

/// Passages that are tokenized together, so that all cores have work while memory stays bounded.
const BATCH: usize = 4096;

/// Word tokens joined by single spaces. No token holds a space, so the spaces are the borders and
/// no offsets need to be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinedTokens {
    text: String,
    count: usize,
}

impl JoinedTokens {
    /// Joins the tokens of a text.
    pub fn of(text: &str, tokenize: Tokenize) -> Self {
        let tokens = tokenize(text);
        debug_assert!(tokens.iter().all(|t| !t.contains(' ')), "a token holds no space");
        Self { count: tokens.len(), text: tokens.join(" ") }
    }

    /// The number of tokens.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The tokens with a space between any two.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds the tokens of another text behind its own.
    pub fn push(&mut self, other: &Self) {
        if self.count > 0 && other.count > 0 {
            self.text.push(' ');
        }
        self.text.push_str(&other.text);
        self.count += other.count;
    }

    /// The length in bytes of the first `limit` tokens, without a space behind them.
    pub fn cut(&self, limit: usize) -> usize {
        if limit >= self.count {
            return self.text.len();
        }
        let Some(border) = limit.checked_sub(1) else {
            return 0;
        };
        memchr_iter(b' ', self.text.as_bytes()).nth(border).unwrap_or(self.text.len())
    }
}

/// The tokenized passages of a corpus file, as far as they were asked for.
#[derive(Debug)]
pub struct TokenizedPassages {
    corpus: PathBuf,
    tokenize: Tokenize,
    passages: HashMap<String, JoinedTokens>,
}

impl TokenizedPassages {
    /// No passage yet; the corpus file is opened by [`load`](Self::load).
    pub fn new(corpus: &Path, tokenize: Tokenize) -> Self {
        Self { corpus: corpus.to_path_buf(), tokenize, passages: HashMap::new() }
    }

    /// A passage that was loaded before.
    pub fn get(&self, docid: &str) -> Option<&JoinedTokens> {
        self.passages.get(docid)
    }

    /// Streams the corpus until all these passages are found and keeps their tokens.
    ///
    /// # Errors
    /// When the corpus cannot be read, or lacks a passage; up to twenty docids are named.
    pub fn load(&mut self, mut wanted: BTreeSet<&str>) -> Result<(), MeasureError> {
        let mut batch = Vec::with_capacity(BATCH);
        for passage in read_passages(&self.corpus, BadLines::Stop)? {
            if wanted.is_empty() {
                break;
            }
            let passage = passage?;
            if wanted.remove(passage.docid.as_str()) {
                batch.push((passage.docid, passage.text));
            }
            if batch.len() == BATCH {
                self.keep(&mut batch);
            }
        }
        self.keep(&mut batch);
        if wanted.is_empty() { Ok(()) } else { Err(self.unknown(&wanted)) }
    }

    fn keep(&mut self, batch: &mut Vec<(String, String)>) {
        let tokenize = self.tokenize;
        let joined = batch.par_drain(..).map(|(id, text)| (id, JoinedTokens::of(&text, tokenize)));
        self.passages.par_extend(joined);
    }

    fn unknown(&self, missing: &BTreeSet<&str>) -> MeasureError {
        MeasureError::UnknownPassages {
            corpus: self.corpus.clone(),
            shown: missing.iter().take(SHOWN_PROBLEMS).map(|&id| id.to_owned()).collect(),
            total: missing.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    #[test]
    fn only_what_is_wanted_is_kept_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.jsonl");
        let line =
            |id: &str| format!("{{\"_id\":\"{id}\",\"title\":\"T\",\"text\":\"one  two\"}}\n");
        std::fs::write(&path, line("a") + &line("b")).unwrap();
        let mut passages = TokenizedPassages::new(&path, split);
        passages.load(BTreeSet::from(["b"])).unwrap();
        assert_eq!(passages.get("b").unwrap().text(), "one two");
        assert!(passages.get("a").is_none());
        let error = passages.load(BTreeSet::from(["a", "x", "y"])).unwrap_err().to_string();
        assert!(error.contains("found no x, y"), "{error}");
    }

    proptest! {
        #[test]
        fn a_cut_is_the_join_of_the_first_tokens(
            parts in proptest::collection::vec("[aé ]{0,8}", 0..6),
            limit in 0usize..20,
        ) {
            let mut joined = JoinedTokens::default();
            parts.iter().for_each(|part| joined.push(&JoinedTokens::of(part, split)));
            let tokens: Vec<&str> = parts.iter().flat_map(|part| split(part)).collect();
            prop_assert_eq!(joined.count(), tokens.len());
            let first = tokens[..limit.min(tokens.len())].join(" ");
            prop_assert_eq!(&joined.text()[..joined.cut(limit)], first);
        }
    }
}
