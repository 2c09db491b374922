//! `xqg completions` and `xqg man`, both from the definitions in `args.rs`.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs, ManArgs};

/// Prints a completion script.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xqg", &mut script);
    std::io::stdout().write_all(&script).context("writing to standard output")
}

/// Writes the manual pages to a folder.
pub fn man(args: &ManArgs) -> Result<()> {
    xqg_data::file::writable_folder(&args.out)?;
    clap_mangen::generate_to(Cli::command(), &args.out)
        .with_context(|| format!("writing {}", args.out.display()))
}
