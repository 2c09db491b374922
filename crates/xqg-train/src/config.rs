//! `train.toml`: everything that decides a training run. Unknown keys are refused, so that a
//! misspelt one is not silently the default.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::optimiser::Decay;

/// Tokens of a query where nobody says a number, as in the reference recipe of xQG.
pub const QUERY_TOKENS: usize = 32;

/// Tokens of a passage where nobody says a number.
pub const PASSAGE_TOKENS: usize = 128;

/// A training run of a retriever.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The base model: a folder, as `xqg model get` prints it.
    pub model: PathBuf,
    /// Where the run lies: state, log, and the best and last checkpoints.
    pub out: PathBuf,
    /// Training rows: what is learned from.
    #[serde(default)]
    pub data: DataConfig,
    /// Instead of rows: questions over a whole corpus, whose embeddings stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusConfig>,
    /// How the network is used.
    #[serde(default)]
    pub encoder: EncoderConfig,
    /// What one step looks at.
    #[serde(default)]
    pub batch: BatchConfig,
    /// What is asked of the embeddings.
    #[serde(default)]
    pub loss: LossConfig,
    /// How parameters follow their gradients.
    #[serde(default)]
    pub optimiser: OptimiserConfig,
    /// How long, and how often to look.
    #[serde(default)]
    pub run: RunConfig,
}

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Files of training rows: Tevatron's, FlagEmbedding's or sentence-transformers' shape.
    #[serde(default)]
    pub train: Vec<PathBuf>,
    /// Share of the queries that is held out to validate with, chosen by a hash of the query's id.
    #[serde(default = "tenth")]
    pub held_out: f64,
    /// Licence of the data, for the model card.
    #[serde(default)]
    pub licence: Option<String>,
}

fn once() -> f64 {
    1.0
}

fn tenth() -> f64 {
    0.1
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { train: Vec::new(), held_out: tenth(), licence: None }
    }
}

/// `[corpus]`: the queries' network learns against all passages of a corpus, the passages' stays.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// The passages: BEIR JSON lines.
    pub texts: PathBuf,
    /// Their embeddings by the base model, as `xqg encode` or `xqg index export` writes them; by
    /// default they are made when the run begins.
    #[serde(default)]
    pub embeddings: Option<PathBuf>,
    /// Questions, with answers where these are known: XOR-TyDi or BEIR JSON lines.
    #[serde(default)]
    pub questions: Vec<PathBuf>,
    /// Lines of question TAB translation: what the teacher reads.
    #[serde(default)]
    pub translations: Vec<PathBuf>,
    /// Questions of these files are left out: those to be evaluated with.
    #[serde(default)]
    pub leave_out: Vec<PathBuf>,
    /// Added to the teacher's score, over its temperature, of a passage that holds an answer.
    #[serde(default)]
    pub answer_bonus: f64,
    /// What the logarithm of how many answers of the training questions a passage holds is worth in
    /// the teacher's score.
    #[serde(default)]
    pub answer_prior: f64,
    /// How many times a question whose answer is known to lie in some passage counts.
    #[serde(default = "once")]
    pub answer_weight: f64,
    /// The teacher's temperature; by default that of the loss.
    #[serde(default)]
    pub teacher_temperature: Option<f64>,
}

/// `[encoder]`: what is not said is as the model's folder says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// One network for queries and passages, or one each.
    pub untied: bool,
    /// `mean` or `cls`.
    pub pooling: Option<PoolingName>,
    /// Whether embeddings are scaled to length one.
    pub normalize: Option<bool>,
    /// What is put before a query.
    pub query_prefix: Option<String>,
    /// What is put before a passage.
    pub passage_prefix: Option<String>,
    /// Rate of dropout; by default that of the model's `config.json`.
    pub dropout: Option<f32>,
    /// Leaves the word, position and type embeddings as they are.
    pub freeze_embeddings: bool,
}

/// How token states become a vector, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolingName {
    /// The mean over all tokens.
    Mean,
    /// The first token.
    Cls,
}

/// `[batch]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Queries of a step.
    pub queries: usize,
    /// Passages a query: one positive, the rest hard negatives.
    pub passages: usize,
    /// The most tokens of a query; by default [`QUERY_TOKENS`] or the model's limit.
    pub query_tokens: Option<usize>,
    /// The most tokens of a passage; by default [`PASSAGE_TOKENS`] or the model's limit.
    pub passage_tokens: Option<usize>,
    /// Tokens whose inner states are held at once; more than that are encoded twice.
    pub chunk_tokens: usize,
    /// Keep layer inputs only: a sixth of the memory, a third more time.
    pub checkpoint_layers: bool,
    /// Batches whose gradients are added before a step; negatives stay within each.
    pub accumulate: usize,
    /// Memory that training may use, in MB; by default what the machine has free.
    pub memory_mb: Option<u64>,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            queries: 32,
            passages: 2,
            query_tokens: None,
            passage_tokens: None,
            chunk_tokens: 8192,
            checkpoint_layers: false,
            accumulate: 1,
            memory_mb: None,
        }
    }
}

