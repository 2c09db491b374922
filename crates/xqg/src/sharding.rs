//! Which part of the work is this run's: what the words say, else what a Slurm array says.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xqg_index::manifest::Shard;

use crate::args::ShardArg;
use crate::output;

/// Which part to do and where. The tasks of a Slurm array share one command line, so each gets
/// an output of its own.
pub fn shard_and_output(said: Option<ShardArg>, out: &Path) -> Result<(Shard, PathBuf)> {
    if let Some(ShardArg(shard)) = said {
        return Ok((shard, out.to_path_buf()));
    }
    let shard = slurm_shard()?;
    if shard == Shard::WHOLE {
        return Ok((shard, out.to_path_buf()));
    }
    let mut name = xqg_data::file::output_path(out)?.into_os_string();
    name.push(format!(".{}-of-{}", shard.number, shard.of));
    let out = PathBuf::from(name);
    output::note(format_args!("part of a Slurm array: {}", out.display()));
    Ok((shard, out))
}

/// The part of the work that a Slurm array gives this task.
fn slurm_shard() -> Result<Shard> {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(task), Some(count)) =
        (variable("SLURM_ARRAY_TASK_ID"), variable("SLURM_ARRAY_TASK_COUNT"))
    else {
        return Ok(Shard::WHOLE);
    };
    let first = variable("SLURM_ARRAY_TASK_MIN").unwrap_or_else(|| "0".to_owned());
    let number = |text: &str| text.parse::<u32>().context("reading SLURM_ARRAY_TASK_*: a number");
    let number = (number(&task)?.saturating_sub(number(&first)?) + 1, number(&count)?);
    let ShardArg(shard) = format!("{}/{}", number.0, number.1)
        .parse()
        .map_err(|e: String| anyhow::anyhow!("SLURM_ARRAY_TASK_*: {e}\nhint: set --shard I/N"))?;
    Ok(shard)
}
