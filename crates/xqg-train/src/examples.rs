//! Training rows as token ids: every passage once, however many rows name it, and the queries that
//! learn apart from those that are held out.

use std::collections::BTreeMap;

use xqg_data::embeddings::Side;
use xqg_data::training::{TrainingExample, TrainingPassage, read_examples};
use xqg_kernel::dropout::Key;
use xqg_model::error::ModelError;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::folder::Reader;

/// A query and the places of its passages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    /// The query's id, for messages.
    pub qid: String,
    /// Its language, where the row names it.
    pub lang: Option<String>,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Its answers, lower-cased; those that any text may hold are left out.
    pub answers: Vec<String>,
    /// All answers as they are written.
    pub written: Vec<String>,
    /// Passages that answer it, with the teacher's scores.
    pub positives: Vec<(usize, Option<f32>)>,
    /// Passages that do not.
    pub negatives: Vec<(usize, Option<f32>)>,
}

/// A passage.
#[derive(Debug, Clone, PartialEq)]
pub struct PassageTokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Title and text, in which answers are looked for.
    pub text: String,
    /// Where the text begins behind the title, in bytes.
    pub start: usize,
}

impl PassageTokens {
    /// The text without its title.
    pub fn body(&self) -> &str {
        &self.text[self.start..]
    }
}

/// All rows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// Rows that are learned from.
    pub train: Vec<Example>,
    /// Rows that are held out.
    pub held_out: Vec<Example>,
    /// All passages.
    pub passages: Vec<PassageTokens>,
    /// Texts that were cut to their greatest length.
    pub truncated: usize,
}

impl Examples {
    /// Reads and tokenizes all files of a configuration.
    ///
    /// # Errors
    /// When a file cannot be read, has a bad row, or nothing is left to learn from.
    pub fn read(config: &TrainConfig, reader: &Reader) -> Result<Self, TrainError> {
        let mut rows = Vec::new();
        for path in &config.data.train {
            rows.extend(read_examples(path)?);
        }
        refuse_no_scores(config, &rows)?;
        let mut gathered = Gathered::default();
        let examples: Vec<Example> = rows.iter().map(|row| gathered.example(row)).collect();
        let mut examples =
            Self { train: examples, held_out: Vec::new(), passages: Vec::new(), truncated: 0 };
        examples.tokenize(&rows, (gathered.texts, gathered.starts), reader)?;
        examples.split(config.data.held_out);
        if examples.train.is_empty() {
            return Err(TrainError::Setting {
                name: "data.held_out",
                expected: "a share that leaves queries to learn from",
                found: config.data.held_out.to_string(),
            });
        }
        Ok(examples)
    }

    fn tokenize(
        &mut self,
        rows: &[TrainingExample],
        (passages, starts): (Vec<String>, Vec<usize>),
        reader: &Reader,
    ) -> Result<(), ModelError> {
        let query = |row: &TrainingExample| match &row.prompt {
            Some(prompt) => format!("{prompt}{}", row.query.text),
            None => row.query.text.clone(),
        };
        let queries: Vec<String> = rows.iter().map(query).collect();
        let queries = reader.tokens(Side::Query, &queries)?;
        let tokens = reader.tokens(Side::Passage, &passages)?;
        let cut =
            |tokens: &[xqg_model::tokenizer::Tokens]| tokens.iter().filter(|t| t.truncated).count();
        self.truncated = cut(&queries) + cut(&tokens);
        for (example, tokens) in self.train.iter_mut().zip(queries) {
            example.ids = tokens.ids;
        }
        let passage = |((tokens, text), start): ((xqg_model::tokenizer::Tokens, String), usize)| {
            PassageTokens { ids: tokens.ids, text, start }
        };
        self.passages = tokens.into_iter().zip(passages).zip(starts).map(passage).collect();
        Ok(())
    }

    /// Holds queries out by a hash of their id, so that another order of rows holds out the same.
    fn split(&mut self, share: f64) {
        let all = std::mem::take(&mut self.train);
        (self.held_out, self.train) =
            all.into_iter().partition(|example| is_held_out(&example.qid, share));
    }
}

/// A teacher that says nothing about any passage teaches nothing.
fn refuse_no_scores(config: &TrainConfig, rows: &[TrainingExample]) -> Result<(), TrainError> {
    let scored = |row: &TrainingExample| {
        row.positives.iter().chain(&row.negatives).any(|passage| passage.score.is_some())
    };
    if config.loss.distil.is_none() || rows.iter().any(scored) {
        return Ok(());
    }
    Err(TrainError::Setting {
        name: "loss.distil",
        expected: "rows with a teacher's scores; `xqg teach` writes a generator's into them",
        found: "none with any".into(),
    })
}

/// Whether a query belongs to the share that is held out.
pub(crate) fn is_held_out(qid: &str, share: f64) -> bool {
    let key = qid.bytes().fold(Key::new(0x7856), |key, byte| key.part(u64::from(byte)));
    share > 0.0 && key.number() < (share * u64::MAX as f64) as u64
}

/// Passages by docid and text, in the order of their first row.
#[derive(Default)]
struct Gathered {
    places: BTreeMap<(String, String), usize>,
    texts: Vec<String>,
    starts: Vec<usize>,
}

impl Gathered {
    fn example(&mut self, row: &TrainingExample) -> Example {
        let mut places = |passages: &[TrainingPassage]| -> Vec<(usize, Option<f32>)> {
            passages.iter().map(|p| (self.place(p), p.score)).collect()
        };
        let (positives, negatives) = (places(&row.positives), places(&row.negatives));
        Example {
            qid: row.query.qid.clone(),
            lang: row.query.lang.map(|lang| lang.code().to_owned()),
            ids: Vec::new(),
            written: row.query.answers.clone(),
            answers: row.query.answers.iter().filter_map(|a| telling(a)).collect(),
            positives,
            negatives,
        }
    }

    fn place(&mut self, passage: &TrainingPassage) -> usize {
        let text = passage.passage.encoder_text();
        let key = (passage.passage.docid.clone(), text.clone());
        let next = self.texts.len();
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.starts.push(text.len() - passage.passage.text.len());
            self.texts.push(text);
        }
        place
    }
}

/// An answer that says something about a passage which holds it.
fn telling(answer: &str) -> Option<String> {
    let answer = answer.trim().to_lowercase();
    let empty = answer.chars().count() < 2 || matches!(&*answer, "yes" | "no" | "unknown");
    (!empty).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_any_text_may_hold_do_not_tell() {
        assert_eq!(telling(" Oslo "), Some("oslo".to_owned()));
        for empty in ["yes", "No", "unknown", "7", ""] {
            assert_eq!(telling(empty), None);
        }
    }
}
