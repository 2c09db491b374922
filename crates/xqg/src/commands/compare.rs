//! `xqg compare`: is one run better than another.

use anyhow::Result;
use xqg_measure::compare::{Named, compare};
use xqg_measure::comparison::CompareSettings;
use xqg_measure::report::comparison_table;
use xqg_measure::resampling::Resampling;

use crate::args::CompareArgs;
use crate::commands::evaluate::{evaluate_files, run_name};
use crate::output;

/// Runs the verb.
pub fn run(args: &CompareArgs) -> Result<()> {
    let mut paths = vec![args.baseline.clone()];
    paths.extend(args.run.iter().cloned());
    let evaluations = evaluate_files(&paths, &args.judge)?;
    let names: Vec<String> = paths.iter().map(|p| run_name(p)).collect();
    let named: Vec<Named> = names
        .iter()
        .zip(&evaluations)
        .map(|(name, evaluation)| Named { name, evaluation })
        .collect();
    let resampling = Resampling { resamples: args.resamples, seed: args.seed };
    let settings = CompareSettings { resampling, ..CompareSettings::default() };
    let comparison = compare(named[0], &named[1..], settings)?;
    if args.json {
        return output::line(serde_json::to_string(&comparison)?);
    }
    output::line(comparison_table(&comparison).trim_end())
}
