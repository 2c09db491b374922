//! `xqg index --generate`: passages in, an index with questions out. A generator that shares the
//! retriever's encoder reads the token states that the passage's embedding is made of, so one pass of
//! the encoder gives both. Questions and embeddings are kept in work units until the index is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;
use xqg_data::embeddings::{Side, has_shard, write_shard};
use xqg_data::error::DataError;
use xqg_data::file::{Lock, output_path, writable_folder};
use xqg_data::lang::Lang;
use xqg_data::npy::{Dtype, Matrix};
use xqg_data::passage::{Passage, read_passages};
use xqg_index::build::{BuildOptions, Vectors, build, default_unit_rows, refuse_finished};
use xqg_index::index::Index;
use xqg_index::manifest::{Shard, hash_file};
use xqg_model::generator::{Decoding, Generator};
use xxhash_rust::xxh3::xxh3_128;

use crate::args::{IndexBuildArgs, Usage, bad_lines};
use crate::commands::generate::{check_langs, decoding, no_generator};
use crate::commands::model;
use crate::encoding::{self, Opened, observe};
use crate::generating::counts::Counts;
use crate::generating::place::{hashes, own_generator, shared_encoder};
use crate::generating::work::{judge, to_lines};
use crate::generating::writer::Written;
use crate::output;
use crate::progress::Display;
use crate::sharding::shard_and_output;
use crate::units::{self, Work};

/// Passages in a work unit.
const UNIT_PASSAGES: usize = 256;
/// Passages that the generator is given at a time.
const BATCH: usize = 32;

/// All questions, in the work folder.
const QUESTIONS: &str = "questions.jsonl";

/// Runs the verb.
pub fn run(args: &IndexBuildArgs) -> Result<()> {
    let (Some(model), Some(corpus), Some(out)) = (&args.model, &args.corpus, &args.out) else {
        bail!(Usage("--generate: expected --model, --corpus and --out beside it".into()));
    };
    let (shard, out) = shard_and_output(args.shard, out)?;
    refuse_shard(shard)?;
    let questions = questions_path(&out)?;
    let _lock = Lock::take(&questions)?;
    match refuse_finished(&out, args.force) {
        // A run that was killed when all was done but the tidying up.
        Err(_) if is_done(&out, &questions) => {
            units::tidy(&questions)?;
            output::note(format_args!("{}: is finished", out.display()));
            return Ok(());
        }
        other => other?,
    }
    let opened = encoding::open(model, &args.encoder)?;
    encoding::announce(&opened);
    let writer = Writer::open(args, &opened)?;
    let work = Work::open(&questions, &writer.plan(args, corpus)?, args.force)?;
    let mut display = Display::new();
    let written = work.prepared(writer.run(args, corpus, &work, &mut display))?;
    drop(display);
    work.finish(|work| index(args, &out, &opened, (work, &written)))?;
    let total = written.counts.total();
    output::truncated(written.counts.cut_passages, written.counts.passages);
    let (passages, questions) = (written.counts.passages, total.questions);
    output::note(format_args!("{}: {passages} passages, {questions} questions", out.display()));
    Ok(())
}

fn refuse_shard(shard: Shard) -> Result<()> {
    if shard == Shard::WHOLE {
        return Ok(());
    }
    bail!(Usage(
        "--generate: expected a build on one machine, found a part of one\n\
         hint: `xqg generate --shard I/N` on each; put the parts together; `xqg index --queries`"
            .into()
    ))
}

/// Whether the index that is there was made of the questions in the work folder, all of which are there.
fn is_done(out: &Path, questions: &Path) -> bool {
    let Some(folder) = units::finishing(questions) else { return false };
    let (Ok(index), Ok(hash)) = (Index::open(out), hash_file(&folder.join(QUESTIONS))) else {
        return false;
    };
    let layers = &index.manifest.layers;
    layers.iter().any(|layer| layer.input == hash)
}

