//! `xqg generate`: questions for passages, by a model, a bank or an endpoint.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use xqg_data::contract::EncoderContract;
use xqg_data::error::DataError;
use xqg_data::file::{Lock, output_path};
use xqg_data::lang::Lang;
use xqg_data::passage::read_passages;
use xqg_index::manifest::{Shard, hash_file};
use xqg_model::generator::{Decoding, Generator, Method};

use crate::args::{
    DecodingArgs, EncoderArgs, EndpointArgs, GenerateArgs, ShortlistArg, Usage, bad_lines,
};
use crate::chat::Chat;
use crate::commands::filter::{Judge, gate_plan};
use crate::commands::model;
use crate::encoding::{self, Opened};
use crate::generating::bank::{self, Bank, Nearest, QuestionLog};
use crate::generating::counts::Counts;
use crate::generating::endpoint::{Endpoint, Prompts, Wanted};
use crate::generating::neural::Neural;
use crate::generating::place::{hashes, own_generator, shared_encoder};
use crate::generating::work::{Output, Task};
use crate::generating::writer::{self, QuestionWriter};
use crate::output;
use crate::progress::Display;
use crate::sharding::shard_and_output;
use crate::units::{self, Plan, Work};

/// What writes the questions.
enum Source {
    /// A log of questions.
    Bank(Vec<PathBuf>),
    /// A language model behind an endpoint.
    Endpoint(String),
    /// A generator's folder.
    Model(PathBuf),
}

impl Source {
    fn parse(args: &GenerateArgs) -> Result<Self> {
        let Some(name) = args.model.as_deref() else {
            let Some(folder) = own_generator(None) else { bail!(no_generator()) };
            output::note(format_args!("generator: {}", folder.display()));
            return Ok(Self::Model(folder));
        };
        if let Some(paths) = name.strip_prefix("bank:") {
            let paths: Vec<PathBuf> =
                paths.split(',').filter(|p| !p.is_empty()).map(PathBuf::from).collect();
            if paths.is_empty() {
                bail!(Usage("--model bank:FILE: expected a file of questions, found none".into()));
            }
            return Ok(Self::Bank(paths));
        }
        if let Some(name) = name.strip_prefix("openai:") {
            return Ok(Self::Endpoint(name.to_owned()));
        }
        Ok(Self::Model(model::fetch(name)?))
    }

    /// Passages in a work unit where nobody says how many: what is lost of an endpoint's answers was
    /// paid for.
    fn unit_passages(&self) -> usize {
        match self {
            Self::Bank(_) | Self::Model(_) => 256,
            Self::Endpoint(_) => 16,
        }
    }
}

/// Runs the verb.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let source = Source::parse(args)?;
    let langs = langs(args);
    let (shard, out) = shard_and_output(args.shard, &args.out)?;
    refuse_idle(&source, args, shard)?;
    let output = Output::new(output_path(&out)?, args.filter, args.gate.keep);
    output.refuse_finished(args.force)?;
    let _lock = Lock::take(&output.kept)?;
    let unit_passages = args.unit_passages.unwrap_or(source.unit_passages());
    let passages = check_corpus(args, shard, unit_passages)?;
    let judge = args.filter.then(|| Judge::open(&args.gate)).transpose()?;
    let ready = Ready::open(&source, args, &langs)?;
    let plan = plan(args, &ready, (&langs, shard, unit_passages))?;
    let work = Work::open(&output.kept, &plan, args.force)?;
    let mut display = Display::new();
    let gate = judge.as_ref().map(|judge| judge.gate(&langs)).transpose()?;
    let gate = gate.as_ref();
    let task = Task { langs: &langs, n: args.n, unit_passages, shard, passages, gate };
    let units = {
        let mut writer = work.prepared(ready.writer(args, &work, &mut display))?;
        let stream = read_passages(&args.corpus, bad_lines(args.skip_bad))?;
        task.run(stream, &mut *writer, &work, &mut display)?
    };
    drop(display);
    let counts = output.finish(work, &units)?;
    tell(args, &output, &counts)
}

