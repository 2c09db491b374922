//! `xqg search`: the nearest passages of each query, as a run, or as hits for people.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_data::file::refuse_existing;
use xqg_data::lang::Lang;
use xqg_data::query::{Query, read_queries};
use xqg_data::run::Run;
use xqg_index::collapse::refuse_collapsed;
use xqg_index::fuse::{LangWeights, Weight};
use xqg_index::index::Index;
use xqg_index::search::{Hits, QueryVectors, SearchOptions, search_rows};

use crate::args::{FusionArgs, SearchArgs, Usage};
use crate::commands::explain::{Asker, Explainer, Shown};
use crate::commands::graph::Approximation;
use crate::encoding::{self, Opened, observe};
use crate::expanding::expand;
use crate::fusing;
use crate::output;
use crate::progress::Display;

/// Queries with their embeddings; texts are empty where only embeddings were given.
struct Asked {
    qids: Vec<String>,
    langs: Vec<Option<Lang>>,
    texts: Vec<String>,
    vectors: Vec<f32>,
}

/// Runs the verb.
pub fn run(args: &SearchArgs) -> Result<()> {
    let index = Index::open(&args.index)?;
    let options = options(&index, args)?;
    let outputs = outputs(args, &options)?;
    let by = &args.approximate;
    let graph = by.approximate.then(|| Approximation::open(&index, by.effort)).transpose()?;
    let opened = open_encoder(&index, args)?;
    let asked = ask(&index, opened.as_ref(), args)?;
    let queries = QueryVectors { qids: &asked.qids, langs: &asked.langs, vectors: &asked.vectors };
    let hits = match &graph {
        Some(graph) => graph.search(&index, queries, &options)?,
        None => search_rows(&index, queries, &options, &mut observe(&mut Display::new()))?,
    };
    for (path, rankings) in outputs.iter().zip(&hits) {
        to_run(&index, &asked.qids, rankings).write(path, &args.tag)?;
        output::note(format_args!("{}: {} queries", path.display(), asked.qids.len()));
    }
    if args.text.is_some() || args.json || args.explain {
        let best = hits.first().map_or(&[][..], Vec::as_slice);
        let reasons = args.explain && options.weights.iter().any(|w| w.counts());
        let explainer = Explainer::new(&index, opened.as_ref().filter(|_| reasons), &options.langs);
        let effort = graph.map(|graph| graph.effort(options.k));
        print_hits(&explainer, effort, args, &asked, best)?;
    }
    Ok(())
}

/// The search's options: the share is the user's, or the default where the index has questions.
fn options(index: &Index, args: &SearchArgs) -> Result<SearchOptions> {
    let words = &args.fusion;
    let shard = index.manifest.shard();
    if shard.of > 1 {
        output::warn(format_args!("this is part {} of {} of an index", shard.number, shard.of));
    }
    refuse_parts(index, words)?;
    let one = fusing::setting(index, &words.fused)?;
    if index.manifest.layers.is_empty() && one.weight.counts() {
        output::warn("the index has no questions: alpha and share change nothing but scores");
    }
    let weights = match &words.sweep {
        Some(sweep) => sweep.0.iter().map(|&s| Weight::Share(s)).collect(),
        None => vec![one.weight],
    };
    if words.sweep.is_none() && fusing::is_default(index, &words.fused) {
        let share = index.manifest.defaults().share;
        output::note(format_args!("questions have the default share of {share}"));
    }
    Ok(SearchOptions {
        k: args.k.unwrap_or(if args.text.is_some() { 5 } else { 100 }).min(index.len()),
        weights,
        reduce: one.reduce,
        renormalize: one.renormalize,
        langs: LangWeights { match_query: words.lang_match, ..one.langs },
    })
}

