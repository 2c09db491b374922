//! `xqg`: arguments in, one verb, words out. This file is the table of contents: it reads the
//! arguments, sets the threads, calls one command and turns its error into a message and an exit
//! code (0 done, 1 failed, 2 used wrongly).

mod args;
mod chat;
mod commands;
mod encoding;
mod expanding;
mod fusing;
mod generating;
mod judging;
mod mining;
mod output;
mod progress;
mod sharding;
mod units;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use xqg_index::error::IndexError;

use args::{Cli, Command, IndexVerb, ModelVerb, TrainVerb};

/// Training takes and gives back large buffers all the time; with this allocator they stay at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    let cli = Cli::parse();
    match set_threads(cli.threads).and_then(|()| run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(if used_wrongly(&error) { 2 } else { 1 })
        }
    }
}

fn used_wrongly(error: &anyhow::Error) -> bool {
    let setting = |e: &IndexError| matches!(e, IndexError::Setting { .. });
    error.is::<args::Usage>() || error.downcast_ref().is_some_and(setting)
}

fn set_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().context("starting the threads")
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Quickstart(args) => commands::quickstart::run(&args),
        Command::Model { verb: ModelVerb::Get(args) } => commands::model::get(&args),
        Command::Model { verb: ModelVerb::PruneVocab(args) } => commands::prune::run(&args),
        Command::Encode(args) => commands::encode::run(&args),
        Command::Index(args) => match args.verb {
            None if args.build.generate => commands::index_generate::run(&args.build),
            None => commands::index::build(&args.build),
            Some(IndexVerb::Add(args)) => commands::index::add(&args),
            Some(IndexVerb::Merge(args)) => commands::index::merge(&args),
            Some(IndexVerb::Sketch(args)) => commands::index::sketch(&args),
            Some(IndexVerb::Tune(args)) => commands::tune::run(&args),
            Some(IndexVerb::Graph(args)) => commands::graph::build(&args),
            Some(IndexVerb::Collapse(args)) => commands::derive::collapse(&args),
            Some(IndexVerb::Export(args)) => commands::derive::export(&args),
        },
        Command::Generate(args) => commands::generate::run(&args),
        Command::Filter(args) => commands::filter::run(&args),
        Command::Search(args) => commands::search::run(&args),
        Command::Mine(args) => commands::mine::run(&args),
        Command::Teach(args) => commands::teach::run(&args),
        Command::Train { verb: TrainVerb::Retriever(args) } => commands::train::retriever(&args),
        Command::Train { verb: TrainVerb::Generator(args) } => commands::train::generator(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Completions(args) => commands::shell::completions(&args),
        Command::Man(args) => commands::shell::man(&args),
    }
}
