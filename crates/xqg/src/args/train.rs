//! The words of `xqg train`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use xqg_train::composed::device::{Place, Precision};

/// What is trained.
#[derive(Debug, Subcommand)]
pub enum TrainVerb {
    /// Train an encoder of queries and passages (BERT or XLM-RoBERTa) on training rows
    Retriever(TrainRetrieverArgs),
    /// Train a generator of questions: a decoder over a frozen retriever, or a T5
    Generator(TrainGeneratorArgs),
}

/// `xqg train retriever`.
#[derive(Debug, Args)]
#[command(after_help = "Example of train.toml; docs/training.md lists every key:\n\n  \
model = \"models/multilingual-e5-small\"\n  out = \"runs/xor\"\n  [data]\n  \
train = [\"mined.jsonl\"]\n  [batch]\n  queries = 64\n  passages = 4\n  [optimiser]\n  \
learning_rate = 2e-5\n  [run]\n  epochs = 3\n\n\
The folder `out` holds best/ and last/ (model folders that every other verb opens), log.jsonl, \
log.svg and state/. A killed run goes on where it was saved last when the same command is given \
again, and ends with the same bits.")]
pub struct TrainRetrieverArgs {
    /// The settings of the run, a TOML file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Another base model than the file's: a folder, or a name that `xqg model get` knows
    #[arg(long)]
    pub model: Option<String>,
    /// Another folder for the run than the file's
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where steps are computed: cpu, cuda or cuda:NUMBER (a build with the feature cuda)
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    pub device: Place,
    /// What products are computed in: f32, or bf16 on a GPU, where it is the default; parameters,
    /// moments and sums are f32 in both
    #[arg(long, value_name = "PRECISION", value_parser = precision)]
    pub precision: Option<Precision>,
    /// Throw away the state of an earlier run in that folder
    #[arg(long)]
    pub force: bool,
}

fn device(name: &str) -> Result<Place, String> {
    name.parse()
}

fn precision(name: &str) -> Result<Precision, String> {
    name.parse()
}

/// `xqg train generator`.
#[derive(Debug, Args)]
#[command(after_help = "Example of generator.toml; docs/training.md lists every key:\n\n  \
encoder = \"models/multilingual-e5-small\"\n  out = \"runs/generator\"\n  langs = [\"fi\", \"te\"]\n  \
[[tasks]]\n  name = \"pairs\"\n  files = [\"pairs.jsonl\"]\n  corpus = \"corpus.jsonl\"\n  \
side = \"passage\"\n  [run]\n  steps = 5000\n\n\
With model = \"google/mt5-small\" in place of encoder, a T5 or mT5 is trained as a whole.\n\n\
Rows are JSON lines with docid (a passage of the corpus) or source (any text), lang and text (the \
question). The folder `out` holds best/ and last/ (models that `xqg generate` opens), the same in 8 bits, \
log.jsonl, log.svg and state/. A killed run goes on where it was saved last when the same command is \
given again, and ends with the same bits.")]
pub struct TrainGeneratorArgs {
    /// The settings of the run, a TOML file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Another retriever than the file's: a folder, or a name that `xqg model get` knows
    #[arg(long)]
    pub encoder: Option<String>,
    /// Another folder for the run than the file's
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where steps are computed: cpu, cuda or cuda:NUMBER (a build with the feature cuda); the frozen
    /// encoder reads the sources on the processor
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    pub device: Place,
    /// What products are computed in: f32, or bf16 on a GPU, where it is the default; parameters,
    /// moments and sums are f32 in both
    #[arg(long, value_name = "PRECISION", value_parser = precision)]
    pub precision: Option<Precision>,
    /// Throw away the state of an earlier run in that folder
    #[arg(long)]
    pub force: bool,
}