/// A collapsed index holds no parts to weigh; what both verbs may say, `fusing` refuses.
fn refuse_parts(index: &Index, words: &FusionArgs) -> Result<()> {
    if words.sweep.as_ref().is_some_and(|sweep| sweep.0.iter().any(|&s| s > 0.0)) {
        refuse_collapsed(index.folder(), &index.manifest, "a share or alpha above 0")?;
    }
    if words.lang_match {
        refuse_collapsed(index.folder(), &index.manifest, "weights of languages")?;
    }
    Ok(())
}

/// The runs to write, checked before the long work begins.
fn outputs(args: &SearchArgs, options: &SearchOptions) -> Result<Vec<PathBuf>> {
    let Some(out) = &args.out else {
        if args.fusion.sweep.is_some() || !(args.text.is_some() || args.json || args.explain) {
            let text = "xqg search: expected --out RUN, found nowhere to write the ranking\n\
                        hint: --out run.trec, or --json to print hits";
            bail!(Usage(text.into()));
        }
        return Ok(Vec::new());
    };
    let paths: Vec<PathBuf> = match &args.fusion.sweep {
        None => vec![out.clone()],
        Some(_) => options.weights.iter().map(|w| sweep_path(out, *w)).collect(),
    };
    for path in &paths {
        refuse_existing(path, args.force)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        xqg_data::file::writable_folder(folder.unwrap_or(Path::new(".")))?;
    }
    Ok(paths)
}

/// `run.trec` at share 0.25 is `run.share-0.25.trec`.
fn sweep_path(out: &Path, weight: Weight) -> PathBuf {
    let (Weight::Share(share) | Weight::Alpha(share)) = weight;
    let stem = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = match out.extension() {
        Some(ending) => format!("{stem}.share-{share}.{}", ending.to_string_lossy()),
        None => format!("{stem}.share-{share}"),
    };
    out.with_file_name(name)
}

/// Opens the encoder, unless embeddings were given and nothing is to be explained.
fn open_encoder(index: &Index, args: &SearchArgs) -> Result<Option<Opened>> {
    if args.query_embeddings.is_some() && !args.explain {
        return Ok(None);
    }
    let what = format!("searching {}", args.index.display());
    encoding::open_for(&index.manifest, args.model.as_deref(), &what).map(Some)
}

fn ask(index: &Index, opened: Option<&Opened>, args: &SearchArgs) -> Result<Asked> {
    if let Some(path) = &args.query_embeddings {
        return ask_with_embeddings(index, path, args);
    }
    let queries = match (&args.queries, &args.text) {
        (Some(path), _) => read_queries(path)?,
        (None, text) => vec![typed(text.clone().unwrap_or_default(), args.lang.map(|l| l.0))?],
    };
    warn_about_langs(index, args, &queries)?;
    let opened = opened.expect("opened unless embeddings were given");
    match &args.expand {
        None => encode_queries(opened, queries, None),
        Some(model) => {
            let expanded = expand(&queries, args, model)?;
            encode_queries(opened, queries, Some(expanded))
        }
    }
}

/// Takes the queries' embeddings as they are; their encoder must be the index's, where both are
/// known.
fn ask_with_embeddings(index: &Index, path: &Path, args: &SearchArgs) -> Result<Asked> {
    let all = encoding::open_vectors(path, args.query_ids.as_deref(), "--query-ids")?;
    if all.side() == Some(Side::Passage) {
        bail!(
            "reading {}: expected embeddings of queries, found those of passages\n\
             hint: xqg encode --queries makes the former",
            path.display()
        );
    }
    if args.fusion.lang_match {
        let text = "--lang-match: expected queries with languages, found --query-embeddings";
        bail!(Usage(text.into()));
    }
    let what = format!("searching {}", args.index.display());
    let unknown = EncoderContract::external(all.dim(), false);
    index.manifest.plan.contract.check(all.contract().unwrap_or(&unknown), &what)?;
    all.check()?;
    let (qids, vectors) = (all.all_ids()?, all.to_vec());
    let (langs, texts) = (vec![None; qids.len()], vec![String::new(); qids.len()]);
    Ok(Asked { qids, langs, texts, vectors })
}

