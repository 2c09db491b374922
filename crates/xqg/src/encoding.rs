//! What several commands do before they encode: find the model by folder or by name, open it with
//! the user's words or with an index's contract, and say which encoder it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_data::npy::Dtype;
use xqg_data::vectors::Embeddings;
use xqg_index::build::{Encode, EncodeTexts, Vectors};
use xqg_index::manifest::IndexManifest;
use xqg_index::progress::{Progress, Stage};
use xqg_kernel::isa::Isa;
use xqg_model::encoder::{Encoded, Encoder, EncoderOptions};
use xqg_model::error::ModelError;
use xqg_model::generator::GeneratorOptions;
use xqg_model::linear::Precision;
use xqg_model::recipe::Pooling;

use crate::args::{DtypeArg, EncoderArgs, IndexDtypeArg, PoolingArg, PrecisionArg, SideArg, Usage};
use crate::commands::model;
use crate::output;
use crate::progress::Display;

/// An opened encoder and the folder it came from.
pub struct Opened {
    /// The encoder.
    pub encoder: Arc<Encoder>,
    /// Its folder, absolute.
    pub folder: PathBuf,
    /// What it did so far, for queries and for passages.
    meters: [Mutex<Meter>; 2],
}

/// How much was encoded, and in what time.
#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    texts: usize,
    tokens: usize,
    time: Duration,
}

/// Opens a model by folder or by name, fetching it if need be.
pub fn open(name: &str, args: &EncoderArgs) -> Result<Opened> {
    let isa = instruction_set()?;
    let options = EncoderOptions {
        pooling: args.pooling.map(|p| match p {
            PoolingArg::Mean => Pooling::Mean,
            PoolingArg::Cls => Pooling::Cls,
        }),
        normalize: args.normalize,
        query_prefix: args.query_prefix.clone(),
        passage_prefix: args.passage_prefix.clone(),
        query_max_tokens: args.query_max_tokens,
        passage_max_tokens: args.passage_max_tokens,
        precision: precision(args, isa),
        isa,
        keep_packed: keep_packed(),
    };
    open_with(name, &options)
}

fn open_with(name: &str, options: &EncoderOptions) -> Result<Opened> {
    let folder = model::fetch(name)?;
    let folder = folder.canonicalize().unwrap_or(folder);
    let encoder = Arc::new(Encoder::open(&folder, options)?);
    log::info!("{}", describe(encoder.contract()));
    Ok(Opened { encoder, folder, meters: Default::default() })
}

/// Opens the encoder of an index: the model it remembers or the one named, with the index's own
/// settings; refuses one whose contract differs.
pub fn open_for(manifest: &IndexManifest, model: Option<&str>, what: &str) -> Result<Opened> {
    let contract = &manifest.plan.contract;
    let remembered = &manifest.plan.model_path;
    let name = match model {
        Some(name) => name.to_owned(),
        None if remembered.as_os_str().is_empty() => bail!(
            "{what}: expected an encoder, found an index of embeddings that remembers none\n\
             hint: --model names the encoder that made them; xqg search --query-embeddings needs none"
        ),
        None if remembered.is_dir() => remembered.to_string_lossy().into_owned(),
        None => bail!(
            "{what}: expected the model at {}, found no folder\nhint: --model says where it is now",
            remembered.display()
        ),
    };
    if !contract.is_known() {
        output::warn(format_args!("{what}: nobody knows whether {name} made its embeddings"));
    }
    open_as(contract, &name, what)
}

/// Opens a model with the settings of a contract; refuses one whose contract differs.
pub fn open_as(contract: &EncoderContract, name: &str, what: &str) -> Result<Opened> {
    let options =
        if contract.is_known() { options_of(contract) } else { EncoderOptions::default() };
    let options = EncoderOptions { isa: instruction_set()?, ..options };
    let opened = open_with(name, &options)?;
    contract.check(opened.encoder.contract(), what)?;
    Ok(opened)
}

/// How a generator is opened: with this encoder, at the user's precision and, where it reads passages
/// itself, length.
pub fn generator_options(
    encoder: Option<Arc<Encoder>>,
    args: &EncoderArgs,
) -> Result<GeneratorOptions> {
    let isa = instruction_set()?;
    let precision = precision(args, isa);
    let (passage_max_tokens, keep_packed) = (args.passage_max_tokens, keep_packed());
    Ok(GeneratorOptions { encoder, precision, isa, passage_max_tokens, keep_packed })
}

/// The name of the arithmetic that words mean on this machine, as a contract has it.
pub fn precision_name(args: &EncoderArgs) -> Result<String> {
    Ok(precision(args, instruction_set()?).name().to_owned())
}

/// What decides a model's bits on this machine beside its weights: the arithmetic and the instructions.
pub fn arithmetic(args: &EncoderArgs) -> Result<String> {
    let isa = instruction_set()?;
    let name = precision(args, isa).name();
    Ok(format!("{name} on {}", isa.unwrap_or_else(Isa::detect).name()))
}

fn precision(args: &EncoderArgs, isa: Option<Isa>) -> Precision {
    match args.precision {
        PrecisionArg::Auto => Precision::near(isa.unwrap_or_else(Isa::detect)),
        PrecisionArg::F32 => Precision::F32,
        PrecisionArg::Int8 => Precision::Int8,
        PrecisionArg::Int8Fast => Precision::Int8Fast,
    }
}

