//! The encoder as a user sees it: a model folder and texts in, embeddings out. It keeps the
//! contract (which model, which prefixes, which lengths) that every artefact carries, counts what
//! was truncated, and spreads groups of texts over all threads; a text's vector does not depend on
//! its neighbours.

use std::path::Path;
use std::sync::Mutex;

use rayon::prelude::*;
use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_kernel::isa::Isa;
use xqg_kernel::product::Quantised;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ModelError;
use crate::linear::{Arithmetic, Linear, Precision, Rows};
use crate::network::{Network, Scratch, States};
use crate::recipe::{DenseActivation, DenseModule, Pooling, Recipe, known_prefixes};
use crate::tokenizer::{Tokenizer, Tokens};

/// Tokens that one thread carries through all layers at a time: enough for the matrix products to
/// run at speed, little enough to stay in its cache.
const GROUP_TOKENS: usize = 256;

/// The most tokens of a query where nobody says a number and the model can read as many.
pub const QUERY_TOKENS: usize = 64;

/// The most tokens of a passage where nobody says a number and the model can read as many: passages
/// of 100 to 120 words, the field's custom since DPR (Karpukhin et al. 2020), fit.
pub const PASSAGE_TOKENS: usize = 160;

/// What a user may say about a model beyond what its folder says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncoderOptions {
    /// The pooling; needed where the folder has no `modules.json`.
    pub pooling: Option<Pooling>,
    /// Whether embeddings are scaled to length one; by default as the folder says, else not.
    pub normalize: Option<bool>,
    /// What is put before a query; by default the model's prompt.
    pub query_prefix: Option<String>,
    /// What is put before a passage; by default the model's prompt.
    pub passage_prefix: Option<String>,
    /// The most tokens of a query; by default [`QUERY_TOKENS`] or the model's limit.
    pub query_max_tokens: Option<usize>,
    /// The most tokens of a passage; by default [`PASSAGE_TOKENS`] or the model's limit.
    pub passage_max_tokens: Option<usize>,
    /// The arithmetic of the linear layers.
    pub precision: Precision,
    /// The kernels; by default the best of this machine.
    pub isa: Option<Isa>,
}

/// Embeddings of some texts, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Encoded {
    /// `texts x dim` numbers, row after row.
    pub vectors: Vec<f32>,
    /// Tokens that went through the network.
    pub tokens: usize,
    /// Texts that were cut to the greatest length.
    pub truncated: usize,
}

/// A dense layer over the pooled vector, as LaBSE has.
#[derive(Debug)]
struct Dense {
    module: DenseModule,
    linear: Linear,
    hash: String,
}

/// A text encoder.
#[derive(Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    network: Network,
    pooling: Pooling,
    dense: Vec<Dense>,
    contract: EncoderContract,
    spare: Mutex<Vec<Scratch>>,
}

/// What the weight files of a folder give.
struct Weights {
    network: Network,
    dense: Vec<Dense>,
    hash: String,
    precision: Precision,
}

impl Weights {
    fn open(recipe: &Recipe, config: Config, options: &EncoderOptions) -> Result<Self, ModelError> {
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let how = Arithmetic { isa, precision: options.precision };
        let checkpoint = Checkpoint::open(&recipe.network)?;
        let dense =
            recipe.dense.iter().map(|m| open_dense(m, isa)).collect::<Result<Vec<_>, _>>()?;
        let hash = weights_hash(&checkpoint, &dense, &config);
        let network = Network::load(&checkpoint, config, how)?;
        Ok(Self { network, dense, hash, precision: how.effective() })
    }
}

