//! `xqg quickstart`: the whole way on a small collection of our own. Sixty English passages, for
//! each of seven languages one question a passage attached as a generator would, and one kept as a
//! query. It searches with and without the attached questions, and with those that the project's own
//! generator writes on the spot where it is at hand; measures all, tests the differences, and shows
//! three searches with the reason of each match.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Result, bail};
use xqg_data::embeddings::Side;
use xqg_data::file::{writable_folder, write_whole};
use xqg_data::lines::BadLines;
use xqg_data::npy::Dtype;
use xqg_data::qrels::Qrels;
use xqg_data::query::{Query, read_queries};
use xqg_data::run::Run;
use xqg_index::build::{BuildOptions, build};
use xqg_index::fuse::{DEFAULT_SHARE, LangWeights, Reduce, Weight};
use xqg_index::index::Index;
use xqg_index::manifest::{IndexManifest, Shard, hash_file};
use xqg_index::search::{Hits, QueryVectors, SearchOptions, search, search_rows};
use xqg_measure::compare::{Named, compare};
use xqg_measure::comparison::CompareSettings;
use xqg_measure::evaluate::{Evaluator, Sources};
use xqg_measure::measure::Measure;
use xqg_measure::report::comparison_table;

use crate::args::{EncoderArgs, IndexBuildArgs, PrecisionArg, QuickstartArgs};
use crate::commands::explain::{Asker, Explainer};
use crate::commands::index_generate;
use crate::encoding::{self, Opened, observe};
use crate::generating::place::own_generator;
use crate::output::{self, bold};
use crate::progress::Display;

/// The demo's files, part of the program so that it needs nothing but the model.
const FILES: [(&str, &str); 4] = [
    ("corpus.jsonl", include_str!("../../../../demo/corpus.jsonl")),
    ("generated.jsonl", include_str!("../../../../demo/attached.jsonl")),
    ("queries.jsonl", include_str!("../../../../demo/queries.jsonl")),
    ("qrels.tsv", include_str!("../../../../demo/qrels.tsv")),
];

/// Runs the verb.
pub fn run(args: &QuickstartArgs) -> Result<()> {
    let folder = args.out.as_path();
    lay_out(folder)?;
    say("The model: a folder in the cache, or fetched now")?;
    // The same table on every machine, whatever its fastest arithmetic.
    let settings = EncoderArgs { precision: PrecisionArg::F32, ..EncoderArgs::default() };
    let opened = encoding::open(&args.model, &settings)?;
    output::line(encoding::describe(opened.encoder.contract()))?;
    say("The index: 60 English passages and 420 questions in 7 languages")?;
    let index = index(folder, &opened, args.force)?;
    let generator = own_generator(Some(opened.encoder.contract()));
    if let (None, Some(other)) = (&generator, own_generator(None)) {
        output::note(format_args!(
            "{} was made for other weights of this model (`xqg model get multilingual-e5-small --source \
             pip`), so none are generated here",
            other.display()
        ));
    }
    let written = generator.as_deref().map(|from| written_index(folder, args, from)).transpose()?;
    let queries = read_queries(&folder.join("queries.jsonl"))?;
    let vectors = encode(&opened, &queries)?;
    say("420 other questions asked: the passages alone, then fused with questions")?;
    let asked = Asked::new(&queries, &vectors);
    let mut runs = search(&index, asked.vectors(), &options(10), &mut |_| ())?;
    if let Some(written) = &written {
        let found = search(written, asked.vectors(), &options(10), &mut |_| ())?;
        runs.extend(found.into_iter().nth(1));
    }
    for (run, (file, _)) in runs.iter().zip(RUNS) {
        run.write(&folder.join(file), "xqg")?;
    }
    measure(folder, queries.clone(), &runs)?;
    say("Why did this match? Two searches that the questions put right, and one they put wrong")?;
    show(&index, &opened, &queries, &asked)?;
    next_steps(folder, generator.is_some())
}

