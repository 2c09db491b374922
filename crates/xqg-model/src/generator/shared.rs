//! The shared-encoder generator: a decoder of a few layers over the token states of the retriever's
//! own, frozen encoder. The language is the decoder's first token; the output layer is tied to the
//! embedding of tokens, and each language has a list of the tokens that it may write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use xqg_data::contract::EncoderContract;
use xqg_data::error::DataError;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xqg_kernel::isa::Isa;
use xqg_kernel::ops::{self, Activation};

use super::GeneratorOptions;
use super::attend::Shapes;
use super::core::{Core, Reader, Spoken};
use super::decoder::{Decoder, FeedForward, Layer, Norm, Positions, layer_name};
use super::output::Output;
use super::pieces::Pieces;
use super::source::{self, Arrays, Source, Stored};
use crate::checkpoint::Checkpoint;
use crate::config::read_json;
use crate::encoder::{Encoder, Reading};
use crate::error::ModelError;
use crate::linear::Arithmetic;
use crate::tokenizer::Tokenizer;

/// `config.json` of a shared-encoder generator.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    hidden_size: usize,
    num_layers: usize,
    num_heads: usize,
    intermediate_size: usize,
    max_positions: usize,
    vocab_size: usize,
    activation: String,
    norm_eps: f32,
    embed_scale: f32,
    logit_scale: f32,
    start_ids: BTreeMap<String, u32>,
    eos_id: u32,
    langs: Vec<Lang>,
    encoder: EncoderContract,
}

/// A shared-encoder generator.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The shared parts.
    pub core: Core,
    encoder: Arc<Encoder>,
    /// Where its tokenizer is, for questions that are there already.
    folder: PathBuf,
    /// The languages' codes, in the model's order.
    pub langs: Vec<Lang>,
    spoken: Vec<Spoken>,
}