impl Encoder {
    /// Opens a model folder: `config.json`, `tokenizer.json`, weights, sentence-transformers' files.
    ///
    /// # Errors
    /// When a file is missing, damaged or of an unknown kind; when no pooling is known; when a
    /// length is beyond the model's positions.
    pub fn open(folder: &Path, options: &EncoderOptions) -> Result<Self, ModelError> {
        let recipe = Recipe::read(folder)?;
        let config = Config::read(&recipe.network)?;
        let pooling = options.pooling.or(recipe.pooling);
        let pooling =
            pooling.ok_or_else(|| ModelError::NoPooling { path: folder.to_path_buf() })?;
        check_dense(&recipe, &config)?;
        let mut contract = contract(folder, &config, &recipe, options)?;
        // The vocabulary and the weights take about as long to read, so they are read side by side.
        let (tokenizer, weights) = rayon::join(
            || Tokenizer::open(&recipe.network),
            || Weights::open(&recipe, config, options),
        );
        let (tokenizer, Weights { network, dense, hash, precision }) = (tokenizer?, weights?);
        contract.pooling = pooling_name(pooling, &dense, contract.normalize);
        contract.tokenizer = tokenizer.hash().to_owned();
        contract.weights = hash;
        contract.precision = precision.name().to_owned();
        Ok(Self { tokenizer, network, pooling, dense, contract, spare: Mutex::default() })
    }

    /// What makes this encoder's embeddings comparable with others.
    pub fn contract(&self) -> &EncoderContract {
        &self.contract
    }

    /// The length of an embedding.
    pub fn dim(&self) -> usize {
        self.contract.dim
    }

    /// The embeddings of texts as queries or as passages.
    ///
    /// # Errors
    /// When the tokenizer does not fit the network.
    pub fn encode(&self, side: Side, texts: &[String]) -> Result<Encoded, ModelError> {
        let tokens = self.tokens(side, texts)?;
        Ok(Encoded {
            tokens: tokens.iter().map(|t| t.ids.len()).sum(),
            truncated: tokens.iter().filter(|t| t.truncated).count(),
            vectors: self.encode_tokens(&tokens),
        })
    }

    /// The token ids of texts as queries or as passages: prefix in front, cut to the side's length.
    ///
    /// # Errors
    /// When the tokenizer does not fit the network.
    pub fn tokens(&self, side: Side, texts: &[String]) -> Result<Vec<Tokens>, ModelError> {
        let (prefix, max_tokens) = match side {
            Side::Query => (&self.contract.query_prefix, self.contract.query_max_tokens),
            Side::Passage => (&self.contract.passage_prefix, self.contract.passage_max_tokens),
        };
        let tokens = self.tokenizer.encode(prefix, texts, max_tokens)?;
        self.check_ids(&tokens)?;
        Ok(tokens)
    }

    fn check_ids(&self, tokens: &[Tokens]) -> Result<(), ModelError> {
        let vocabulary = self.network.config().vocab_size;
        for (index, text) in tokens.iter().enumerate() {
            if let Some(id) = text.ids.iter().find(|&&id| id as usize >= vocabulary) {
                let expected = format!("token ids below {vocabulary}, the rows of the embedding");
                return Err(ModelError::Token { index, expected, found: id.to_string() });
            }
        }
        Ok(())
    }

    fn encode_tokens(&self, texts: &[Tokens]) -> Vec<f32> {
        let groups: Vec<&[Tokens]> = split_groups(texts);
        let parts: Vec<Vec<f32>> =
            groups.par_iter().map(|group| self.encode_group(group)).collect();
        parts.concat()
    }

    fn encode_group(&self, group: &[Tokens]) -> Vec<f32> {
        let ids: Vec<u32> = group.iter().flat_map(|t| t.ids.iter().copied()).collect();
        let lengths: Vec<usize> = group.iter().map(|t| t.ids.len()).collect();
        let mut scratch = self.take_scratch();
        let pooled = self.pool(self.network.forward(&ids, &lengths, &mut scratch), &lengths);
        self.spare.lock().expect("no panic while locked").push(scratch);
        let mut vectors = self.dense.iter().fold(pooled, |x, dense| dense.apply(&x));
        if self.contract.normalize {
            vectors.chunks_exact_mut(self.dim()).for_each(scale_to_length_one);
        }
        vectors
    }

