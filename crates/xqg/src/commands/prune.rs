//! `xqg model prune-vocab`: a copy of a model with the tokens that are used.

use anyhow::{Result, bail};
use xqg_data::lang::Lang;
use xqg_data::lines::BadLines;
use xqg_data::passage::read_passages;
use xqg_data::query::stream_queries;
use xqg_train::prune::Pruner;

use super::model::fetch;
use crate::args::PruneVocabArgs;
use crate::output;

/// Prunes the vocabulary and prints the new folder.
pub fn run(args: &PruneVocabArgs) -> Result<()> {
    let model = fetch(&args.model)?;
    if args.to.exists() {
        let is_model = args.to.join("config.json").exists() && args.to != model;
        if !args.force || !is_model {
            bail!(
                "writing {}: expected a new folder{}, found one that is there\n\
                 hint: name another folder, or --force to replace a model",
                args.to.display(),
                if args.force { " or another model's" } else { "" }
            );
        }
    }
    let mut pruner = Pruner::open(&model)?;
    for path in &args.keep_corpus {
        let passages = read_passages(path, BadLines::Stop)?;
        pruner.keep_texts(passages.map(|p| p.map(|p| p.encoder_text())))?;
    }
    for path in &args.keep_queries {
        let queries = stream_queries(path, BadLines::Stop)?;
        pruner.keep_texts(queries.map(|q| q.map(|q| q.text)))?;
    }
    let languages: Vec<Lang> = args.keep_languages.iter().map(|lang| lang.0).collect();
    pruner.keep_languages(&languages)?;
    let pruned = pruner.write(&args.to)?;
    output::note(format_args!("{} of {} tokens kept", pruned.after, pruned.before));
    output::line(args.to.display())
}
