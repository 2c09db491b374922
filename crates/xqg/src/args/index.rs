//! The words of `xqg index`: building an index, and adding to one that is there.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches, Subcommand};

use super::derived::{IndexCollapseArgs, IndexExportArgs, IndexGraphArgs};
use super::encoder::{EncoderArgs, IndexDtypeArg, SideArg};
use super::generate::DecodingArgs;
use super::values::{LangArg, MeasureArg, ShardArg, SweepArg, positive, up_to};

/// `xqg index`, with or without a verb of its own.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "Examples:\n  xqg index --model multilingual-e5-small --corpus corpus.jsonl \
--queries generated.jsonl --out INDEX\n  xqg index add --index INDEX --queries more.jsonl\n  \
xqg index --embeddings vectors.npy --ids ids.txt --out INDEX\n\n\
A killed build goes on where it was when the same command is given again. The index appears at \
--out when it is complete."
)]
pub struct IndexArgs {
    /// What to do with an index that is there
    #[command(subcommand)]
    pub verb: Option<IndexVerb>,
    /// What to build
    #[command(flatten)]
    pub build: IndexBuildArgs,
}

/// Verbs over an existing index.
#[derive(Debug, Subcommand)]
pub enum IndexVerb {
    /// Add questions, or a language, without touching what is there
    Add(IndexAddArgs),
    /// Put the parts of a sharded build together
    Merge(IndexMergeArgs),
    /// Write the 8-bit copies that make searching fast, where an older index lacks them
    Sketch(IndexSketchArgs),
    /// Choose how questions are fused where a search does not say, by queries with answers or qrels
    Tune(IndexTuneArgs),
    /// Build the graph that `xqg search --approximate` follows
    Graph(IndexGraphArgs),
    /// Write a smaller index: questions fused in for good, one matrix
    Collapse(IndexCollapseArgs),
    /// Write the fused vectors for numpy or FAISS
    Export(IndexExportArgs),
}

/// `xqg index` itself. What clap requires is optional here only because a verb below negates it.
#[derive(Debug, Args)]
pub struct IndexBuildArgs {
    /// The model: a folder, or a name that `xqg model get` knows; with --embeddings it is only
    /// remembered, after its contract has been checked
    #[arg(long, required_unless_present = "embeddings")]
    pub model: Option<String>,
    /// The passages: BEIR JSON lines with _id, title, text; .gz too; with --embeddings in the order
    /// of its rows
    #[arg(long, value_name = "FILE", required_unless_present = "embeddings")]
    pub corpus: Option<PathBuf>,
    /// Take embeddings that exist already: a folder that `xqg encode --corpus` wrote, or a .npy (f32
    /// or f16, rows x dim) or .fvecs file of any encoder
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "queries")]
    pub embeddings: Option<PathBuf>,
    /// The docids of a .npy or .fvecs file, one a line [default: row numbers from 0]
    #[arg(long, value_name = "FILE", requires = "embeddings")]
    pub ids: Option<PathBuf>,
    /// The questions attached to them: JSON lines with docid, lang, text, in any order; .gz too
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Have questions written and attached in the same go, in the languages of --langs
    #[arg(long, requires = "langs", conflicts_with_all = ["queries", "embeddings"])]
    pub generate: bool,
    /// What writes them: a generator's folder [default: the generator in models/ that was made for this
    /// encoder]
    #[arg(long, value_name = "DIR", requires = "generate")]
    pub generator: Option<String>,
    /// The languages to write in
    #[arg(long, value_name = "LANG,…", value_delimiter = ',', requires = "generate")]
    pub langs: Vec<LangArg>,
    /// Questions for each passage in each language
    #[arg(short = 'n', default_value = "5", value_name = "N", requires = "generate")]
    #[arg(value_parser = up_to::<1000>)]
    pub n: usize,
    /// The index folder to write
    #[arg(long, value_name = "INDEX", required = true)]
    pub out: Option<PathBuf>,
    /// How numbers lie on disk
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: IndexDtypeArg,
    /// Which side of the encoder questions go through
    #[arg(long, value_enum, default_value = "query")]
    pub questions_as: SideArg,
    /// Build every N-th unit, beginning with the I-th [default: the Slurm array task, else 1/1]
    #[arg(long, value_name = "I/N")]
    pub shard: Option<ShardArg>,
    /// Passages in a work unit: what is lost at most when the build is killed [default: 2048, or
    /// 8192 for a passages file above 256 MiB]
    #[arg(long, value_parser = positive)]
    pub unit_rows: Option<usize>,
    /// Leave out lines that cannot be used; they are counted and listed
    #[arg(long)]
    pub skip_bad: bool,
    /// Replace the index at --out when the new one is complete; throw away unfinished work of
    /// other inputs
    #[arg(long)]
    pub force: bool,
    /// How the generator decodes
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// Which encoder
    #[command(flatten)]
    pub encoder: EncoderArgs,
}

