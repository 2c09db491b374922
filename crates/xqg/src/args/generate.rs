//! The words of `xqg generate` and `xqg filter`: what writes questions, and what judges them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::encoder::EncoderArgs;
use super::values::{LangArg, PromptArg, ShardArg, above_zero, fraction, positive, share, up_to};

/// `xqg generate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  xqg generate --model models/e5-questions --corpus corpus.jsonl --langs \
te,bn -n 5 --out generated.jsonl\n  xqg generate --model \
ielabgroup/xor-tydi-docTquery-mt5-base --corpus corpus.jsonl --langs te,bn --out \
generated.jsonl\n  xqg generate --model bank:log.jsonl --encoder \
multilingual-e5-small --corpus corpus.jsonl --langs te -n 3 --out generated.jsonl\n  xqg generate \
--model openai:gemma3 --endpoint http://localhost:11434/v1 --corpus corpus.jsonl --langs te --out \
generated.jsonl\n\nOne line a question: {\"docid\", \"lang\", \"text\"} and, where it is known, \
\"logprob\" (of the text, its end included; natural logarithm) or \"similarity\". `xqg index \
--queries` reads them. A model folder and a bank give the same bytes for the same inputs and \
settings, on any number of threads and with units of any size. A killed run goes on where it was \
when the same command is given again; its work lies in OUT.units.partial."
)]
pub struct GenerateArgs {
    /// What writes the questions: a generator's folder (what `xqg train generator` writes, or a T5 or mT5
    /// that was trained to answer "Generate a Telugu question for this passage: TITLE TEXT"), or a name
    /// that `xqg model get` knows; bank:FILE,… (files of questions, or a folder of them: JSON lines with
    /// lang and question or text, or texts named after their language such as te.txt); or openai:NAME, a
    /// model behind --endpoint [default: the generator in models/, if there is one]
    #[arg(long, value_name = "DIR|bank:FILE,…|openai:NAME")]
    pub model: Option<String>,
    /// The passages: BEIR JSON lines with _id, title, text; .gz too
    #[arg(long, value_name = "FILE")]
    pub corpus: PathBuf,
    /// The languages to write in
    #[arg(long, value_name = "LANG,…", value_delimiter = ',', required = true)]
    pub langs: Vec<LangArg>,
    /// Questions for each passage in each language
    #[arg(short = 'n', default_value = "5", value_name = "N", value_parser = up_to::<1000>)]
    pub n: usize,
    /// The questions to write, JSON lines; compressed where the name ends in .gz
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The encoder: of a bank, or the one that a shared-encoder generator was made for, where it is
    /// not found beside it; a folder, or a name that `xqg model get` knows
    #[arg(long, value_name = "DIR")]
    pub encoder: Option<String>,
    /// Do every N-th unit, beginning with the I-th; the parts together are the whole
    /// [default: the Slurm array task, else 1/1]
    #[arg(long, value_name = "I/N")]
    pub shard: Option<ShardArg>,
    /// Passages in a work unit: what is lost at most when the work is killed [default: 256; 16 for an
    /// endpoint]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub unit_passages: Option<usize>,
    /// Leave out passages that cannot be used; they are counted and listed
    #[arg(long)]
    pub skip_bad: bool,
    /// Print a summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Replace what lies at --out; throw away unfinished work of other inputs or settings
    #[arg(long)]
    pub force: bool,
    /// How a model decodes
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// The least similarity (the product of the embeddings) of a question from a bank to its passage
    /// [default: none]
    #[arg(long, value_name = "SIMILARITY", help_heading = "Bank", allow_negative_numbers = true)]
    pub floor: Option<f32>,
    /// Judge the questions; rejected ones go to OUT.rejected.jsonl with the reason
    #[arg(long, help_heading = "Gate")]
    pub filter: bool,
    /// How questions are judged
    #[command(flatten)]
    pub gate: GateArgs,
    /// Where the model of openai:NAME is
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// Which encoder
    #[command(flatten)]
    pub encoder_settings: EncoderArgs,
}

/// How a model decodes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodingArgs {
    /// Draw each token from the K likeliest [default: 10]
    #[arg(long, value_name = "K", value_parser = positive, conflicts_with_all = ["greedy", "beam"])]
    pub top_k: Option<usize>,
    /// Draw each token from the likeliest that together have this probability
    #[arg(long, value_name = "P", value_parser = fraction, conflicts_with_all = ["greedy", "beam"])]
    pub top_p: Option<f32>,
    /// Above 1 more daring, below 1 less
    #[arg(long, value_name = "T", value_parser = above_zero, conflicts_with_all = ["greedy", "beam"])]
    pub temperature: Option<f32>,
    /// Take the likeliest token each time; for -n 1
    #[arg(long, conflicts_with = "beam")]
    pub greedy: bool,
    /// Follow the W likeliest beginnings; the best N of them are written
    #[arg(long, value_name = "W", value_parser = up_to::<1000>)]
    pub beam: Option<usize>,
    /// Tokens of a question at most; what is cut is counted
    #[arg(long, default_value = "32", value_name = "N", value_parser = up_to::<4096>)]
    pub max_tokens: usize,
    /// The seed; each question has random numbers of its own, by docid, language and number
    #[arg(long, default_value = "1")]
    pub seed: u64,
    /// Whether only tokens that occur in a language are written in it; exact among them, and faster
    #[arg(long, value_enum, default_value = "auto")]
    pub shortlist: ShortlistArg,
}