/// Refuses words that would do nothing, or not what they say.
fn refuse_idle(source: &Source, args: &GenerateArgs, shard: Shard) -> Result<()> {
    let gate = &args.gate;
    if !args.filter && gate.round_trip.is_some() {
        bail!(Usage("--round-trip: expected --filter beside it".into()));
    }
    if gate.keep.is_some() && shard != Shard::WHOLE {
        bail!(Usage(
            "--keep: expected a share of all questions, found a part of them\n\
             hint: put the parts together, then `xqg filter --keep`"
                .into()
        ));
    }
    if args.floor.is_some() && !matches!(source, Source::Bank(_)) {
        bail!(Usage("--floor: expected --model bank:FILE beside it".into()));
    }
    Ok(())
}

/// The languages, each once, in the order asked.
fn langs(args: &GenerateArgs) -> Vec<Lang> {
    let mut langs = Vec::new();
    for lang in &args.langs {
        if !langs.contains(&lang.0) {
            langs.push(lang.0);
        }
    }
    langs
}

/// Reads the whole file before anything is written, so that a bad line at its end costs a minute and
/// not a day; returns the number of passages in this run's units.
fn check_corpus(args: &GenerateArgs, shard: Shard, unit_passages: usize) -> Result<u64> {
    let mut file = read_passages(&args.corpus, bad_lines(args.skip_bad))?;
    let (mut all, mut ours) = (0usize, 0);
    for passage in file.by_ref() {
        passage?;
        ours += u64::from(shard.holds(all / unit_passages));
        all += 1;
    }
    output::skipped(&args.corpus, file.skipped());
    if all == 0 {
        return Err(DataError::unexpected(&args.corpus, "at least one passage", "none").into());
    }
    Ok(ours)
}

/// What writes, opened as far as can be before the work folder is there.
enum Ready {
    Bank { opened: Box<Opened>, log: QuestionLog, files: Vec<PathBuf> },
    Endpoint { chat: Chat, wanted: Wanted },
    Model { generator: Box<Generator>, decoding: Decoding, folder: PathBuf },
}

/// What is said where no generator is named and the project's own is not there.
pub fn no_generator() -> Usage {
    Usage(
        "--model: expected a generator, found none named and none in models/\n\
         hint: --model names a folder; --model bank:FILE needs no generator, only questions"
            .into(),
    )
}

impl Ready {
    fn open(source: &Source, args: &GenerateArgs, langs: &[Lang]) -> Result<Self> {
        match source {
            Source::Bank(paths) => {
                let Some(encoder) = &args.encoder else {
                    bail!(Usage(
                        "--model bank:FILE: expected --encoder DIR beside it, found none".into()
                    ));
                };
                let log = QuestionLog::read(paths, langs)?;
                let opened = Box::new(encoding::open(encoder, &args.encoder_settings)?);
                encoding::announce(&opened);
                Ok(Self::Bank { opened, log, files: bank::files(paths)? })
            }
            Source::Endpoint(name) => {
                let chat = Chat::new(name, &args.endpoint)?;
                Ok(Self::Endpoint { chat, wanted: wanted(args)? })
            }
            Source::Model(folder) => {
                let decoding = decoding(args.n, &args.decoding)?;
                let (encoder, settings) = (args.encoder.as_deref(), &args.encoder_settings);
                let generator = open_generator(folder, encoder, settings)?;
                check_langs(&generator, langs)?;
                generator.check(langs, &decoding)?;
                Ok(Self::Model { generator: Box::new(generator), decoding, folder: folder.clone() })
            }
        }
    }