impl IndexBuildArgs {
    /// What `xqg index` with these words would be told: the defaults are those of the command line.
    ///
    /// # Errors
    /// As the command line's.
    pub fn typed(words: &[&OsStr]) -> Result<Self, clap::Error> {
        let command = Self::augment_args(Command::new("index").no_binary_name(true));
        Self::from_arg_matches(&command.try_get_matches_from(words)?)
    }
}

/// `xqg index add`.
#[derive(Debug, Args)]
pub struct IndexAddArgs {
    /// The index folder
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// The questions to add: JSON lines with docid, lang, text; .gz too
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// Which side of the encoder questions go through
    #[arg(long, value_enum, default_value = "query")]
    pub questions_as: SideArg,
    /// The model, where it is no longer at the place that the index remembers
    #[arg(long)]
    pub model: Option<String>,
    /// Leave out lines that cannot be used; they are counted and listed
    #[arg(long)]
    pub skip_bad: bool,
    /// Throw away an unfinished addition of another file
    #[arg(long)]
    pub force: bool,
}

/// `xqg index merge`.
#[derive(Debug, Args)]
pub struct IndexMergeArgs {
    /// The index folder to write
    #[arg(long, value_name = "INDEX")]
    pub out: PathBuf,
    /// The folders that were built with --shard 1/N to N/N
    #[arg(required = true, value_name = "PART")]
    pub parts: Vec<PathBuf>,
    /// Replace the index at --out
    #[arg(long)]
    pub force: bool,
}

/// `xqg index sketch`.
#[derive(Debug, Args)]
pub struct IndexSketchArgs {
    /// The index folder
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
}

/// `xqg index tune`.
#[derive(Debug, Args)]
#[command(
    after_help = "Searches with every share and with mean and sum, takes the best average over languages \
(the smaller share among equals), and writes it into the index's manifest, where `xqg search` finds it. \
Take other queries than those to be evaluated with.\n\nExamples:\n  xqg index tune --index INDEX \
--queries train.jsonl --corpus corpus.jsonl\n  xqg index tune --index INDEX --queries train.jsonl \
--qrels train.tsv --measure nDCG@10"
)]
pub struct IndexTuneArgs {
    /// The index folder
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// The queries: XOR-TyDi or BEIR JSON lines, with answers unless there are qrels; .gz too
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// Judged passages (TREC or BEIR)
    #[arg(long, value_name = "FILE")]
    pub qrels: Option<PathBuf>,
    /// The passages that the index was built from: answers are looked for in them
    #[arg(long, value_name = "FILE", required_unless_present = "qrels")]
    pub corpus: Option<PathBuf>,
    /// What is to be best; where it is not said, RR@10 with --qrels, else R@2kt
    #[arg(long, value_name = "MEASURE")]
    pub measure: Option<MeasureArg>,
    /// The shares, from A to B in steps of STEP
    #[arg(long, value_name = "A:B:STEP", default_value = "0:0.8:0.1")]
    pub shares: SweepArg,
    /// Passages for each query
    #[arg(short, long, default_value = "100", value_parser = positive)]
    pub k: usize,
    /// The model, where it is no longer at the place that the index remembers
    #[arg(long)]
    pub model: Option<String>,
    /// Only show; leave the index as it is
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