/// The runs, in their order: files, and names in the table.
const RUNS: [(&str, &str); 3] = [
    ("passages.trec", "passages"),
    ("with-questions.trec", "with questions"),
    ("with-generated.trec", "with generated"),
];

/// An index of the same passages with questions that a generator writes now, three a language.
fn written_index(folder: &Path, args: &QuickstartArgs, generator: &Path) -> Result<Index> {
    say("Another index: 3 questions in each language, written now by the project's own generator")?;
    let (path, corpus) = (folder.join("index-generated"), folder.join("corpus.jsonl"));
    let fixed = "--generate --precision=f32 --langs=ar,bn,fi,ja,ko,ru,te -n3 --force --model";
    let mut words: Vec<&OsStr> = fixed.split(' ').map(OsStr::new).collect();
    words.push(args.model.as_ref());
    words.extend(["--corpus".as_ref(), corpus.as_os_str()]);
    words.extend(["--generator".as_ref(), generator.as_os_str()]);
    words.extend(["--out".as_ref(), path.as_os_str()]);
    index_generate::run(&IndexBuildArgs::typed(&words)?)?;
    Ok(Index::open(&path)?)
}

fn say(text: &str) -> Result<()> {
    output::line(format_args!("\n{}", bold(&format!("== {text}"))))
}

/// The file that marks a folder as the demo's: only such a folder is ever written over.
const MARK: &str = ".xqg-quickstart";

/// Writes the demo's files to a new, an empty, or the demo's own folder.
fn lay_out(folder: &Path) -> Result<()> {
    let empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if folder.exists() && !empty && !folder.join(MARK).exists() {
        bail!(
            "writing {}: expected a new folder, found one with files of its own\n\
             hint: --out names another",
            folder.display()
        );
    }
    writable_folder(folder)?;
    write_whole(&folder.join(MARK), b"made by xqg quickstart; may be deleted\n")?;
    for (name, content) in FILES {
        write_whole(&folder.join(name), content.as_bytes())?;
    }
    Ok(())
}

/// Whether an index was built from the files that lie there now, by this encoder.
fn is_current(folder: &Path, opened: &Opened) -> Result<bool> {
    let Ok(manifest) = IndexManifest::read(&folder.join("index")) else { return Ok(false) };
    let questions = hash_file(&folder.join("generated.jsonl"))?;
    Ok(manifest.plan.contract == *opened.encoder.contract()
        && manifest.plan.corpus == hash_file(&folder.join("corpus.jsonl"))?
        && manifest.layers.len() == 1
        && manifest.layers[0].input == questions)
}

/// Builds the index, or opens the one of an earlier run with the same model and files.
fn index(folder: &Path, opened: &Opened, force: bool) -> Result<Index> {
    let path = folder.join("index");
    if force || !is_current(folder, opened)? {
        let options = BuildOptions {
            corpus: folder.join("corpus.jsonl"),
            queries: Some(folder.join("generated.jsonl")),
            side: Side::Query,
            dtype: Dtype::F32,
            unit_rows: 2048,
            shard: Shard::WHOLE,
            bad_lines: BadLines::Stop,
            force: true,
        };
        let run = |side, texts: &[String]| opened.run(side, texts);
        let mut display = Display::new();
        build(&path, &options, opened.as_encode(&run), &mut observe(&mut display))?;
    }
    output::line(path.display())?;
    Ok(Index::open(&path)?)
}

/// The queries as a search wants them.
struct Asked<'a> {
    qids: Vec<String>,
    langs: Vec<Option<xqg_data::lang::Lang>>,
    vectors: &'a [f32],
}

impl<'a> Asked<'a> {
    fn new(queries: &[Query], vectors: &'a [f32]) -> Self {
        let qids = queries.iter().map(|q| q.qid.clone()).collect();
        Self { qids, langs: queries.iter().map(|q| q.lang).collect(), vectors }
    }

    fn vectors(&self) -> QueryVectors<'_> {
        QueryVectors { qids: &self.qids, langs: &self.langs, vectors: self.vectors }
    }
}

