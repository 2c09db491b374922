//! The words of `xqg teach`.

use std::path::PathBuf;

use clap::Args;

use super::encoder::EncoderArgs;
use super::values::{LangArg, positive};

/// `xqg teach`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  xqg teach --model ielabgroup/xor-tydi-docTquery-mt5-base --rows mined.jsonl \
--out taught.jsonl\n  xqg teach --model models/e5-questions --encoder multilingual-e5-small --rows \
mined.jsonl --out taught.jsonl\n\nA passage's score is the mean of the natural logarithms of the \
probabilities of the question's tokens, given the passage (Sachan et al. 2022, eq. 2): what QuiCK lets a \
retriever learn with. `xqg train retriever` learns from it with loss.distil = \"kl\" or \"margin-mse\". The \
same inputs and settings give the same bytes, on any number of threads. A killed run goes on where it was \
when the same command is given again; its work lies in OUT.units.partial."
)]
pub struct TeachArgs {
    /// The teacher: a generator's folder, or a name that `xqg model get` knows [default: the generator in
    /// models/, if there is one]
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// The encoder that a shared-encoder generator was made for, where it is not found beside it
    #[arg(long, value_name = "DIR")]
    pub encoder: Option<String>,
    /// The training rows: Tevatron, FlagEmbedding or sentence-transformers JSON lines; .gz too
    #[arg(long, value_name = "FILE")]
    pub rows: PathBuf,
    /// The rows to write, with scores; compressed where the name ends in .gz
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The language of rows that name none
    #[arg(long, value_name = "LANG")]
    pub lang: Option<LangArg>,
    /// Rows in a work unit: what is lost at most when the work is killed
    #[arg(long, default_value = "64", value_name = "N", value_parser = positive)]
    pub unit_rows: usize,
    /// Print a summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Replace what lies at --out; throw away unfinished work of other inputs or settings
    #[arg(long)]
    pub force: bool,
    /// Which encoder
    #[command(flatten)]
    pub encoder_settings: EncoderArgs,
}
