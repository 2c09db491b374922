//! The words that say how passages and their questions are fused.

use clap::{Args, ValueEnum};

use super::values::{LangWeightArg, SweepArg, fraction};

/// Sum or mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReduceArg {
    /// The sum of the questions' embeddings, as the paper's code has it
    Sum,
    /// Their mean
    Mean,
}

/// Yes, no, or as the model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AutoArg {
    /// Yes when the model normalises
    Auto,
    /// Always
    Yes,
    /// Never
    No,
}

/// One setting of the fusion, the same for every query.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fusion")]
#[command(group = clap::ArgGroup::new("one-weight").args(["alpha", "share"]))]
pub struct FusedArgs {
    /// The formula's alpha, 0 to 1
    #[arg(long, value_parser = fraction)]
    pub alpha: Option<f32>,
    /// The part of the fused weight that belongs to the questions, 0 to 1 [default: the index's, which
    /// is 0.4 unless `xqg index tune` chose another; 0 where it has no questions]
    #[arg(long, value_parser = fraction)]
    pub share: Option<f32>,
    /// Sum or mean of a passage's questions [default: the index's, which is the mean unless `xqg index
    /// tune` chose the sum]
    #[arg(long, value_enum)]
    pub reduce: Option<ReduceArg>,
    /// Whether fused embeddings are scaled to length one
    #[arg(long, value_enum, default_value = "auto")]
    pub renormalize: AutoArg,
    /// Weights of single languages, such as te=1,ja=0; the others weigh 1
    #[arg(long, value_name = "LANG=W,…", value_delimiter = ',')]
    pub lang_weights: Vec<LangWeightArg>,
}

/// How a search fuses: one setting, or a sweep of shares, for all queries or by their language.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fusion")]
pub struct FusionArgs {
    /// One setting
    #[command(flatten)]
    pub fused: FusedArgs,
    /// All shares from A to B in steps of STEP, in one pass; one run each, named RUN.share-S
    #[arg(long, value_name = "A:B:STEP")]
    pub sweep: Option<SweepArg>,
    /// Use only the questions in the query's own language
    #[arg(long)]
    pub lang_match: bool,
}
