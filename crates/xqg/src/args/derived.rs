//! What is made from an index that is there: the words of its graph and of a search by it, of
//! collapsed indexes and of exports.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::encoder::IndexDtypeArg;
use super::fusion::FusedArgs;
use super::values::positive;

/// `xqg index graph`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  xqg index graph --index INDEX --share 0.4\n  \
xqg search --index INDEX --queries queries.jsonl --approximate --out run.trec\n\n\
The graph (HNSW: Malkov and Yashunin, 2018) joins each passage to those whose fused embeddings lie \
near, and keeps one byte a dimension. It lies in INDEX/graph; nothing else of the index is touched. \
It only proposes passages: a search scores them again from the index itself, so it may use another \
share than the graph, at the price of some recall. At its end the build prints how many of the exact \
best ten the graph proposed, for queries drawn from the index: questions attached to random passages, \
or, where there are none, the passages themselves.\n\n\
A killed build goes on from its last checkpoint when the same command is given again. After `xqg \
index add`, build it again with --force. With more than one thread, two builds of a graph are not \
the same bytes.")]
pub struct IndexGraphArgs {
    /// The index folder
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// Links of a passage to others, HNSW's M: more find more, and cost memory (8 to 10 bytes each)
    /// and time
    #[arg(long, default_value = "24", value_parser = positive)]
    pub neighbours: usize,
    /// Paths followed at once to find a passage's neighbours, HNSW's efConstruction: more make a
    /// better graph, and the build longer
    #[arg(long, default_value = "200", value_parser = positive)]
    pub build_effort: usize,
    /// Paths that a search follows at once where it does not say how many
    #[arg(long, default_value = "256", value_parser = positive)]
    pub effort: usize,
    /// Passages linked between two checkpoints [default: an eighth of them, at least 200,000]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub checkpoint_rows: Option<usize>,
    /// Queries that the recall is measured with
    #[arg(long, value_name = "N", default_value = "200", value_parser = positive)]
    pub recall_queries: usize,
    /// The seed that picks them
    #[arg(long, default_value = "42")]
    pub seed: u64,
    /// Replace a graph of another setting or content; throw away unfinished work of another
    #[arg(long)]
    pub force: bool,
    /// How to fuse
    #[command(flatten)]
    pub fused: FusedArgs,
}

/// Exact search, or search by a graph.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Approximate search")]
pub struct ApproximateArgs {
    /// Score only what the graph of `xqg index graph` proposes: far fewer passages are read, and
    /// some that belong to the best may be missed. Scores are exact, under any share and weights
    #[arg(long)]
    pub approximate: bool,
    /// Paths followed through the graph at once, at least twice k: more find more and take longer
    /// [default: as the graph was built]
    #[arg(long, value_name = "N", requires = "approximate", value_parser = positive)]
    pub effort: Option<usize>,
}

/// `xqg index collapse`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  xqg index collapse --index INDEX --share 0.25 --dtype f16 --out SMALL\n\n\
The new index has the normal format and is searched like any other, with the scores that the old one \
gives at the same share, to the precision of the dtype. It holds no questions: what was fused is \
settled, so `xqg search --share` and the weights of languages are refused on it, and so are \
`xqg index add` and the reasons of --explain. Its manifest says what was fused.\n\n\
Bytes a passage, for embeddings of d numbers: 4 d with f32, 2 d with f16, d + 16 with int8, and the \
texts unless --no-texts. A killed run goes on where it was when the same command is given again."
)]
pub struct IndexCollapseArgs {
    /// The index folder
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// The index folder to write
    #[arg(long, value_name = "INDEX")]
    pub out: PathBuf,
    /// How numbers lie on disk
    #[arg(long, value_enum, default_value = "f16")]
    pub dtype: IndexDtypeArg,
    /// Leave out the passages' texts: hits then show docids only
    #[arg(long)]
    pub no_texts: bool,
    /// Replace the index at --out; throw away unfinished work of another setting
    #[arg(long)]
    pub force: bool,
    /// How to fuse
    #[command(flatten)]
    pub fused: FusedArgs,
}

/// A format of exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// A matrix of f32, for numpy and all that read its files
    Npy,
    /// An IndexFlatIP, for faiss.read_index
    Faiss,
}

/// `xqg index export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  xqg index export --index INDEX --format npy --share 0.25 --out fused.npy\n  \
xqg index export --index INDEX --format faiss --out fused.faiss\n\n\
Beside the file lie the docids, one a line in the order of the rows: fused.ids. The vectors are those \
that `xqg search` scores with the same setting, so the inner product with a query's embedding \
(`xqg encode --queries`) is its score."
)]
pub struct IndexExportArgs {
    /// The index folder
    #[arg(long, value_name = "INDEX")]
    pub index: PathBuf,
    /// The format
    #[arg(long, value_enum)]
    pub format: FormatArg,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
    /// How to fuse
    #[command(flatten)]
    pub fused: FusedArgs,
}
