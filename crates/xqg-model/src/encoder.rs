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

use crate::config::Config;
use crate::error::ModelError;
use crate::linear::Precision;
use crate::network::{Network, Scratch, States};
use crate::recipe::{Pooling, Recipe, known_prefixes};
use crate::tokenizer::{LEAST_TEXTS, Session, TokenizeError, Tokenizer, Tokens};
use crate::weights::{Dense, Weights, check_dense};

/// Bytes of text that a thread takes at a time, least and most: few enough that a batch's end is shared
/// evenly, enough for whole groups.
const PART_BYTES: [usize; 2] = [2048, 16_384];
/// Parts of a batch that each thread takes one after the other, where they need not be smaller or larger.
const PARTS: usize = 8;

/// Tokens that one thread carries through all layers at a time: so many that the weights, which come
/// from afar, serve long enough.
const GROUP_TOKENS: usize = 480;

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
    /// Whether weights, once laid out, are kept beside the model for the next time.
    pub keep_packed: bool,
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

/// What one pass over a passage gives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Token states, in rows that lie `stride` apart.
    pub states: Vec<f32>,
    /// Numbers between the beginnings of two rows.
    pub stride: usize,
    /// The number of tokens.
    pub count: usize,
    /// Whether the text was cut.
    pub truncated: bool,
    /// The embedding; empty where the reader makes none.
    pub embedding: Vec<f32>,
}

/// Token states of some texts, end to end, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenStates {
    /// Rows of as many numbers as the network's hidden size.
    pub states: Vec<f32>,
    /// Tokens of each text, special tokens included.
    pub lengths: Vec<usize>,
    /// Texts that were cut to the greatest length.
    pub truncated: usize,
}

/// Some texts of a batch and the place of their vectors.
struct Part<'a> {
    /// The first one's place in the batch.
    first: usize,
    texts: &'a [String],
    out: &'a mut [f32],
}

/// What a part of a batch adds to the counts.
struct Counts {
    tokens: usize,
    truncated: usize,
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

    /// The embeddings of texts as queries or as passages. Each thread takes some texts, tokenises
    /// them and carries them through the network, so that neither work waits for the other.
    ///
    /// # Errors
    /// When the tokenizer does not fit the network, or passages are given to a network that learned
    /// to encode queries only.
    pub fn encode(&self, side: Side, texts: &[String]) -> Result<Encoded, ModelError> {
        if side == Side::Passage && self.contract.passage_weights.is_some() {
            return Err(ModelError::QueriesOnly { model: self.contract.model.clone() });
        }
        let mut vectors = vec![0.0; texts.len() * self.dim()];
        let parts = self.parts(texts, &mut vectors);
        // A part alone has all threads for itself.
        let team = if parts.len() == 1 { rayon::current_num_threads() } else { 1 };
        let encode = |part: Part| self.encode_part(side, part, team);
        let counts: Vec<Counts> =
            parts.into_par_iter().with_max_len(1).map(encode).collect::<Result<_, _>>()?;
        let tokens = counts.iter().map(|c| c.tokens).sum();
        Ok(Encoded { vectors, tokens, truncated: counts.iter().map(|c| c.truncated).sum() })
    }

