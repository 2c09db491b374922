//! What writes questions, whatever it is: passages and languages in, questions out. A writer is asked
//! for a batch at a time, and what it writes for a passage does not depend on the batch.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;

/// A question that was written for a passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The language that was asked for.
    pub lang: Lang,
    /// The question.
    pub text: String,
    /// The logarithm of its probability, where a model says it.
    pub logprob: Option<f32>,
    /// Its similarity to the passage, where it was found by that.
    pub similarity: Option<f32>,
    /// Whether it ends at the greatest length and not where its writer ended it.
    pub cut: bool,
}

/// What an endpoint was asked and answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Answers that could be used.
    pub requests: u64,
    /// Requests that were made once more.
    pub retries: u64,
    /// Passages and languages for which no answer could be used.
    pub failed: u64,
    /// Answers with fewer questions than were asked for.
    pub short: u64,
    /// Tokens sent.
    pub prompt_tokens: u64,
    /// Tokens received.
    pub answer_tokens: u64,
}

impl Usage {
    /// Adds another usage.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.retries += other.retries;
        self.failed += other.failed;
        self.short += other.short;
        self.prompt_tokens += other.prompt_tokens;
        self.answer_tokens += other.answer_tokens;
    }
}

/// What was written for one passage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// Its questions, by language in the order asked.
    pub questions: Vec<Question>,
    /// Whether only the beginning of the passage was read.
    pub truncated: bool,
    /// What was asked of an endpoint.
    pub usage: Usage,
}

/// Something that writes questions.
pub trait QuestionWriter {
    /// How many passages it likes to be given at a time.
    fn batch(&self) -> usize;

    /// Writes questions in each of the languages for each of the passages.
    ///
    /// # Errors
    /// When it cannot go on; what was asked is then asked again by a later run.
    fn write(&mut self, passages: &[Passage], langs: &[Lang]) -> Result<Vec<Written>>;
}

impl Question {
    /// The question as a line of a file: what `xqg_data::generated` reads, and more.
    pub fn to_line(&self, docid: &str) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("docid".into(), json!(docid));
        line.insert("lang".into(), json!(self.lang.code()));
        line.insert("text".into(), json!(self.text));
        if let Some(logprob) = self.logprob {
            line.insert("logprob".into(), json!(rounded(logprob)));
        }
        if let Some(similarity) = self.similarity {
            line.insert("similarity".into(), json!(rounded(similarity)));
        }
        line
    }
}

/// Five digits: all that is of use, without the digits that binary numbers bring along.
pub fn rounded(x: f32) -> f64 {
    (f64::from(x) * 1e5).round() / 1e5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_line_that_is_read_back() {
        let question = Question {
            lang: "te".parse().unwrap(),
            text: "x?".into(),
            logprob: Some(-1.1),
            similarity: None,
            cut: false,
        };
        let line = Value::Object(question.to_line("p1"));
        let text = r#"{"docid":"p1","lang":"te","text":"x?","logprob":-1.1}"#;
        assert_eq!(line.to_string(), text);
        assert_eq!(xqg_data::generated::parse_generated(&line).unwrap().text, "x?");
    }
}