    fn take_scratch(&self) -> Scratch {
        self.spare.lock().expect("no panic while locked").pop().unwrap_or_default()
    }

    fn pool(&self, states: States, lengths: &[usize]) -> Vec<f32> {
        let h = self.network.config().hidden_size;
        let mut pooled = vec![0.0; lengths.len() * h];
        let mut rest = states.data;
        for (out, &n) in pooled.chunks_exact_mut(h).zip(lengths) {
            let (text, tail) = rest.split_at(n * states.stride);
            match self.pooling {
                Pooling::Cls if n > 0 => out.copy_from_slice(&text[..h]),
                _ => mean_rows(text, states.stride, out),
            }
            rest = tail;
        }
        pooled
    }
}

impl Dense {
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let (k, n) = (self.module.in_features, self.module.out_features);
        let (rows, stride) = (x.len() / k, self.linear.stride());
        let mut wide = vec![0.0; rows * stride];
        let x = Rows { data: x, stride: k };
        self.linear.apply(rows, x, None, &mut wide, &mut Quantised::default());
        let mut out: Vec<f32> =
            wide.chunks_exact(stride).flat_map(|row| &row[..n]).copied().collect();
        if self.module.activation == DenseActivation::Tanh {
            out.iter_mut().for_each(|y| *y = y.tanh());
        }
        out
    }
}

/// Each dense module takes what the one before it gives.
fn check_dense(recipe: &Recipe, config: &Config) -> Result<(), ModelError> {
    let mut width = config.hidden_size;
    for module in &recipe.dense {
        if module.in_features != width || module.out_features == 0 {
            return Err(ModelError::Unexpected {
                path: module.folder.join("config.json"),
                expected: format!("in_features {width} and out_features of 1 or more"),
                found: format!("{} and {}", module.in_features, module.out_features),
            });
        }
        width = module.out_features;
    }
    Ok(())
}

fn open_dense(module: &DenseModule, isa: Isa) -> Result<Dense, ModelError> {
    let checkpoint = Checkpoint::open(&module.folder)?;
    let (n, k) = (module.out_features, module.in_features);
    let weight = checkpoint.tensor("linear.weight", &[n, k])?;
    let bias = if module.bias { checkpoint.tensor("linear.bias", &[n])? } else { vec![0.0; n] };
    let how = Arithmetic { isa, precision: Precision::F32 };
    let linear = Linear::new(weight, bias, k, how);
    Ok(Dense { module: module.clone(), linear, hash: checkpoint.hash() })
}

/// The contract without pooling name, hashes and precision, which need the opened files.
fn contract(
    folder: &Path,
    config: &Config,
    recipe: &Recipe,
    options: &EncoderOptions,
) -> Result<EncoderContract, ModelError> {
    let model = model_name(folder);
    let limit = recipe.max_tokens.unwrap_or(usize::MAX).min(config.max_tokens());
    let length = |asked: Option<usize>, usual: usize| {
        check_length(folder, asked.unwrap_or(usual.min(limit)), config)
    };
    let known = known_prefixes(&model);
    let prefix = |said: &Option<String>, prompt: &Option<String>, known: Option<&str>| {
        said.clone().or_else(|| prompt.clone()).or(known.map(str::to_owned)).unwrap_or_default()
    };
    let (known_query, known_passage) = known.unzip();
    Ok(EncoderContract {
        weights: String::new(),
        tokenizer: String::new(),
        pooling: String::new(),
        normalize: options.normalize.unwrap_or(recipe.normalize),
        query_prefix: prefix(&options.query_prefix, &recipe.query_prefix, known_query),
        passage_prefix: prefix(&options.passage_prefix, &recipe.passage_prefix, known_passage),
        query_max_tokens: length(options.query_max_tokens, QUERY_TOKENS)?,
        passage_max_tokens: length(options.passage_max_tokens, PASSAGE_TOKENS)?,
        dim: recipe.dense.last().map_or(config.hidden_size, |d| d.out_features),
        precision: Precision::F32.name().to_owned(),
        model,
    })
}

