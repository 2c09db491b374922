//! Questions by a generator of `xqg-model`: here only what its words mean for the loop.

use anyhow::Result;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xqg_model::generator::{self, Decoding, Generator};

use super::writer::{Question, QuestionWriter, Written};

/// Passages that a generator is given at a time: enough to fill its matrix products, few enough that
/// progress is seen.
const BATCH: usize = 32;

/// A model that writes questions.
pub struct Neural<'a> {
    /// The model.
    pub generator: &'a Generator,
    /// How it decodes.
    pub decoding: &'a Decoding,
}

impl QuestionWriter for Neural<'_> {
    fn batch(&self) -> usize {
        BATCH
    }

    fn write(&mut self, passages: &[Passage], langs: &[Lang]) -> Result<Vec<Written>> {
        let written = self.generator.write(passages, langs, self.decoding)?;
        Ok(written.into_iter().map(Written::from).collect())
    }
}

impl From<generator::Written> for Written {
    fn from(written: generator::Written) -> Self {
        let question = |q: generator::Question| Question {
            lang: q.lang,
            text: q.text,
            logprob: Some(q.logprob),
            similarity: None,
            cut: q.cut,
        };
        Self {
            questions: written.questions.into_iter().map(question).collect(),
            truncated: written.truncated,
            ..Self::default()
        }
    }
}
