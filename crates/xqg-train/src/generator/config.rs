//! `generator.toml`: everything that decides a generator's training. Unknown keys are refused.

use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use xqg_data::embeddings::Side;
use xqg_data::error::DataError;
use xqg_data::lang::Lang;

use crate::config::{OptimiserConfig, at_least_one, positive, share};
use crate::error::TrainError;
use crate::optimiser::Decay;

/// A training run of a generator.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// The retriever whose frozen encoder the generator stands on; empty where `model` is named.
    #[serde(default)]
    pub encoder: PathBuf,
    /// A T5 or mT5 that is trained as a whole, in place of a decoder over an encoder.
    #[serde(default)]
    pub model: Option<PathBuf>,
    /// Where the run lies: state, log, and the best and last models.
    pub out: PathBuf,
    /// The languages that it learns to write.
    pub langs: Vec<Lang>,
    /// What it learns from.
    pub tasks: Vec<TaskConfig>,
    /// Where questions are held out and states kept.
    #[serde(default)]
    pub data: SourcesConfig,
    /// Shape and dropout.
    #[serde(default)]
    pub decoder: DecoderConfig,
    /// Tokens and loss of a step.
    #[serde(default)]
    pub batch: GeneratorBatch,
    /// What is asked of the text.
    #[serde(default)]
    pub loss: GeneratorLoss,
    /// How parameters follow their gradients.
    #[serde(default = "optimiser", deserialize_with = "over_defaults")]
    pub optimiser: OptimiserConfig,
    /// How long, and how often to look.
    #[serde(default)]
    pub run: GeneratorRun,
}

/// `[[tasks]]`: rows of one kind.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Its name in the log.
    pub name: String,
    /// JSON lines with `docid` or `source`, `lang` and `text`.
    pub files: Vec<PathBuf>,
    /// The passages that docids name.
    #[serde(default)]
    pub corpus: Option<PathBuf>,
    /// As what the encoder reads the sources: `passage` or `query`.
    pub side: SideName,
    /// Its share of a step's questions, against the other tasks' weights.
    #[serde(default = "one")]
    pub weight: f64,
    /// Its weight in the validation loss; by default the same.
    #[serde(default)]
    pub judged: Option<f64>,
}

/// A side of a retriever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SideName {
    /// As a query.
    Query,
    /// As a passage.
    Passage,
}

impl From<SideName> for Side {
    fn from(name: SideName) -> Self {
        match name {
            SideName::Query => Self::Query,
            SideName::Passage => Self::Passage,
        }
    }
}

fn one() -> f64 {
    1.0
}

fn optimiser() -> OptimiserConfig {
    OptimiserConfig {
        learning_rate: 1e-3,
        warmup: 0.05,
        decay: Decay::Linear,
        betas: [0.9, 0.98],
        ..OptimiserConfig::default()
    }
}

/// What a file says of the optimiser; what it does not say is a generator's default, not a retriever's.
fn over_defaults<'de, D: Deserializer<'de>>(from: D) -> Result<OptimiserConfig, D::Error> {
    let mut said = toml::Table::deserialize(from)?;
    let defaults = toml::Table::try_from(optimiser()).map_err(D::Error::custom)?;
    for (key, value) in defaults {
        said.entry(key).or_insert(value);
    }
    said.try_into().map_err(D::Error::custom)
}

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourcesConfig {
    /// Share of sources, and of questions, whose rows are held out, by a hash of the text.
    pub held_out: f64,
    /// Where the encoder's states are kept; by default in the run's folder.
    pub states: Option<PathBuf>,
    /// The encoder's arithmetic while it reads the sources: `f32` or `int8`.
    pub precision: String,
    /// Licence of the data, for the model card.
    pub licence: Option<String>,
    /// The most tokens that a T5 reads of a source, the words of its prompt counted.
    pub prompt_tokens: usize,
}

impl Default for SourcesConfig {
    fn default() -> Self {
        let (precision, prompt_tokens) = ("f32".into(), 192);
        Self { held_out: 0.01, states: None, precision, licence: None, prompt_tokens }
    }
}

/// `[decoder]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderConfig {
    /// Number of layers.
    pub layers: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Length of the inner state; by default four times the encoder's state.
    pub inner: Option<usize>,
    /// The most tokens of a question, its language and its end included.
    pub positions: usize,
    /// Share of the states' numbers that is left out while learning.
    pub dropout: f32,
    /// Share of a source's tokens that the decoder does not see while learning.
    pub source_dropout: f32,
    /// A token that occurs fewer times in all questions is written in smaller ones.
    pub least: u64,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            layers: 3,
            heads: 6,
            inner: None,
            positions: 40,
            dropout: 0.1,
            source_dropout: 0.0,
            least: 1,
        }
    }
}

/// `[batch]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorBatch {
    /// Questions of a step.
    pub questions: usize,
    /// Questions that go through a T5 at a time: memory for speed.
    pub at_once: usize,
}