    /// What decides the text of the questions.
    fn plan(&self, args: &GenerateArgs) -> Result<Value> {
        match self {
            Self::Bank { opened, files, .. } => {
                let files = files.iter().map(|f| hash_file(f)).collect::<Result<Vec<_>, _>>()?;
                let contract = opened.encoder.contract();
                let arithmetic = encoding::arithmetic(&args.encoder_settings)?;
                Ok(json!({
                    "bank": files, "encoder": contract, "arithmetic": arithmetic, "floor": args.floor,
                }))
            }
            // Where the model is does not matter: a server may come back at another address.
            Self::Endpoint { chat, wanted } => Ok(json!({
                "model": chat.model(),
                "max-tokens": wanted.max_tokens,
                "temperature": wanted.temperature,
                "top-p": wanted.top_p,
                "seed": wanted.seed,
                "passage-max-chars": wanted.passage_max_chars,
                "prompts": wanted.prompts.all(),
            })),
            Self::Model { decoding, folder, .. } => Ok(json!({
                "model": hashes(folder)?,
                "decoding": format!("{decoding:?}"),
                "arithmetic": encoding::arithmetic(&args.encoder_settings)?,
                "passage-max-tokens": args.encoder_settings.passage_max_tokens,
            })),
        }
    }

    fn writer<'a>(
        &'a self,
        args: &GenerateArgs,
        work: &Work,
        display: &mut Display,
    ) -> Result<Box<dyn QuestionWriter + 'a>> {
        match self {
            Self::Bank { opened, log, .. } => {
                let floor = args.floor.unwrap_or(f32::NEG_INFINITY);
                let (nearest, total) = (Nearest { n: args.n, floor }, log.len() as u64);
                let mut report =
                    |done| display.show("encoding the bank", "questions", done, Some(total));
                let folder = work.folder.join("bank");
                Ok(Box::new(Bank::open(opened, log.clone(), nearest, &folder, &mut report)?))
            }
            Self::Endpoint { chat, wanted } => Ok(Box::new(Endpoint { chat, wanted })),
            Self::Model { generator, decoding, .. } => Ok(Box::new(Neural { generator, decoding })),
        }
    }
}

/// Opens a generator, and the encoder that it was made for where it shares one: the one named, or the
/// one that its settings name.
pub fn open_generator(
    folder: &Path,
    encoder: Option<&str>,
    args: &EncoderArgs,
) -> Result<Generator> {
    let encoder = match shared_encoder(folder)? {
        None => None,
        Some(contract) => {
            if args.passage_max_tokens.is_some() {
                bail!(Usage(format!(
                    "--passage-max-tokens: expected a generator that reads passages itself, found one that \
                     reads the states of {}, {} tokens of a passage",
                    contract.model, contract.passage_max_tokens
                )));
            }
            let name = encoder.unwrap_or(&contract.model);
            let what = format!("using {} with {name}", folder.display());
            // A generator's contract says nothing of the arithmetic: that is the user's.
            let precision = encoding::precision_name(args)?;
            let contract = EncoderContract { precision, ..contract.clone() };
            Some(encoding::open_as(&contract, name, &what)?.encoder)
        }
    };
    let options = encoding::generator_options(encoder, args)?;
    Ok(Generator::open(folder, &options)?)
}

/// Refuses languages that a model was not made for.
pub fn check_langs(generator: &Generator, langs: &[Lang]) -> Result<()> {
    let Some(known) = generator.languages() else { return Ok(()) };
    let Some(lang) = langs.iter().find(|lang| !known.contains(lang)) else { return Ok(()) };
    let known: Vec<&str> = known.iter().map(Lang::code).collect();
    let known = known.join(", ");
    bail!(Usage(format!("--langs: expected languages of the generator, {known}, found {lang}")));
}

/// What the words of decoding mean.
pub fn decoding(n: usize, args: &DecodingArgs) -> Result<Decoding> {
    let method = match args.beam {
        Some(width) if width < n => bail!(Usage(format!(
            "--beam: expected at least as many as questions, {n}, found {width}\n\
             hint: -n 1 writes the best one only"
        ))),
        Some(width) => Method::Beam { width },
        None if args.greedy => Method::Greedy,
        None => Method::Sample {
            top_k: args.top_k.unwrap_or(if args.top_p.is_some() { 0 } else { 10 }),
            top_p: args.top_p.unwrap_or(1.0),
            temperature: args.temperature.unwrap_or(1.0),
        },
    };
    let shortlist = args.shortlist == ShortlistArg::Auto;
    Ok(Decoding { n, method, max_tokens: args.max_tokens, seed: args.seed, shortlist })
}