fn check_length(folder: &Path, asked: usize, config: &Config) -> Result<usize, ModelError> {
    let limit = config.max_tokens();
    if (3..=limit).contains(&asked) {
        return Ok(asked);
    }
    let path = folder.to_path_buf();
    let hint = "--query-max-tokens and --passage-max-tokens lie between 3 and the model's limit";
    Err(ModelError::TooLong { path, limit, asked, hint })
}

/// The folder's own name, or the repository's where the folder is a snapshot of the hub's cache:
/// `models--OWNER--NAME/snapshots/REVISION`.
fn model_name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let parts: Vec<_> = whole.iter().map(|p| p.to_string_lossy()).collect();
    match &parts[..] {
        [.., repository, snapshots, _] if snapshots == "snapshots" => {
            let name = repository.strip_prefix("models--").unwrap_or(repository);
            name.replacen("--", "/", 1)
        }
        [.., last] => last.to_string(),
        [] => String::new(),
    }
}

fn pooling_name(pooling: Pooling, dense: &[Dense], normalize: bool) -> String {
    let mut name = pooling.name().to_owned();
    name.push_str(&"+dense".repeat(dense.len()));
    if normalize {
        name.push_str("+normalize");
    }
    name
}

/// One hash over the weights of network and dense modules, and over the numbers of the config that
/// change a result without changing a weight.
fn weights_hash(checkpoint: &Checkpoint, dense: &[Dense], config: &Config) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(checkpoint.hash().as_bytes());
    for part in dense {
        hasher.update(part.hash.as_bytes());
        hasher.update(format!("{:?}", part.module.activation).as_bytes());
    }
    let (heads, eps) = (config.num_attention_heads, config.layer_norm_eps);
    let first = config.first_position();
    hasher.update(format!("{heads} {eps} {first} {:?}", config.hidden_act).as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// Consecutive texts of about [`GROUP_TOKENS`] tokens together; at least one text a group.
fn split_groups(texts: &[Tokens]) -> Vec<&[Tokens]> {
    let (mut groups, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (i, text) in texts.iter().enumerate() {
        if i > start && tokens + text.ids.len() > GROUP_TOKENS {
            groups.push(&texts[start..i]);
            (start, tokens) = (i, 0);
        }
        tokens += text.ids.len();
    }
    if start < texts.len() {
        groups.push(&texts[start..]);
    }
    groups
}

fn mean_rows(rows: &[f32], stride: usize, out: &mut [f32]) {
    for row in rows.chunks_exact(stride) {
        for (o, x) in out.iter_mut().zip(row) {
            *o += x;
        }
    }
    let n = (rows.len() / stride).max(1) as f32;
    out.iter_mut().for_each(|o| *o /= n);
}

fn scale_to_length_one(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let inverse = 1.0 / square.sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) * inverse) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(n: usize) -> Tokens {
        Tokens { ids: vec![0; n], truncated: false }
    }

    #[test]
    fn groups_hold_all_texts_in_order() {
        let texts: Vec<Tokens> = [10, 300, 5, 200, 60, 1].map(tokens).into();
        let sizes: Vec<usize> = split_groups(&texts).iter().map(|g| g.len()).collect();
        assert_eq!(sizes, [1, 1, 2, 2]);
        assert!(split_groups(&[]).is_empty());
    }

    #[test]
    fn names_come_from_the_cache_layout_or_the_folder() {
        let cached = Path::new("/c/hub/models--intfloat--multilingual-e5-small/snapshots/abc");
        assert_eq!(model_name(cached), "intfloat/multilingual-e5-small");
        assert_eq!(model_name(Path::new("/models/labse")), "labse");
    }
}