impl Default for GeneratorBatch {
    fn default() -> Self {
        Self { questions: 128, at_once: 8 }
    }
}

/// `[loss]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorLoss {
    /// Share of the probability that is asked to lie evenly on all tokens (Szegedy et al. 2016).
    pub label_smoothing: f32,
    /// Which tokens a question is told apart from.
    pub output: Output,
}

impl Default for GeneratorLoss {
    fn default() -> Self {
        Self { label_smoothing: 0.1, output: Output::Full }
    }
}

/// The tokens under a softmax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// The whole vocabulary.
    Full,
    /// Those that occur in the question's language: several times faster; such a model is to be used
    /// with its shortlists.
    Shortlist,
}

/// `[run]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorRun {
    /// Steps.
    pub steps: u64,
    /// Decides first numbers, order and dropout.
    pub seed: u64,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Held-out questions of a task that a validation looks at.
    pub validate_on: usize,
    /// Steps between two saves of the state.
    pub save_every: u64,
    /// Validations without a better one after which the run ends; 0 for never.
    pub patience: u64,
}

impl Default for GeneratorRun {
    fn default() -> Self {
        Self {
            steps: 5000,
            seed: 42,
            validate_every: 250,
            validate_on: 500,
            save_every: 250,
            patience: 5,
        }
    }
}

impl GeneratorConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, has an unknown key or a number that cannot be meant.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(DataError::io("reading", path))?;
        let config: Self = toml::from_str(&text).map_err(|error| TrainError::Unexpected {
            path: path.to_path_buf(),
            expected: "the keys of a generator's training".into(),
            found: error.to_string().trim_end().to_owned(),
            hint: "docs/training.md lists every key with its default",
        })?;
        config.check()?;
        Ok(config)
    }

    /// What is trained: a decoder over an encoder, or a T5, whose softmax is over all its tokens.
    fn check_base(&self) -> Result<(), TrainError> {
        let refuse = |name, expected, found: &str| {
            Err(TrainError::Setting { name, expected, found: found.to_owned() })
        };
        let expected = "either `encoder`, to stand on, or `model`, a T5 to train";
        match (self.encoder.as_os_str().is_empty(), &self.model) {
            (true, None) => refuse("encoder", expected, "neither"),
            (false, Some(_)) => refuse("encoder", expected, "both"),
            (_, Some(_)) if self.loss.output == Output::Shortlist => {
                refuse("loss.output", "full, for a T5", "shortlist")
            }
            _ => Ok(()),
        }
    }

    /// Checks numbers that no run can have.
    ///
    /// # Errors
    /// Names the first of them.
    pub fn check(&self) -> Result<(), TrainError> {
        self.check_base()?;
        let (decoder, run) = (&self.decoder, &self.run);
        at_least_one("langs", self.langs.len())?;
        at_least_one("tasks", self.tasks.len())?;
        at_least_one("decoder.layers", decoder.layers)?;
        at_least_one("decoder.heads", decoder.heads)?;
        at_least_one("decoder.positions", decoder.positions.saturating_sub(2))?;
        at_least_one("batch.questions", self.batch.questions)?;
        at_least_one("batch.at_once", self.batch.at_once)?;
        at_least_one("data.prompt_tokens", self.data.prompt_tokens.saturating_sub(1))?;
        at_least_one("run.steps", run.steps as usize)?;
        at_least_one("run.validate_every", run.validate_every as usize)?;
        at_least_one("run.save_every", run.save_every as usize)?;
        share("data.held_out", self.data.held_out)?;
        share("decoder.dropout", f64::from(decoder.dropout))?;
        share("decoder.source_dropout", f64::from(decoder.source_dropout))?;
        share("loss.label_smoothing", f64::from(self.loss.label_smoothing))?;
        self.optimiser.check()?;
        self.tasks.iter().try_for_each(|task| positive("tasks.weight", task.weight))?;
        let mut seen = std::collections::BTreeSet::new();
        match self.langs.iter().find(|lang| !seen.insert(lang.code())) {
            Some(lang) => Err(TrainError::Setting {
                name: "langs",
                expected: "each language once",
                found: lang.code().to_owned(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_of_the_optimiser_is_a_generators_default() {
        let least = "out = \"o\"\nlangs = [\"te\"]\ntasks = []\n";
        let read = |more: &str| toml::from_str::<GeneratorConfig>(&format!("{least}{more}"));
        assert_eq!(read("").unwrap().optimiser, optimiser());
        let said = read("[optimiser]\nlearning_rate = 3e-4\n").unwrap();
        assert_eq!(said.optimiser, OptimiserConfig { learning_rate: 3e-4, ..optimiser() });
        let json = serde_json::to_string(&said).unwrap();
        assert_eq!(
            serde_json::from_str::<GeneratorConfig>(&json).unwrap(),
            said,
            "as a state keeps it"
        );
        assert!(read("[optimiser]\nrate = 1\n").unwrap_err().to_string().contains("rate"));
    }
}