impl Config {
    fn read(path: &Path) -> Result<Self, ModelError> {
        let config: Self = read_json(path)?;
        config.check().map_err(|(expected, found)| ModelError::Unexpected {
            path: path.to_path_buf(),
            expected: expected.to_owned(),
            found,
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let (h, heads) = (self.hidden_size, self.num_heads);
        if h == 0 || heads == 0 || h % heads != 0 {
            return Err(("a hidden size that the heads divide", format!("{h} and {heads} heads")));
        }
        let sizes = [self.num_layers, self.intermediate_size, self.max_positions, self.vocab_size];
        if sizes.contains(&0) || sizes.iter().any(|&n| n > 1 << 24) || h > 1 << 16 {
            return Err(("sizes of 1 or more and below 2^24", format!("{sizes:?}")));
        }
        if self.activation != "gelu" {
            return Err(("activation gelu", self.activation.clone()));
        }
        if self.langs.is_empty() {
            return Err(("languages, each with a tag to begin with", "none".to_owned()));
        }
        self.check_ids()
    }

    fn check_ids(&self) -> Result<(), (&'static str, String)> {
        let untagged = self.langs.iter().find(|lang| !self.start_ids.contains_key(lang.code()));
        if let Some(lang) = untagged {
            return Err(("a tag in start_ids for every language", format!("none for {lang}")));
        }
        let ids = self.start_ids.values().copied().chain([self.eos_id]);
        match ids.into_iter().find(|&id| id as usize >= self.vocab_size) {
            Some(id) => Err(("token ids below vocab_size", id.to_string())),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Opens the folder of a generator that reads with the encoder in `options`.
    ///
    /// # Errors
    /// When a file is missing or damaged, there is no encoder, or it is another one.
    pub fn open(folder: &Path, options: &GeneratorOptions) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config = Config::read(&path)?;
        let encoder = options.encoder.clone().ok_or_else(|| ModelError::NoEncoder {
            path: folder.to_path_buf(),
            model: config.encoder.model.clone(),
        })?;
        check_encoder(&config, &path, &encoder)?;
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let how = Arithmetic { isa, precision: options.precision };
        let checkpoint = Checkpoint::open(folder)?;
        let Parts { decoder, output } =
            source::load(folder, &checkpoint, (how, options.keep_packed), |source| {
                let loader = Loader { source, config: &config };
                Ok(Parts { decoder: loader.decoder()?, output: loader.output()? })
            })?;
        let mut lists = Vec::new();
        for &lang in &config.langs {
            let ids = shortlist(&checkpoint, &config, &path, lang)?;
            let linear = output.linear.select(&ids);
            lists.push(OnceLock::from(Output { linear, ids: Some(ids), isa }));
        }
        let spoken = |(i, &lang): (usize, &Lang)| {
            let start = config.start_ids[lang.code()];
            Spoken { lang, start, output: Some(1 + i) }
        };
        let spoken = config.langs.iter().enumerate().map(spoken).collect();
        let core = Core {
            decoder,
            score_scale: config.logit_scale,
            outputs: std::iter::once(OnceLock::from(output)).chain(lists).collect(),
            pieces: Pieces::open(folder)?,
            end: config.eos_id,
            max_positions: Some(config.max_positions),
        };
        let folder = folder.to_path_buf();
        Ok(Self { core, encoder, folder, langs: config.langs, spoken })
    }

    /// The tokenizer of questions: to write some, none is needed.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        Tokenizer::open(&self.folder)
    }

    /// The tokens of a question, without those that a tokenizer puts around a text.
    ///
    /// # Errors
    /// When the tokenizer refuses it, or does not fit the network.
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer,
        (index, question): (usize, &str),
    ) -> Result<Vec<u32>, ModelError> {
        let tokens = tokenizer.session().encode("", question, usize::MAX);
        let tokens = tokens.map_err(|source| ModelError::Tokenize { index, source })?;
        let ids: Vec<u32> =
            tokens.ids.into_iter().filter(|&id| !self.core.pieces.is_special(id)).collect();
        self.core.check_ids(index, &ids)?;
        Ok(ids)
    }

    /// The languages as the model speaks them.
    ///
    /// # Errors
    /// When it does not speak one.
    pub fn spoken(&self, langs: &[Lang]) -> Result<Vec<Spoken>, ModelError> {
        let codes: Vec<&str> = self.langs.iter().map(Lang::code).collect();
        let find = |lang: &Lang| {
            let found = self.spoken.iter().find(|s| s.lang == *lang).copied();
            found.ok_or_else(|| ModelError::Language {
                expected: codes.join(", "),
                found: lang.to_string(),
            })
        };
        langs.iter().map(find).collect()
    }
}

impl Reader for Shared {
    fn serves_all(&self) -> bool {
        true
    }

    fn read(
        &self,
        index: usize,
        passage: &Passage,
        _: &[Spoken],
        team: usize,
    ) -> Result<Reading, ModelError> {
        self.encoder.read_passage(index, &passage.encoder_text(), team)
    }
}

/// Refuses another encoder than the one that the generator was trained over; the error shows both.
fn check_encoder(config: &Config, path: &Path, encoder: &Encoder) -> Result<(), ModelError> {
    let what = format!("opening generator {}", path.parent().unwrap_or(path).display());
    let other = config.encoder.check(encoder.contract(), &what);
    other.map_err(|error| match error {
        DataError::OtherContract { what, difference, .. } => DataError::OtherContract {
            what,
            difference,
            hint: "use the encoder that the generator was made for (left), or a generator for yours",
        },
        other => other,
    })?;
    if encoder.hidden() == config.hidden_size {
        return Ok(());
    }
    Err(ModelError::Unexpected {
        path: path.to_path_buf(),
        expected: format!("hidden_size {}, as the encoder's", encoder.hidden()),
        found: config.hidden_size.to_string(),
    })
}

/// What the weights give.
struct Parts {
    decoder: Decoder,
    output: Output,
}

/// The name of the output layer among laid-out weights.
const HEAD: &str = "head";

impl Stored for Parts {
    fn arrays(&self) -> Arrays<'_> {
        let mut all = Arrays::new();
        self.decoder.store(&mut all);
        self.output.linear.store(HEAD, &mut all);
        all
    }
}