/// Whether a shortlist is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShortlistArg {
    /// Where the generator has one for the language
    Auto,
    /// Never
    Off,
}

/// How questions are judged.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gate")]
pub struct GateArgs {
    /// Letters and digits that a question has at least
    #[arg(long, default_value = "3", value_name = "N")]
    pub shortest: usize,
    /// Characters that a question has at most
    #[arg(long, default_value = "200", value_name = "N", value_parser = positive)]
    pub longest: usize,
    /// Do not ask which language a question is in
    #[arg(long)]
    pub any_language: bool,
    /// Keep a question only if the retriever ranks its own passage high; this index of the passages
    /// is asked, without the help of any question in it
    #[arg(long, value_name = "INDEX")]
    pub round_trip: Option<PathBuf>,
    /// The last rank, from 1, that is high
    #[arg(long, default_value = "10", value_name = "RANK", value_parser = positive, requires = "round_trip")]
    pub within: usize,
    /// Keep this share of each language's questions, rounded up: those most similar to their passages,
    /// and the equals of the last of them
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "round_trip")]
    pub keep: Option<f64>,
    /// The model of that index, where it is no longer at the place that the index remembers
    #[arg(long, value_name = "DIR", requires = "round_trip")]
    pub round_trip_model: Option<String>,
}

/// `xqg filter`.
#[derive(Debug, Args)]
#[command(
    after_help = "Questions of a passage that follow one another are judged together: a repeated \
question is rejected where the first of its kind is kept. Lines keep all their keys.\n\nExamples:\n  \
xqg filter --questions generated.jsonl --corpus corpus.jsonl --out kept.jsonl\n  xqg filter \
--questions generated.jsonl --round-trip INDEX --within 10 --keep 0.7 --out kept.jsonl"
)]
pub struct FilterArgs {
    /// The questions: JSON lines with docid, lang, text; .gz too
    #[arg(long, value_name = "FILE", visible_alias = "queries")]
    pub questions: PathBuf,
    /// The passages, to find copies of their words; with --round-trip the index has them
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// The questions that are kept, JSON lines; those that are not go to OUT.rejected.jsonl
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Passages in a work unit: what is lost at most when the work is killed
    #[arg(long, default_value = "1024", value_name = "N", value_parser = positive)]
    pub unit_passages: usize,
    /// Print a summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Replace what lies at --out; throw away unfinished work of other inputs or settings
    #[arg(long)]
    pub force: bool,
    /// How questions are judged
    #[command(flatten)]
    pub gate: GateArgs,
}

/// Where the model of `openai:NAME` is and how it is asked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Endpoint")]
pub struct EndpointArgs {
    /// An OpenAI-compatible server (vLLM, llama.cpp, Ollama, …): http://HOST:PORT/v1
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The environment variable with the key; there is no other way to give one
    #[arg(long, value_name = "NAME", default_value = "OPENAI_API_KEY")]
    pub api_key_env: String,
    /// Requests at a time
    #[arg(long, default_value = "8", value_name = "N", value_parser = positive)]
    pub concurrency: usize,
    /// How often a request is made again when the server is busy, fails or cannot be understood; each
    /// time it waits twice as long, or as long as the server says
    #[arg(long, default_value = "5", value_name = "N")]
    pub retries: u32,
    /// Seconds to wait for an answer
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = above_zero)]
    pub timeout: f32,
    /// Characters of a passage that are sent at most; what is cut is counted
    #[arg(long, default_value = "16000", value_name = "N", value_parser = positive)]
    pub passage_max_chars: usize,
    /// A prompt of your own, for all languages or for one; {n}, {language}, {lang}, {title}, {passage}
    /// and {query} are filled in; may be repeated
    #[arg(long, value_name = "[LANG=]FILE")]
    pub prompt_file: Vec<PromptArg>,
    /// What a million tokens sent cost, to have the cost in the summary
    #[arg(long, value_name = "PRICE", value_parser = above_zero)]
    pub price_in: Option<f32>,
    /// What a million tokens received cost
    #[arg(long, value_name = "PRICE", value_parser = above_zero)]
    pub price_out: Option<f32>,
}