/// Beside the index: its work folder is `INDEX.questions.units.partial`.
fn questions_path(out: &Path) -> Result<PathBuf> {
    let mut name = output_path(out)?.into_os_string();
    name.push(".questions");
    Ok(PathBuf::from(name))
}

/// Builds the index from what was written; passages are not encoded again where they were.
fn index(
    args: &IndexBuildArgs,
    out: &Path,
    opened: &Opened,
    (work, written): (&Work, &AllWritten),
) -> Result<()> {
    let queries = work.folder.join(QUESTIONS);
    work.join(0..written.units, &queries)?;
    let corpus = args.corpus.clone().expect("checked before");
    let options = BuildOptions {
        queries: (written.counts.total().questions > 0).then_some(queries),
        side: encoding::side(args.questions_as),
        dtype: encoding::index_dtype(args.dtype),
        unit_rows: args.unit_rows.unwrap_or_else(|| default_unit_rows(&corpus)),
        shard: Shard::WHOLE,
        bad_lines: bad_lines(args.skip_bad),
        force: args.force,
        corpus,
    };
    let stored = Stored::open(work, written, opened.encoder.dim())?;
    let run = |side, texts: &[String]| match side {
        Side::Passage => match stored.find(texts) {
            Some(values) => Ok(Vectors { values, truncated: 0 }),
            None => opened.run(side, texts),
        },
        Side::Query => opened.run(side, texts),
    };
    let mut display = Display::new();
    build(out, &options, opened.as_encode(&run), &mut observe(&mut display))?;
    Ok(())
}

/// A generator, and what it is to write.
struct Writer {
    generator: Generator,
    folder: PathBuf,
    /// Whether it reads the retriever's token states.
    shared: bool,
    langs: Vec<Lang>,
    decoding: Decoding,
}

/// What all units together hold.
struct AllWritten {
    units: usize,
    counts: Counts,
    /// The place of each passage's embedding, by the hash of the text that was encoded.
    places: HashMap<u128, (usize, usize)>,
}

impl Writer {
    fn open(args: &IndexBuildArgs, opened: &Opened) -> Result<Self> {
        let folder = match &args.generator {
            Some(name) => model::fetch(name)?,
            None => match own_generator(Some(opened.encoder.contract())) {
                Some(folder) => folder,
                None => bail!(no_generator()),
            },
        };
        output::note(format_args!("generator: {}", folder.display()));
        let shared = shared_encoder(&folder)?.is_some();
        let encoder = shared.then(|| opened.encoder.clone());
        let options = encoding::generator_options(encoder, &args.encoder)?;
        let generator = Generator::open(&folder, &options)?;
        let mut langs: Vec<Lang> = Vec::new();
        for lang in &args.langs {
            if !langs.contains(&lang.0) {
                langs.push(lang.0);
            }
        }
        check_langs(&generator, &langs)?;
        let decoding = decoding(args.n, &args.decoding)?;
        generator.check(&langs, &decoding)?;
        Ok(Self { generator, folder, shared, langs, decoding })
    }

    fn plan(&self, args: &IndexBuildArgs, corpus: &Path) -> Result<units::Plan> {
        Ok(units::plan(&json!({
            "corpus": hash_file(corpus)?,
            "generator": hashes(&self.folder)?,
            "langs": self.langs,
            "decoding": format!("{:?}", self.decoding),
            "arithmetic": encoding::arithmetic(&args.encoder)?,
            "passage-max-tokens": args.encoder.passage_max_tokens,
        })))
    }