fn encode(opened: &Opened, queries: &[Query]) -> Result<Vec<f32>> {
    let texts: Vec<String> = queries.iter().map(|q| q.text.clone()).collect();
    Ok(opened.encoder.encode(Side::Query, &texts)?.vectors)
}

fn options(k: usize) -> SearchOptions {
    SearchOptions {
        k,
        weights: vec![Weight::Share(0.0), Weight::Share(DEFAULT_SHARE)],
        reduce: Reduce::Mean,
        renormalize: true,
        langs: LangWeights::default(),
    }
}

fn measure(folder: &Path, queries: Vec<Query>, runs: &[Run]) -> Result<()> {
    let measures: Vec<Measure> = vec!["RR@10".parse()?, "R@1".parse()?];
    let qrels = Some(Qrels::read(&folder.join("qrels.tsv"))?);
    let sources = Sources { qrels, queries, ..Sources::default() };
    let all: Vec<&Run> = runs.iter().collect();
    let evaluations = Evaluator::new(&measures, sources)?.evaluate_all(&all)?;
    let named: Vec<Named> = evaluations
        .iter()
        .zip(RUNS)
        .map(|(evaluation, (_, name))| Named { name, evaluation })
        .collect();
    let comparison = compare(named[0], &named[1..], CompareSettings::default())?;
    output::line(comparison_table(&comparison).trim_end())
}

/// Two queries whose best passage the questions put right, in two languages, and one they put wrong.
fn telling(index: &Index, queries: &[Query], hits: &[Vec<Hits>]) -> Vec<usize> {
    // A query's identifier begins with the docid of the passage it was written for.
    let right = |run: &[Hits], place: usize| {
        let best = run[place].first().map(|hit| index.ids.get(hit.1));
        best == queries[place].qid.split('-').next()
    };
    let changed =
        |place: &usize, to: bool| right(&hits[1], *place) == to && right(&hits[0], *place) != to;
    let all = || 0..queries.len();
    let first = all().find(|i| changed(i, true));
    let other = |i: &usize| Some(queries[*i].lang) != first.map(|f| queries[f].lang);
    let second = all().rfind(|i| changed(i, true) && other(i));
    let wrong = all().find(|i| changed(i, false));
    [first, second, wrong].into_iter().flatten().collect()
}

fn show(index: &Index, opened: &Opened, queries: &[Query], asked: &Asked) -> Result<()> {
    let options = options(2);
    let explainer = Explainer::new(index, Some(opened), &options.langs);
    let hits = search_rows(index, asked.vectors(), &options, &mut |_| ())?;
    for place in telling(index, queries, &hits) {
        let vector = &asked.vectors[place * index.dim()..][..index.dim()];
        let lang = queries[place].lang.map_or("", |l| l.name());
        output::line(format_args!("\n{lang}: {}", bold(&queries[place].text)))?;
        for hit in explainer.show(&hits[1][place], Asker { vector, lang: queries[place].lang })? {
            output::line(hit)?;
        }
    }
    Ok(())
}

/// Commands to copy, with the program as it was called; `generator`: whether one is at hand.
fn next_steps(folder: &Path, generator: bool) -> Result<()> {
    say("Next")?;
    let program = std::env::args().next().unwrap_or_else(|| "xqg".to_owned());
    let (x, f) = (program, folder.display());
    output::line(format_args!(
        "{x} search --index {f}/index --text \"Kuka keksi teremiinin?\" --explain\n\
         {x} search --index {f}/index --queries {f}/queries.jsonl --out {f}/run.trec --sweep 0:0.6:0.1\n\
         {x} evaluate --run {f}/run.share-0.2.trec --qrels {f}/qrels.tsv --queries {f}/queries.jsonl \
         --measures RR@10,nDCG@10\n\
         {x} index --model multilingual-e5-small --corpus YOURS.jsonl --queries QUESTIONS.jsonl --out INDEX"
    ))?;
    if generator {
        output::line(format_args!(
            "{x} index --model multilingual-e5-small --corpus YOURS.jsonl --generate --langs te,ar --out INDEX"
        ))?;
    }
    Ok(())
}