    /// Consecutive texts of about [`PART_BYTES`] together, each part with the place of its vectors.
    fn parts<'a>(&self, texts: &'a [String], vectors: &'a mut [f32]) -> Vec<Part<'a>> {
        let all: usize = texts.iter().map(String::len).sum();
        let share = all / (PARTS * rayon::current_num_threads());
        let most = share.clamp(PART_BYTES[0], PART_BYTES[1]);
        let (mut parts, mut rest, mut vectors) = (Vec::new(), texts, vectors);
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |text: &&String| {
                bytes += text.len();
                bytes <= most
            };
            let n = rest.iter().take_while(fits).count().max(1);
            let (some, others) = rest.split_at(n);
            let (out, further) = vectors.split_at_mut(n * self.dim());
            parts.push(Part { first: texts.len() - rest.len(), texts: some, out });
            (rest, vectors) = (others, further);
        }
        parts
    }

    fn encode_part(&self, side: Side, part: Part, team: usize) -> Result<Counts, ModelError> {
        let (prefix, max_tokens) = self.side(side);
        let mut session = self.tokenizer.session();
        let tokenise = |(i, text): (usize, &String)| {
            self.checked(part.first + i, session.encode(prefix, text, max_tokens))
        };
        let texts: Vec<Tokens> =
            part.texts.iter().enumerate().map(tokenise).collect::<Result<_, _>>()?;
        drop(session);
        let mut scratch = self.take_scratch();
        scratch.share_between(team);
        let mut out = part.out;
        for group in split_groups(&texts) {
            let (vectors, rest) = out.split_at_mut(group.len() * self.dim());
            self.encode_group(group, &mut scratch, vectors);
            out = rest;
        }
        self.spare.lock().expect("no panic while locked").push(scratch);
        Ok(Counts {
            tokens: texts.iter().map(|t| t.ids.len()).sum(),
            truncated: texts.iter().filter(|t| t.truncated).count(),
        })
    }

    /// Length of a token state.
    pub(crate) fn hidden(&self) -> usize {
        self.network.config().hidden_size
    }

    /// Reads one passage, `index` in its batch, with a team of threads: its token states after the
    /// last layer, and from the same pass its embedding.
    ///
    /// # Errors
    /// When the tokenizer does not fit the network.
    pub(crate) fn read_passage(
        &self,
        index: usize,
        text: &str,
        team: usize,
    ) -> Result<Reading, ModelError> {
        let (prefix, max_tokens) = self.side(Side::Passage);
        let tokens = self.tokenizer.session().encode(prefix, text, max_tokens);
        let tokens = self.checked(index, tokens)?;
        let mut scratch = self.take_scratch();
        scratch.share_between(team);
        let ids = std::iter::once(tokens.ids.as_slice());
        let (states, lengths) = self.network.forward(ids, &mut scratch);
        let mut embedding = vec![0.0; self.dim()];
        self.embed(states, lengths, &mut embedding);
        let (stride, count) = (states.stride, lengths[0]);
        let states = states.data.to_vec();
        self.spare.lock().expect("no panic while locked").push(scratch);
        Ok(Reading { states, stride, count, truncated: tokens.truncated, embedding })
    }

    /// Prefix and greatest length of a side.
    fn side(&self, side: Side) -> (&str, usize) {
        match side {
            Side::Query => (&self.contract.query_prefix, self.contract.query_max_tokens),
            Side::Passage => (&self.contract.passage_prefix, self.contract.passage_max_tokens),
        }
    }

    /// The token ids of texts as queries or as passages: prefix in front, cut to the side's length.
    ///
    /// # Errors
    /// When the tokenizer does not fit the network.
    pub fn tokens(&self, side: Side, texts: &[String]) -> Result<Vec<Tokens>, ModelError> {
        let (prefix, max_tokens) = self.side(side);
        let encode = |session: &mut Session, (i, text): (usize, &String)| {
            self.checked(i, session.encode(prefix, text, max_tokens))
        };
        let texts = texts.par_iter().enumerate().with_min_len(LEAST_TEXTS);
        texts.map_init(|| self.tokenizer.session(), encode).collect()
    }

    /// The token states after the last layer of texts as queries or as passages: what a decoder that
    /// stands on this encoder attends to. They are neither pooled nor scaled.
    ///
    /// # Errors
    /// When the tokenizer does not fit the network.
    pub fn states(&self, side: Side, texts: &[String]) -> Result<TokenStates, ModelError> {
        let texts = self.tokens(side, texts)?;
        let groups: Vec<&[Tokens]> = split_groups(&texts).collect();
        let states: Vec<Vec<f32>> =
            groups.into_par_iter().with_max_len(1).map(|group| self.group_states(group)).collect();
        Ok(TokenStates {
            states: states.concat(),
            lengths: texts.iter().map(|t| t.ids.len()).collect(),
            truncated: texts.iter().filter(|t| t.truncated).count(),
        })
    }

    fn group_states(&self, group: &[Tokens]) -> Vec<f32> {
        let h = self.network.config().hidden_size;
        let mut scratch = self.take_scratch();
        scratch.share_between(1);
        let (states, _) =
            self.network.forward(group.iter().map(|t| t.ids.as_slice()), &mut scratch);
        let rows = states.data.chunks_exact(states.stride).flat_map(|row| &row[..h]);
        let rows = rows.copied().collect();
        self.spare.lock().expect("no panic while locked").push(scratch);
        rows
    }

    /// Length of a token's state.
    pub fn hidden_size(&self) -> usize {
        self.network.config().hidden_size
    }

    /// The tokens of the text at a place, whose ids the embeddings have.
    fn checked(
        &self,
        index: usize,
        tokens: Result<Tokens, TokenizeError>,
    ) -> Result<Tokens, ModelError> {
        let tokens = tokens.map_err(|source| ModelError::Tokenize { index, source })?;
        let vocabulary = self.network.config().vocab_size;
        match tokens.ids.iter().find(|&&id| id as usize >= vocabulary) {
            None => Ok(tokens),
            Some(id) => {
                let expected = format!("token ids below {vocabulary}, the rows of the embedding");
                Err(ModelError::Token { index, expected, found: id.to_string() })
            }
        }
    }

    /// Writes the embeddings of one group; nothing is allocated once the scratch has seen its size,
    /// but for models with dense layers.
    fn encode_group(&self, group: &[Tokens], scratch: &mut Scratch, out: &mut [f32]) {
        let texts = group.iter().map(|t| t.ids.as_slice());
        let (states, lengths) = self.network.forward(texts, scratch);
        self.embed(states, lengths, out);
    }

    /// Writes the embeddings of texts from their token states.
    fn embed(&self, states: States, lengths: &[usize], out: &mut [f32]) {
        if self.dense.is_empty() {
            self.pool(states, lengths, out);
        } else {
            let mut pooled = vec![0.0; lengths.len() * self.network.config().hidden_size];
            self.pool(states, lengths, &mut pooled);
            let last = self.dense.iter().fold(pooled, |x, dense| dense.apply(&x));
            out.copy_from_slice(&last);
        }
        if self.contract.normalize {
            out.chunks_exact_mut(self.dim()).for_each(scale_to_length_one);
        }
    }

    fn take_scratch(&self) -> Scratch {
        self.spare.lock().expect("no panic while locked").pop().unwrap_or_default()
    }

    fn pool(&self, states: States, lengths: &[usize], out: &mut [f32]) {
        let h = self.network.config().hidden_size;
        let mut rest = states.data;
        for (out, &n) in out.chunks_exact_mut(h).zip(lengths) {
            let (text, tail) = rest.split_at(n * states.stride);
            match self.pooling {
                Pooling::Cls if n > 0 => out.copy_from_slice(&text[..h]),
                _ => mean_rows(text, states.stride, out),
            }
            rest = tail;
        }
    }
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
        passage_weights: recipe.passage_weights.clone(),
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

/// Consecutive texts of about [`GROUP_TOKENS`] tokens together; at least one text a group.
fn split_groups(mut texts: &[Tokens]) -> impl Iterator<Item = &[Tokens]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = |text: &&Tokens| {
            tokens += text.ids.len();
            tokens <= GROUP_TOKENS
        };
        let n = texts.iter().take_while(fits).count().max(1).min(texts.len());
        let (group, rest) = texts.split_at(n);
        texts = rest;
        (n > 0).then_some(group)
    })
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
        let texts: Vec<Tokens> = [10, 500, 5, 400, 100, 1].map(tokens).into();
        let sizes: Vec<usize> = split_groups(&texts).map(<[Tokens]>::len).collect();
        assert_eq!(sizes, [1, 1, 2, 2]);
        assert!(split_groups(&[]).next().is_none());
    }

    #[test]
    fn names_come_from_the_cache_layout_or_the_folder() {
        let cached = Path::new("/c/hub/models--intfloat--multilingual-e5-small/snapshots/abc");
        assert_eq!(model_name(cached), "intfloat/multilingual-e5-small");
        assert_eq!(model_name(Path::new("/models/labse")), "labse");
    }
}