    /// Writes all units that are not finished yet.
    fn run(
        &self,
        args: &IndexBuildArgs,
        corpus: &Path,
        work: &Work,
        display: &mut Display,
    ) -> Result<AllWritten> {
        let total = count(corpus, args)?;
        let each = (self.langs.len() * self.decoding.n) as u64;
        let mut all = AllWritten { units: 0, counts: Counts::default(), places: HashMap::new() };
        writable_folder(&vectors_folder(work))?;
        let mut passages = read_passages(corpus, bad_lines(args.skip_bad))?;
        let mut done = 0;
        loop {
            let some: Vec<Passage> =
                passages.by_ref().take(UNIT_PASSAGES).collect::<Result<_, DataError>>()?;
            if some.is_empty() {
                return Ok(all);
            }
            let finished = work.has(all.units)
                && (!self.shared || has_shard(&vectors_folder(work), all.units));
            if !finished {
                let mut report = |n: u64| {
                    display.show("generating", "questions", (done + n) * each, Some(total * each));
                };
                self.unit(all.units, &some, work, &mut report)?;
            }
            for (row, passage) in some.iter().enumerate().filter(|_| self.shared) {
                let hash = xxh3_128(passage.encoder_text().as_bytes());
                all.places.insert(hash, (all.units, row));
            }
            all.counts.add(&work.read_counts(all.units)?);
            done += some.len() as u64;
            all.units += 1;
        }
    }

    fn unit(
        &self,
        unit: usize,
        passages: &[Passage],
        work: &Work,
        report: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut counts = Counts { passages: passages.len() as u64, ..Counts::default() };
        let (mut vectors, mut blocks) = (Vec::new(), Vec::new());
        for (i, some) in passages.chunks(BATCH).enumerate() {
            report((i * BATCH) as u64);
            let written = if self.shared {
                let (encoded, written) =
                    self.generator.encode_and_write(some, &self.langs, &self.decoding)?;
                vectors.extend(encoded.vectors);
                written
            } else {
                self.generator.write(some, &self.langs, &self.decoding)?
            };
            for (passage, written) in some.iter().zip(written) {
                let lines = to_lines(passage, &Written::from(written), &mut counts);
                blocks.push((Some(passage), lines));
            }
        }
        if self.shared {
            let ids: Vec<&str> = passages.iter().map(|p| p.docid.as_str()).collect();
            write_shard(&vectors_folder(work), unit, Dtype::F32, &ids, &vectors)?;
        }
        let rows = judge(blocks, None, &mut counts)?;
        work.write(unit, &rows, &counts)
    }
}

fn vectors_folder(work: &Work) -> PathBuf {
    work.folder.join("passages")
}

/// Reads the whole file before anything is written; returns the number of passages.
fn count(corpus: &Path, args: &IndexBuildArgs) -> Result<u64> {
    let mut file = read_passages(corpus, bad_lines(args.skip_bad))?;
    let mut total = 0;
    for passage in file.by_ref() {
        passage?;
        total += 1;
    }
    output::skipped(corpus, file.skipped());
    if total == 0 {
        return Err(DataError::unexpected(corpus, "at least one passage", "none").into());
    }
    Ok(total)
}

/// The embeddings of passages that were made on the way.
struct Stored<'a> {
    shards: Vec<Matrix>,
    written: &'a AllWritten,
    dim: usize,
}

impl<'a> Stored<'a> {
    fn open(work: &Work, written: &'a AllWritten, dim: usize) -> Result<Self> {
        let units = if written.places.is_empty() { 0 } else { written.units };
        let path = |unit: usize| vectors_folder(work).join(format!("shard-{unit:05}.npy"));
        let shards = (0..units).map(|unit| Matrix::open(&path(unit)));
        Ok(Self { shards: shards.collect::<Result<_, _>>()?, written, dim })
    }

    /// The embeddings of some texts, if all of them are there.
    fn find(&self, texts: &[String]) -> Option<Vec<f32>> {
        let mut values = vec![0.0; texts.len() * self.dim];
        for (text, out) in texts.iter().zip(values.chunks_exact_mut(self.dim)) {
            let &(unit, row) = self.written.places.get(&xxh3_128(text.as_bytes()))?;
            self.shards.get(unit).filter(|shard| shard.dim() == self.dim)?.read_rows(row, out);
        }
        Some(values)
    }
}