/// `[loss]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Scores are divided by it; by default 0.05 for embeddings of length one and 1 for others.
    pub temperature: Option<f64>,
    /// Weight of InfoNCE.
    pub contrastive: f64,
    /// Passages that score above the positive by more than this are no negatives (cosine or dot
    /// product, before the temperature).
    pub false_negative_margin: Option<f64>,
    /// Passages that hold an answer of a query are no negatives of it.
    pub mask_answers: bool,
    /// How a teacher's scores are learned, where rows have them.
    pub distil: Option<Distil>,
    /// Weight of that.
    pub distil_weight: f64,
    /// Temperature of the teacher's scores.
    pub teacher_temperature: f64,
    /// Weight of the alignment of questions that share a positive passage across languages.
    pub alignment: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            temperature: None,
            contrastive: 1.0,
            false_negative_margin: None,
            mask_answers: true,
            distil: None,
            distil_weight: 1.0,
            teacher_temperature: 1.0,
            alignment: 0.0,
        }
    }
}

/// The loss over a teacher's scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distil {
    /// Of the distributions over a query's candidates.
    Kl,
    /// Of the margins between positive and negatives.
    MarginMse,
}

/// `[optimiser]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimiserConfig {
    /// The greatest learning rate.
    pub learning_rate: f64,
    /// Share of all steps over which it rises to that.
    pub warmup: f64,
    /// How it goes on.
    pub decay: Decay,
    /// Weight decay of weights and tables.
    pub weight_decay: f32,
    /// Gradients longer than this are shortened.
    pub clip: f64,
    /// How slowly the moments forget.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
}

impl Default for OptimiserConfig {
    fn default() -> Self {
        Self {
            learning_rate: 2e-5,
            warmup: 0.1,
            decay: Decay::Linear,
            weight_decay: 0.01,
            clip: 1.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
        }
    }
}

impl OptimiserConfig {
    /// Checks numbers that no run can have.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        share("optimiser.warmup", self.warmup)?;
        positive("optimiser.learning_rate", self.learning_rate)?;
        positive("optimiser.clip", self.clip)?;
        not_negative("optimiser.weight_decay", f64::from(self.weight_decay))?;
        self.betas.iter().try_for_each(|&beta| share("optimiser.betas", f64::from(beta)))?;
        positive("optimiser.eps", f64::from(self.eps))
    }
}

/// `[run]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Passes over the training rows.
    pub epochs: f64,
    /// Steps; instead of epochs.
    pub steps: Option<u64>,
    /// Decides order, negatives and dropout.
    pub seed: u64,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Steps between two saves of the state.
    pub save_every: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { epochs: 3.0, steps: None, seed: 42, validate_every: 100, save_every: 100 }
    }
}

impl TrainConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, has an unknown key or a number that cannot be meant.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path)
            .map_err(xqg_data::error::DataError::io("reading", path))?;
        let config: Self = toml::from_str(&text).map_err(|error| TrainError::Unexpected {
            path: path.to_path_buf(),
            expected: "the keys of a training run".into(),
            found: error.to_string().trim_end().to_owned(),
            hint: "docs/training.md lists every key with its default",
        })?;
        config.check()?;
        Ok(config)
    }

    /// The files that are learned from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let corpus = self.corpus.iter().flat_map(|corpus| {
            let given = corpus.embeddings.iter().filter(|path| path.is_file());
            let all = corpus.questions.iter().chain(&corpus.translations);
            std::iter::once(&corpus.texts).chain(given).chain(all)
        });
        self.data.train.iter().chain(corpus)
    }

    /// Checks numbers that no run can have.
    ///
    /// # Errors
    /// Names the first of them.
    pub fn check(&self) -> Result<(), TrainError> {
        let (batch, run, loss) = (&self.batch, &self.run, &self.loss);
        at_least_one("batch.queries", batch.queries)?;
        at_least_one("batch.passages", batch.passages)?;
        at_most("batch.queries", batch.queries, MOST_TEXTS)?;
        at_most("batch.passages", batch.passages, MOST_TEXTS)?;
        at_least_one("batch.chunk_tokens", batch.chunk_tokens)?;
        at_least_one("batch.accumulate", batch.accumulate)?;
        at_least_one("run.save_every", run.save_every as usize)?;
        at_least_one("run.validate_every", run.validate_every as usize)?;
        let sources = self.data.train.len() + usize::from(self.corpus.is_some());
        at_least_one("data.train", sources)?;
        self.check_corpus()?;
        at_least_one("run.steps", run.steps.map_or(1, |n| n as usize))?;
        share("data.held_out", self.data.held_out)?;
        share("encoder.dropout", f64::from(self.encoder.dropout.unwrap_or(0.0)))?;
        self.optimiser.check()?;
        positive("run.epochs", run.epochs)?;
        positive("loss.temperature", loss.temperature.unwrap_or(1.0))?;
        positive("loss.teacher_temperature", loss.teacher_temperature)?;
        not_negative("loss.false_negative_margin", loss.false_negative_margin.unwrap_or(0.0))?;
        self.check_weights()
    }

    /// Some loss must be there to learn from.
    fn check_weights(&self) -> Result<(), TrainError> {
        let loss = &self.loss;
        not_negative("loss.contrastive", loss.contrastive)?;
        not_negative("loss.distil_weight", loss.distil_weight)?;
        not_negative("loss.alignment", loss.alignment)?;
        let told = loss.distil.map_or(0.0, |_| loss.distil_weight);
        if self.corpus.is_some() || loss.contrastive + told + loss.alignment > 0.0 {
            return Ok(());
        }
        Err(TrainError::Setting {
            name: "loss",
            expected: "a weight above 0 for contrastive, alignment or, with `distil`, distil_weight",
            found: "none".into(),
        })
    }
}