/// Loads the weights by the names of the folder's format.
struct Loader<'a> {
    source: &'a Source<'a>,
    config: &'a Config,
}

impl Loader<'_> {
    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        let shape = [self.config.hidden_size];
        Ok(Norm::Layer(ops::Norm {
            weight: self.source.numbers(&format!("{name}.weight"), &shape)?,
            bias: self.source.numbers(&format!("{name}.bias"), &shape)?,
            eps: self.config.norm_eps,
        }))
    }

    fn layer(&self, index: usize) -> Result<Layer, ModelError> {
        let (h, f) = (self.config.hidden_size, self.config.intermediate_size);
        let at = |part: &str| format!("layers.{index}.{part}");
        let layer = |stored: &str, names: &[&str], shape| {
            let names: Vec<String> = names.iter().map(|name| at(name)).collect();
            self.source.biased((&layer_name(index, stored), &names), shape)
        };
        Ok(Layer {
            self_norm: self.norm(&at("self_norm"))?,
            qkv: layer("qkv", &["self.query", "self.key", "self.value"], (h, h))?,
            self_out: layer("self_out", &["self.out"], (h, h))?,
            cross_norm: self.norm(&at("cross_norm"))?,
            query: layer("query", &["cross.query"], (h, h))?,
            memory: layer("memory", &["cross.key", "cross.value"], (h, h))?,
            cross_out: layer("cross_out", &["cross.out"], (h, h))?,
            ffn_norm: self.norm(&at("ffn_norm"))?,
            ffn: FeedForward {
                expand: layer("ffn.expand", &["ffn.expand"], (f, h))?,
                gated: false,
                activation: Activation::Gelu,
                contract: layer("ffn.contract", &["ffn.contract"], (h, f))?,
            },
        })
    }

    fn decoder(&self) -> Result<Decoder, ModelError> {
        let c = self.config;
        let (heads, dim) = (c.num_heads, c.hidden_size / c.num_heads);
        let scale = 1.0 / (dim as f32).sqrt();
        let places = [c.max_positions, c.hidden_size];
        Ok(Decoder {
            shapes: Shapes { heads, dim, scale, isa: self.source.how.isa },
            hidden: c.hidden_size,
            words: self.source.words("embed.weight", (c.vocab_size, c.hidden_size))?,
            word_scale: c.embed_scale,
            positions: Positions::Learned(self.source.numbers("positions.weight", &places)?),
            layers: (0..c.num_layers).map(|i| self.layer(i)).collect::<Result<_, _>>()?,
            norm: self.norm("final_norm")?,
        })
    }

    /// The output layer of all tokens: the embedding of words, and a bias of its own.
    fn output(&self) -> Result<Output, ModelError> {
        let (size, h) = (self.config.vocab_size, self.config.hidden_size);
        let bias = self.source.numbers("output.bias", &[size])?;
        let linear = self.source.tied((HEAD, &["embed.weight".to_owned()]), bias, (size, h))?;
        Ok(Output { linear, ids: None, isa: self.source.how.isa })
    }
}

/// The tokens that a language may write, in ascending order, the end token among them.
fn shortlist(
    checkpoint: &Checkpoint,
    config: &Config,
    path: &Path,
    lang: Lang,
) -> Result<Vec<u32>, ModelError> {
    let name = format!("shortlist.{lang}");
    let mut ids = checkpoint.whole_numbers(&name)?;
    ids.push(config.eos_id);
    ids.sort_unstable();
    ids.dedup();
    match ids.last().filter(|&&id| id as usize >= config.vocab_size) {
        None => Ok(ids),
        Some(id) => Err(ModelError::Unexpected {
            path: path.with_file_name("model.safetensors"),
            expected: format!("token ids below {} in {name}", config.vocab_size),
            found: id.to_string(),
        }),
    }
}
