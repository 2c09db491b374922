//! A model folder on both sides of training: the base model with all that its folder says, and the
//! folder of a trained one, complete, so that `encode` and everybody else's tools can open it.

use std::fs;
use std::path::{Path, PathBuf};

use xqg_data::embeddings::Side;
use xqg_data::error::DataError;
use xqg_data::file::{partial_path, remove, replace_folder, write_whole};
use xqg_kernel::dropout::Rate;
use xqg_kernel::isa::Isa;
use xqg_model::checkpoint::Checkpoint;
use xqg_model::config::Config;
use xqg_model::encoder::{Encoder as Teacher, EncoderOptions};
use xqg_model::error::ModelError;
use xqg_model::linear::Precision;
use xqg_model::recipe::{Pooling, QUERY_SIDE, QuerySide, Recipe, known_prefixes};
use xqg_model::tokenizer::{Tokenizer, Tokens};

use crate::config::{PASSAGE_TOKENS, PoolingName, QUERY_TOKENS, TrainConfig};
use crate::error::TrainError;
use crate::network::{Dropout, Encoder, Head};

/// Texts to token ids, with a model's prefixes and the run's lengths.
#[derive(Debug)]
pub struct Reader {
    tokenizer: Tokenizer,
    prefixes: [String; 2],
    lengths: [usize; 2],
    vocabulary: usize,
}

impl Reader {
    /// Opens the tokenizer of a base model.
    ///
    /// # Errors
    /// When it is missing, or a length is beyond the model's positions.
    pub fn open(base: &Base, config: &TrainConfig) -> Result<Self, TrainError> {
        let lengths = base.lengths(config)?;
        let tokenizer = Tokenizer::open(&base.recipe.network)?;
        let prefixes = base.prefixes.clone();
        Ok(Self { tokenizer, prefixes, lengths, vocabulary: base.config.vocab_size })
    }

    /// The tokens of queries or passages.
    ///
    /// # Errors
    /// When the tokenizer refuses a text or does not fit the network.
    pub fn tokens(&self, side: Side, texts: &[String]) -> Result<Vec<Tokens>, ModelError> {
        let at = usize::from(side == Side::Passage);
        let tokens = self.tokenizer.encode(&self.prefixes[at], texts, self.lengths[at])?;
        for (index, text) in tokens.iter().enumerate() {
            if let Some(id) = text.ids.iter().find(|&&id| id as usize >= self.vocabulary) {
                let expected = format!("token ids below {}", self.vocabulary);
                return Err(ModelError::Token { index, expected, found: id.to_string() });
            }
            if text.ids.is_empty() {
                let expected = "at least one token".to_owned();
                return Err(ModelError::Token { index, expected, found: "none".to_owned() });
            }
        }
        Ok(tokens)
    }
}

/// What a base model's folder says.
#[derive(Debug)]
pub struct Base {
    folder: PathBuf,
    recipe: Recipe,
    config: Config,
    head: Head,
    prefixes: [String; 2],
}