/// The settings that a contract was made with.
fn options_of(contract: &EncoderContract) -> EncoderOptions {
    let pooling = if contract.pooling.starts_with("cls") { Pooling::Cls } else { Pooling::Mean };
    EncoderOptions {
        pooling: Some(pooling),
        normalize: Some(contract.normalize),
        query_prefix: Some(contract.query_prefix.clone()),
        passage_prefix: Some(contract.passage_prefix.clone()),
        query_max_tokens: Some(contract.query_max_tokens),
        passage_max_tokens: Some(contract.passage_max_tokens),
        precision: Precision::named(&contract.precision).unwrap_or_default(),
        isa: None,
        keep_packed: keep_packed(),
    }
}

/// Whether laid-out weights may be kept beside the model.
fn keep_packed() -> bool {
    std::env::var("XQG_WEIGHT_CACHE").as_deref() != Ok("off")
}

/// The instruction set that the environment names, to try what another machine would do.
fn instruction_set() -> Result<Option<Isa>> {
    let Ok(name) = std::env::var("XQG_ISA") else { return Ok(None) };
    let known: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
    match Isa::named(&name) {
        Some(isa) => Ok(Some(isa)),
        None => bail!("XQG_ISA: expected one of {}, found `{name}`", known.join(", ")),
    }
}

/// One line that says which encoder is used and how.
pub fn describe(c: &EncoderContract) -> String {
    format!(
        "{}: {} dimensions, {}, {}, queries `{}` up to {} tokens, passages `{}` up to {} tokens",
        c.model,
        c.dim,
        c.pooling,
        c.precision,
        c.query_prefix,
        c.query_max_tokens,
        c.passage_prefix,
        c.passage_max_tokens
    )
}

/// Opens embeddings that exist already; a folder brings its own ids.
pub fn open_vectors(path: &Path, ids: Option<&Path>, flag: &str) -> Result<Embeddings> {
    if ids.is_some() && path.is_dir() {
        let path = path.display();
        bail!(Usage(format!("{flag}: expected a .npy or .fvecs file, found the folder {path}")));
    }
    Ok(Embeddings::open(path, ids)?)
}

type EncodeError = Box<dyn std::error::Error + Send + Sync>;

impl Opened {
    /// Encodes texts, and remembers how long it took.
    pub fn encode(&self, side: Side, texts: &[String]) -> Result<Encoded, ModelError> {
        let begun = Instant::now();
        let encoded = self.encoder.encode(side, texts)?;
        let meter = &self.meters[usize::from(side == Side::Passage)];
        let mut meter = meter.lock().expect("no panic while locked");
        meter.texts += texts.len();
        meter.tokens += encoded.tokens;
        meter.time += begun.elapsed();
        Ok(encoded)
    }

    /// Says how fast it encoded; nothing where it did nothing.
    pub fn report_speed(&self) {
        for (meter, noun) in self.meters.iter().zip(["queries", "passages"]) {
            let Meter { texts, tokens, time } = *meter.lock().expect("no panic while locked");
            let rate = |n: usize| n as f64 / time.as_secs_f64().max(1e-9);
            if texts > 0 {
                output::note(format_args!(
                    "encoded {texts} {noun}, {tokens} tokens: {:.0} {noun}/s, {:.0} tokens/s",
                    rate(texts),
                    rate(tokens)
                ));
            }
        }
    }

    /// Encodes texts for an index.
    pub fn run(&self, side: Side, texts: &[String]) -> Result<Vectors, EncodeError> {
        let encoded = self.encode(side, texts)?;
        Ok(Vectors { values: encoded.vectors, truncated: encoded.truncated })
    }

    /// The encoder as an index's build wants it.
    pub fn as_encode<'a>(&'a self, run: EncodeTexts<'a>) -> Encode<'a> {
        Encode { contract: self.encoder.contract(), model_path: &self.folder, run }
    }
}

/// Shows the progress of an index's work.
pub fn observe(display: &mut Display) -> impl FnMut(Progress) {
    |p| {
        let (stage, unit) = match p.stage {
            Stage::Passages => ("reading passages", "passages"),
            Stage::Questions => ("reading questions", "questions"),
            Stage::EncodePassages => ("encoding passages", "passages"),
            Stage::EncodeQuestions => ("encoding questions", "questions"),
            Stage::Sketch => ("sketching", "passages"),
            Stage::Copy => ("copying embeddings", "passages"),
            Stage::Search => ("searching", "queries"),
            Stage::Survey => ("surveying fused vectors", "passages"),
            Stage::Graph => ("linking passages", "passages"),
            Stage::Fuse => ("fusing", "passages"),
        };
        display.show(stage, unit, p.done, p.total);
    }
}

/// The dtype that a word means.
pub fn dtype(arg: DtypeArg) -> Dtype {
    match arg {
        DtypeArg::F32 => Dtype::F32,
        DtypeArg::F16 => Dtype::F16,
    }
}

/// The dtype of an index that a word means.
pub fn index_dtype(arg: IndexDtypeArg) -> Dtype {
    match arg {
        IndexDtypeArg::F32 => Dtype::F32,
        IndexDtypeArg::F16 => Dtype::F16,
        IndexDtypeArg::Int8 => Dtype::Int8,
    }
}

/// The side that a word means.
pub fn side(arg: SideArg) -> Side {
    match arg {
        SideArg::Query => Side::Query,
        SideArg::Passage => Side::Passage,
    }
}

/// Says which encoder is at work.
pub fn announce(opened: &Opened) {
    output::note(format_args!("encoder: {}", describe(opened.encoder.contract())));
}