/// Says where a setting of languages cannot do what it says.
fn warn_about_langs(index: &Index, args: &SearchArgs, queries: &[Query]) -> Result<()> {
    if !args.fusion.lang_match {
        return Ok(());
    }
    let known = index.manifest.langs();
    if args.text.is_some() && args.lang.is_none() {
        bail!(Usage("--lang-match: expected --lang beside --text, found none".into()));
    }
    let without = queries.iter().filter(|q| q.lang.is_none_or(|l| !known.contains(&l))).count();
    if without > 0 {
        let all = queries.len();
        output::warn(format_args!(
            "--lang-match: for {without} of {all} queries the index has no questions in their language"
        ));
    }
    Ok(())
}

fn typed(text: String, lang: Option<Lang>) -> Result<Query> {
    if text.trim().is_empty() {
        bail!(Usage("--text: expected a query, found nothing".into()));
    }
    Ok(Query { qid: "q".to_owned(), lang, text, answers: Vec::new() })
}

/// Encodes the queries, or as passages the texts that took their place.
fn encode_queries(
    opened: &Opened,
    queries: Vec<Query>,
    expanded: Option<Vec<String>>,
) -> Result<Asked> {
    let side = if expanded.is_some() { Side::Passage } else { Side::Query };
    let mut asked = Asked { qids: vec![], langs: vec![], texts: vec![], vectors: vec![] };
    for query in queries {
        asked.qids.push(query.qid);
        asked.langs.push(query.lang);
        asked.texts.push(query.text);
    }
    let (mut display, mut truncated) = (Display::new(), 0);
    let total = Some(asked.texts.len() as u64);
    let texts = expanded.as_ref().unwrap_or(&asked.texts);
    for (i, batch) in texts.chunks(256).enumerate() {
        display.show("encoding queries", "queries", i as u64 * 256, total);
        let encoded = opened.encoder.encode(side, batch)?;
        asked.vectors.extend(encoded.vectors);
        truncated += encoded.truncated as u64;
    }
    drop(display);
    output::truncated(truncated, asked.texts.len() as u64);
    Ok(asked)
}

fn to_run(index: &Index, qids: &[String], rankings: &[Hits]) -> Run {
    let mut run = Run::default();
    for (qid, hits) in qids.iter().zip(rankings) {
        run.insert(qid, hits.iter().map(|&hit| index.scored(hit)).collect());
    }
    run
}

/// Prints the best hits of each query, with the question that speaks for each where asked. `effort`
/// is there where a graph proposed them.
fn print_hits(
    explainer: &Explainer,
    effort: Option<usize>,
    args: &SearchArgs,
    asked: &Asked,
    rankings: &[Hits],
) -> Result<()> {
    let show = if args.text.is_some() { usize::MAX } else { args.show };
    let dim = explainer.dim();
    for (i, hits) in rankings.iter().enumerate() {
        let asker = Asker { vector: &asked.vectors[i * dim..][..dim], lang: asked.langs[i] };
        let shown = explainer.show(&hits[..hits.len().min(show)], asker)?;
        let (qid, text) = (&asked.qids[i], &asked.texts[i]);
        if args.json {
            output::line(json_line(qid, text, &shown, effort))?;
        } else {
            if args.text.is_none() {
                output::line(format_args!("{} {text}", output::bold(qid)))?;
            }
            shown.iter().try_for_each(output::line)?;
        }
    }
    Ok(())
}

fn json_line(qid: &str, text: &str, hits: &[Shown], effort: Option<usize>) -> String {
    let mut line = serde_json::json!({"id": qid, "text": text, "hits": hits});
    if let Some(effort) = effort {
        line["approximate"] = serde_json::json!({"effort": effort});
    }
    line.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_share_of_a_sweep_has_a_file_of_its_own() {
        let path = sweep_path(Path::new("a/run.trec"), Weight::Share(0.05));
        assert_eq!(path, Path::new("a/run.share-0.05.trec"));
        assert_eq!(sweep_path(Path::new("run"), Weight::Share(0.0)), Path::new("run.share-0"));
    }
}
