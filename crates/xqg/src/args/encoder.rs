//! The words that describe an encoder and how its numbers are computed and stored.

use clap::{Args, ValueEnum};

use super::values::{positive, yes_no};

/// Which encoder, and what its folder does not say.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Encoder")]
pub struct EncoderArgs {
    /// How token states become one vector; needed where the folder has no modules.json
    #[arg(long, value_enum)]
    pub pooling: Option<PoolingArg>,
    /// Whether embeddings are scaled to length one [default: as the model's folder says]
    #[arg(long, value_name = "YES|NO", value_parser = yes_no)]
    pub normalize: Option<bool>,
    /// What is put before a query [default: the model's prompt]
    #[arg(long, value_name = "TEXT")]
    pub query_prefix: Option<String>,
    /// What is put before a passage [default: the model's prompt]
    #[arg(long, value_name = "TEXT")]
    pub passage_prefix: Option<String>,
    /// The most tokens of a query; what is beyond is cut, counted and reported [default: 64, or
    /// the model's limit where that is lower]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub query_max_tokens: Option<usize>,
    /// The most tokens of a passage [default: 160, or the model's limit where that is lower; a T5 that
    /// generates questions: 192, the words of its prompt counted]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub passage_max_tokens: Option<usize>,
    /// The arithmetic of the linear layers. On a CPU with VNNI int8 is two to three times as fast as
    /// f32, with a cosine above 0.999 to it; with AVX2 alone the cosine is above 0.998 (int8) or
    /// 0.996 (int8-fast); without either it is f32
    #[arg(long, value_enum, default_value = "auto")]
    pub precision: PrecisionArg,
}

/// The arithmetic of the linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PrecisionArg {
    /// The fastest whose vectors stay within a cosine of 0.999: int8 with VNNI, else f32
    #[default]
    Auto,
    /// Single precision
    F32,
    /// 8-bit weights and activations, sums in 32 bits
    Int8,
    /// The same with 7-bit activations where there is only AVX2, and with attention in 8 bits where
    /// there is VNNI
    Int8Fast,
}

/// Pooling by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PoolingArg {
    /// The mean over all tokens
    Mean,
    /// The first token
    Cls,
}

/// How numbers lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// Four bytes a number, exact
    F32,
    /// Two bytes a number, about three digits
    F16,
}

/// How the numbers of an index lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IndexDtypeArg {
    /// Four bytes a number, exact, and a fifth to search by
    F32,
    /// Two bytes a number, about three digits, and a third to search by
    F16,
    /// One byte a number, about two digits: the smallest index
    Int8,
}

/// What an input file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SideArg {
    /// With the query prefix and the query length
    Query,
    /// With the passage prefix and the passage length
    Passage,
}