impl TrainConfig {
    /// `[corpus]` has one network that learns and one target; other wishes would be passed over.
    fn check_corpus(&self) -> Result<(), TrainError> {
        let Some(corpus) = &self.corpus else { return Ok(()) };
        let refuse = |name, found: &dyn std::fmt::Debug| {
            let expected = "nothing of it beside [corpus]";
            Err(TrainError::Setting { name, expected, found: format!("{found:?}") })
        };
        if !self.data.train.is_empty() {
            return refuse("data.train", &self.data.train);
        }
        if self.encoder.untied {
            return refuse("encoder.untied", &true);
        }
        if self.loss.distil.is_some() || self.loss.alignment > 0.0 {
            return refuse("loss.distil or loss.alignment", &self.loss);
        }
        let files = corpus.questions.len() + corpus.translations.len();
        at_least_one("corpus.questions or corpus.translations", files)?;
        positive("corpus.teacher_temperature", corpus.teacher_temperature.unwrap_or(1.0))?;
        not_negative("corpus.answer_bonus", corpus.answer_bonus)?;
        not_negative("corpus.answer_prior", corpus.answer_prior)?;
        positive("corpus.answer_weight", corpus.answer_weight)
    }
}

fn not_negative(name: &'static str, value: f64) -> Result<(), TrainError> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(TrainError::Setting { name, expected: "0 or more", found: value.to_string() })
}

/// Queries of a batch, and passages of a query: more are a slip.
const MOST_TEXTS: usize = 1 << 24;

fn at_most(name: &'static str, value: usize, most: usize) -> Result<(), TrainError> {
    if value <= most {
        return Ok(());
    }
    Err(TrainError::Setting { name, expected: "16,777,216 or less", found: value.to_string() })
}

pub(crate) fn at_least_one(name: &'static str, value: usize) -> Result<(), TrainError> {
    if value > 0 {
        return Ok(());
    }
    Err(TrainError::Setting { name, expected: "1 or more", found: value.to_string() })
}

pub(crate) fn share(name: &'static str, value: f64) -> Result<(), TrainError> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(TrainError::Setting { name, expected: "0 or more and below 1", found: value.to_string() })
}

pub(crate) fn positive(name: &'static str, value: f64) -> Result<(), TrainError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(TrainError::Setting { name, expected: "a number above 0", found: value.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TrainConfig, TrainError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.toml");
        std::fs::write(&path, text).unwrap();
        TrainConfig::read(&path)
    }

    const LEAST: &str = "model = \"m\"\nout = \"o\"\n[data]\ntrain = [\"t.jsonl\"]\n";

    #[test]
    fn little_is_needed_and_the_rest_has_defaults() {
        let config = read(LEAST).unwrap();
        assert_eq!((config.batch.queries, config.data.held_out), (32, 0.1));
        let again: TrainConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config, "what is written is read back");
    }

    #[test]
    fn unknown_keys_and_impossible_numbers_are_named() {
        let error = read(&format!("{LEAST}[batch]\nquerys = 3\n")).unwrap_err().to_string();
        assert!(error.contains("querys") && error.contains("line 6"), "{error}");
        for (text, name) in [
            ("[batch]\nqueries = 0\n", "batch.queries"),
            ("[batch]\npassages = 9000000000000000000\n", "batch.passages"),
            ("[loss]\ncontrastive = -1.0\n", "loss.contrastive"),
            ("[loss]\nalignment = nan\n", "loss.alignment"),
            ("[loss]\nfalse_negative_margin = -0.1\n", "false_negative_margin"),
            ("[loss]\ncontrastive = 0.0\n", "a weight above 0"),
            (
                "[loss]\ncontrastive = 0.0\ndistil = \"kl\"\ndistil_weight = 0.0\n",
                "a weight above 0",
            ),
            ("[encoder]\ndropout = 1.0\n", "dropout"),
            ("[optimiser]\nlearning_rate = nan\n", "learning_rate"),
            ("[optimiser]\nbetas = [0.9, 1.0]\n", "betas"),
            ("[optimiser]\neps = 0.0\n", "eps"),
            ("[optimiser]\nweight_decay = -0.1\n", "weight_decay"),
        ] {
            let error = read(&format!("{LEAST}{text}")).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