impl Base {
    /// Opens the folder of a BERT or XLM-RoBERTa encoder.
    ///
    /// # Errors
    /// When a file is missing, the architecture is another one, or the pooling is not known.
    pub fn open(config: &TrainConfig) -> Result<Self, TrainError> {
        let folder = config.model.clone();
        let mut recipe = Recipe::read(&folder)?;
        let network = Config::read(&recipe.network)?;
        if !recipe.dense.is_empty() {
            return Err(TrainError::Unexpected {
                path: folder,
                expected: "an encoder whose embedding is its pooled states".into(),
                found: "a Dense module after the pooling".into(),
                hint: "models with a Dense module can be used but not trained yet",
            });
        }
        if let Some((query, passage)) = known_prefixes(&folder.to_string_lossy()) {
            recipe.query_prefix.get_or_insert(query.into());
            recipe.passage_prefix.get_or_insert(passage.into());
        }
        let prefixes = [
            (&config.encoder.query_prefix, &recipe.query_prefix),
            (&config.encoder.passage_prefix, &recipe.passage_prefix),
        ];
        let prefixes =
            prefixes.map(|(said, known)| said.clone().or(known.clone()).unwrap_or_default());
        let said = config.encoder.pooling.map(|name| match name {
            PoolingName::Mean => Pooling::Mean,
            PoolingName::Cls => Pooling::Cls,
        });
        let pooling = said.or(recipe.pooling);
        let pooling = pooling.ok_or_else(|| ModelError::NoPooling { path: folder.clone() })?;
        let normalize = config.encoder.normalize.unwrap_or(recipe.normalize);
        let head = Head { pooling, normalize };
        Ok(Self { folder, recipe, config: network, head, prefixes })
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The most tokens of queries and of passages.
    ///
    /// # Errors
    /// When a length that was asked for is beyond the model's positions.
    pub fn lengths(&self, config: &TrainConfig) -> Result<[usize; 2], TrainError> {
        let limit = self.config.max_tokens();
        let asked = [config.batch.query_tokens, config.batch.passage_tokens];
        if let Some(found) = asked.into_iter().flatten().find(|&n| n > limit || n < 3) {
            return Err(TrainError::Setting {
                name: "batch.query_tokens or batch.passage_tokens",
                expected: "3 or more and no more than the model's positions",
                found: format!("{found}, with {limit} positions"),
            });
        }
        let [query, passage] = asked;
        Ok([query.unwrap_or(QUERY_TOKENS.min(limit)), passage.unwrap_or(PASSAGE_TOKENS.min(limit))])
    }

    /// Pooling and scaling.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Loads the weights, ready to learn.
    ///
    /// # Errors
    /// When they do not fit the configuration, or the rate of dropout is none.
    pub fn load(&self, config: &TrainConfig) -> Result<Encoder, TrainError> {
        let checkpoint = Checkpoint::open(&self.recipe.network)?;
        let mut encoder = Encoder::load(&checkpoint, self.config.clone(), self.head)?;
        if config.encoder.freeze_embeddings {
            encoder.freeze_embeddings();
        }
        encoder.dropout = Some(self.dropout(config)?);
        Ok(encoder)
    }

    /// The same model as it is, to encode with.
    ///
    /// # Errors
    /// As [`Teacher::open`].
    pub fn teacher(&self, config: &TrainConfig) -> Result<Teacher, TrainError> {
        let [query_prefix, passage_prefix] = self.prefixes.clone().map(Some);
        let options = EncoderOptions {
            pooling: Some(self.head.pooling),
            normalize: Some(self.head.normalize),
            query_prefix,
            passage_prefix,
            query_max_tokens: Some(self.lengths(config)?[0]),
            passage_max_tokens: config.batch.passage_tokens,
            precision: Precision::near(Isa::detect()),
            isa: None,
            keep_packed: false,
        };
        Ok(Teacher::open(&self.folder, &options)?)
    }

    fn dropout(&self, config: &TrainConfig) -> Result<Dropout, TrainError> {
        let (hidden, attention) = match config.encoder.dropout {
            Some(rate) => (rate, rate),
            None => (self.config.hidden_dropout_prob, self.config.attention_probs_dropout_prob),
        };
        let rate = |p: f32| {
            Rate::new(p).ok_or_else(|| TrainError::Setting {
                name: "encoder.dropout",
                expected: "0 or more and below 1",
                found: p.to_string(),
            })
        };
        Ok(Dropout { hidden: rate(hidden)?, attention: rate(attention)? })
    }

    /// Writes a complete model folder: the base's small files, the weights and a card, and for a
    /// network of queries which passages it goes with. What lay there is replaced when all is
    /// written.
    ///
    /// # Errors
    /// When the disk refuses; what lay there is then untouched.
    pub fn write(
        &self,
        to: &Path,
        encoder: &Encoder,
        (card, side): (&str, Option<&QuerySide>),
    ) -> Result<(), TrainError> {
        let partial = partial_path(to);
        remove(&partial)?;
        copy_small(&self.folder, &partial)?;
        if self.recipe.network != self.folder {
            copy_small(&self.recipe.network, &partial)?;
        }
        encoder.write(&partial.join("model.safetensors"))?;
        self.write_modules(&partial)?;
        let [query, passage] = &self.prefixes;
        write_prompts(&partial, [query, passage])?;
        if let Some(side) = side {
            let text = serde_json::to_vec_pretty(side).expect("a hash is JSON");
            write_whole(&partial.join(QUERY_SIDE), &text)?;
        }
        write_whole(&partial.join("README.md"), card.as_bytes())?;
        Ok(replace_folder(&partial, to)?)
    }

    /// sentence-transformers' modules, where the base has none or its network lies deeper.
    fn write_modules(&self, folder: &Path) -> Result<(), TrainError> {
        let module = |idx: u8, path: &str, kind: &str| {
            let kind = format!("sentence_transformers.models.{kind}");
            serde_json::json!({"idx": idx, "name": idx.to_string(), "path": path, "type": kind})
        };
        let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
        if self.head.normalize {
            modules.push(module(2, "2_Normalize", "Normalize"));
        }
        let pooling = serde_json::json!({
            "word_embedding_dimension": self.config.hidden_size,
            "pooling_mode_mean_tokens": self.head.pooling == Pooling::Mean,
            "pooling_mode_cls_token": self.head.pooling == Pooling::Cls,
        });
        let deeper = folder.join("1_Pooling");
        fs::create_dir_all(&deeper).map_err(DataError::io("creating", &deeper))?;
        write_whole(&folder.join("modules.json"), pretty(&serde_json::json!(modules)).as_bytes())?;
        Ok(write_whole(&deeper.join("config.json"), pretty(&pooling).as_bytes())?)
    }
}

/// Writes prefixes where the next reader looks for them: a folder called `best` no longer says by its name
/// that it is an E5. What else stood there stays, unless it was no object.
pub(crate) fn write_prompts(folder: &Path, [query, passage]: [&str; 2]) -> Result<(), TrainError> {
    let path = folder.join("config_sentence_transformers.json");
    let old = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut value: serde_json::Map<String, serde_json::Value> = old.unwrap_or_default();
    value.insert("prompts".into(), serde_json::json!({"query": query, "passage": passage}));
    Ok(write_whole(&path, pretty(&value.into()).as_bytes())?)
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Copies the small files of a model: settings and tokenizers, no weights, nothing hidden.
pub(crate) fn copy_small(from: &Path, to: &Path) -> Result<(), DataError> {
    fs::create_dir_all(to).map_err(DataError::io("creating", to))?;
    let entries = fs::read_dir(from).map_err(DataError::io("reading", from))?;
    for entry in entries {
        let path = entry.map_err(DataError::io("reading", from))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let small = [".json", ".txt", ".model"].iter().any(|end| name.ends_with(end));
        if small && !name.starts_with('.') && !name.ends_with(".index.json") && path.is_file() {
            let target = to.join(name);
            fs::copy(&path, &target).map_err(DataError::io("copying", &path))?;
        }
    }
    Ok(())
}