/// How an endpoint is asked. Only what was said is sent: a server knows what suits its model.
fn wanted(args: &GenerateArgs) -> Result<Wanted> {
    let decoding = &args.decoding;
    if decoding.beam.is_some() || decoding.top_k.is_some() {
        let text = "--beam and --top-k: expected a generator's folder, found openai:NAME\n\
                    hint: its settings are --temperature, --top-p and --greedy";
        bail!(Usage(text.into()));
    }
    Ok(Wanted {
        n: args.n,
        max_tokens: decoding.max_tokens,
        temperature: if decoding.greedy { Some(0.0) } else { decoding.temperature },
        top_p: decoding.top_p,
        seed: decoding.seed,
        passage_max_chars: args.endpoint.passage_max_chars,
        prompts: Prompts::for_questions(&args.endpoint.prompt_file)?,
    })
}

/// What decides the bytes of the output.
fn plan(
    args: &GenerateArgs,
    ready: &Ready,
    (langs, shard, unit_passages): (&[Lang], Shard, usize),
) -> Result<Plan> {
    Ok(units::plan(&json!({
        "corpus": hash_file(&args.corpus)?,
        "generator": ready.plan(args)?,
        "langs": langs,
        "n": args.n,
        "unit-passages": unit_passages,
        "shard": shard,
        "gate": args.filter.then(|| gate_plan(&args.gate)).transpose()?,
    })))
}

fn tell(args: &GenerateArgs, output: &Output, counts: &Counts) -> Result<()> {
    let total = counts.total();
    output::truncated(counts.cut_passages, counts.passages);
    if counts.blank > 0 {
        output::warn(format_args!("{} questions were blank and are left out", counts.blank));
    }
    if counts.without_questions > 0 {
        let (none, all) = (counts.without_questions, counts.passages);
        output::warn(format_args!("{none} of {all} passages got no question"));
    }
    output::note(format_args!("{}: {} questions", output.kept.display(), total.kept));
    let cost = cost(&args.endpoint, &counts.usage);
    tell_usage(&counts.usage, cost);
    summarise(&output.kept, output.rejected.as_deref(), (counts, cost), args.json)
}

/// What the tokens cost, where prices were said.
fn cost(args: &EndpointArgs, usage: &writer::Usage) -> Option<f64> {
    let of =
        |tokens: u64, price: Option<f32>| tokens as f64 / 1e6 * f64::from(price.unwrap_or(0.0));
    let said = args.price_in.is_some() || args.price_out.is_some();
    said.then(|| of(usage.prompt_tokens, args.price_in) + of(usage.answer_tokens, args.price_out))
}

fn tell_usage(usage: &writer::Usage, cost: Option<f64>) {
    if usage.requests + usage.failed == 0 {
        return;
    }
    let cost = cost.map_or(String::new(), |cost| format!(", cost {cost:.4}"));
    output::note(format_args!(
        "{} answers, {} tries more, {} tokens sent, {} received{cost}",
        usage.requests, usage.retries, usage.prompt_tokens, usage.answer_tokens
    ));
    if usage.failed + usage.short > 0 {
        output::warn(format_args!(
            "{} answers were of no use, {} held fewer questions than asked for",
            usage.failed, usage.short
        ));
    }
}

/// Prints what became of the questions.
pub fn summarise(
    kept: &Path,
    rejected: Option<&Path>,
    (counts, cost): (&Counts, Option<f64>),
    as_json: bool,
) -> Result<()> {
    if as_json {
        let mut summary = json!({
            "out": kept, "rejected": rejected, "total": counts.total(), "counts": counts,
        });
        if let Some(cost) = cost {
            summary["cost"] = json!(cost);
        }
        return output::line(summary);
    }
    output::line(counts.table().trim_end())
}
