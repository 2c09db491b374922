//! The words of `xqg mine`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::MarginArg;
use super::values::positive;

/// What it takes to hold an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MatchArg {
    /// Its words in a row: `7` is not in `1970`
    Words,
    /// Its characters in a row, as R@Nkt has it
    Characters,
}

/// Which passages of the window become negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PickArg {
    /// Drawn by lot, with --seed
    Random,
    /// The nearest
    First,
}

/// `xqg mine`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("from_where").required(true).args(["index", "bm25"]))]
#[command(
    after_help = "Examples:\n  xqg mine --queries train.jsonl --translations *-en.tsv --index \
INDEX --out mined.jsonl\n  xqg mine --queries train.jsonl --translations *-en.tsv --bm25 --corpus \
corpus.jsonl --out mined.jsonl.gz\n  xqg mine --queries queries.jsonl --qrels qrels.tsv --index INDEX \
--margin 5% --out mined.jsonl\n\n\
A positive is judged (--qrels), or it is the nearest passage whose text holds an answer, among the \
first --positives-to by the question or by its translation. Answers yes, no and unknown name no \
passage. Queries without a positive are skipped and counted. Answers are matched by the word tokens \
of R@Nkt, upper and lower case kept apart, titles not read.\n\n\
A negative lies between --from and --to in the ranking of the question (of its translation with \
--bm25), is not judged relevant, has not the text of a positive, and names no answer in title or \
text in whatever case.\n\n\
Each row is a line of Tevatron's shape, with lang, answers, and for each passage its source: \
{\"by\": \"index\", \"asked\": \"translation\", \"rank\": 3, \"score\": 0.84, \"answer\": \"1912\"}. \
Questions attached to an index do not count. The same inputs and settings give the same bytes, on \
any number of threads. A killed run goes on where it was when the same command is given again; its \
work lies in OUT.units.partial."
)]
pub struct MineArgs {
    /// The queries: XOR-TyDi or BEIR JSON lines, with answers unless --qrels judges; .gz too
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// The training examples to write, JSON lines; compressed where the name ends in .gz
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Look for passages in this index of embeddings
    #[arg(long, value_name = "INDEX")]
    pub index: Option<PathBuf>,
    /// Look for passages of --corpus by their words (English, stemmed, BM25); a query in another
    /// language is looked up by its translation only
    #[arg(long, requires = "corpus")]
    pub bm25: bool,
    /// The passages: BEIR JSON lines; .gz too. An index has them already; beside one this only
    /// checks that it was built from them
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// The model, where it is no longer at the place that the index remembers
    #[arg(long, requires = "index")]
    pub model: Option<String>,
    /// English translations of the queries: lines of question (or qid) TAB translation; .gz too
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub translations: Vec<PathBuf>,
    /// Judged passages (TREC or BEIR): positives of the queries that have any
    #[arg(long, value_name = "FILE")]
    pub qrels: Option<PathBuf>,
    /// Leave out queries whose id or text is in these query files: those to be evaluated with
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub leave_out: Vec<PathBuf>,
    /// How positives are found
    #[command(flatten)]
    pub positive: PositiveArgs,
    /// How negatives are found
    #[command(flatten)]
    pub negative: NegativeArgs,
    /// Queries in a work unit: what is lost at most when the work is killed
    #[arg(long, default_value = "256", value_name = "N", value_parser = positive)]
    pub unit_queries: usize,
    /// Print the counts as JSON
    #[arg(long)]
    pub json: bool,
    /// Replace what lies at --out; throw away unfinished work of other inputs or settings
    #[arg(long)]
    pub force: bool,
}

/// How positives are found.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Positives")]
pub struct PositiveArgs {
    /// The most positives of a query
    #[arg(long, default_value = "1", value_name = "N", value_parser = positive)]
    pub positives: usize,
    /// The last rank, from 1, at which a positive may be found by its answer
    #[arg(long, default_value = "20", value_name = "RANK", value_parser = positive)]
    pub positives_to: usize,
    /// What it takes to hold an answer
    #[arg(long = "match", value_enum, default_value = "words")]
    pub rule: MatchArg,
    /// Answers of fewer characters are not looked for
    #[arg(long, default_value = "1", value_name = "N", value_parser = positive)]
    pub shortest_answer: usize,
}

/// How negatives are found.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Negatives")]
pub struct NegativeArgs {
    /// The most negatives of a query; 0 for none
    #[arg(long, default_value = "7", value_name = "N")]
    pub negatives: usize,
    /// The first rank, from 1, at which a negative may be found
    #[arg(long, default_value = "5", value_name = "RANK", value_parser = positive)]
    pub from: usize,
    /// The last rank at which a negative may be found
    #[arg(long, default_value = "100", value_name = "RANK", value_parser = positive)]
    pub to: usize,
    /// Negatives score at least this much, or this part, less than the best positive, in the
    /// ranking that found it; a passage not ranked there counts as its last
    #[arg(long, value_name = "SCORE|PERCENT%")]
    pub margin: Option<MarginArg>,
    /// Which passages of the window are taken
    #[arg(long, value_enum, default_value = "random")]
    pub pick: PickArg,
    /// The seed of the lots
    #[arg(long, default_value = "42")]
    pub seed: u64,
}
