//! The encoder contract: everything that must be equal for two embeddings to be comparable. It is
//! stored with every artefact; an index asked with another contract refuses, and shows both.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// Which encoder made a set of embeddings, and how. Identity is by hash, not by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderContract {
    /// The model's name, for people; not compared.
    pub model: String,
    /// A hash over the content of the weight files and of what shapes the network.
    pub weights: String,
    /// A hash over the tokenizer file.
    pub tokenizer: String,
    /// How token states become one vector, for example `mean` or `cls+dense+normalize`.
    pub pooling: String,
    /// Whether embeddings have length one.
    pub normalize: bool,
    /// What is put before a query.
    pub query_prefix: String,
    /// What is put before a passage.
    pub passage_prefix: String,
    /// The most tokens of a query, special tokens included.
    pub query_max_tokens: usize,
    /// The most tokens of a passage, special tokens included.
    pub passage_max_tokens: usize,
    /// The length of an embedding.
    pub dim: usize,
    /// The arithmetic of the linear layers, `f32` or `int8`; not compared, for the embeddings of
    /// both can be searched together (cosine above 0.998).
    #[serde(default = "single")]
    pub precision: String,
    /// For a network that learned to encode queries only: the weights that encode its passages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passage_weights: Option<String>,
}

fn single() -> String {
    "f32".to_owned()
}

impl EncoderContract {
    /// The contract of embeddings that came without one: all that is known is what they look like.
    pub fn external(dim: usize, normalize: bool) -> Self {
        let unknown = String::new;
        Self {
            model: "external".to_owned(),
            weights: unknown(),
            tokenizer: unknown(),
            pooling: unknown(),
            normalize,
            query_prefix: unknown(),
            passage_prefix: unknown(),
            query_max_tokens: 0,
            passage_max_tokens: 0,
            dim,
            precision: "unknown".to_owned(),
            passage_weights: None,
        }
    }

    /// Whether it names an encoder at all.
    pub fn is_known(&self) -> bool {
        !self.weights.is_empty()
    }

    fn fields(&self) -> [(&'static str, String); 9] {
        [
            ("weights", self.weights.clone()),
            ("tokenizer", self.tokenizer.clone()),
            ("pooling", self.pooling.clone()),
            ("normalize", self.normalize.to_string()),
            ("query prefix", format!("`{}`", self.query_prefix)),
            ("passage prefix", format!("`{}`", self.passage_prefix)),
            ("query max tokens", self.query_max_tokens.to_string()),
            ("passage max tokens", self.passage_max_tokens.to_string()),
            ("dim", self.dim.to_string()),
        ]
    }

    /// The contract of the passages that these queries are for.
    fn of_passages(&self) -> Self {
        let weights = self.passage_weights.clone().unwrap_or_else(|| self.weights.clone());
        Self { weights, passage_weights: None, ..self.clone() }
    }

    /// Refuses another contract; the error shows each field of both and marks what differs. Where
    /// one of the two names no encoder, only the length of an embedding can be compared. An encoder
    /// of queries goes with the passages it learned against, and with queries that do.
    ///
    /// # Errors
    /// [`DataError::OtherContract`].
    pub fn check(&self, other: &Self, what: &str) -> Result<(), DataError> {
        let (ours, theirs) = (self.of_passages().fields(), other.of_passages().fields());
        let both_known = self.is_known() && other.is_known();
        if ours == theirs || !both_known && self.dim == other.dim {
            return Ok(());
        }
        let mut difference = format!("  {:<20} {} | {}\n", "", self.model, other.model);
        for ((name, a), (_, b)) in ours.iter().zip(&theirs) {
            let mark = if a == b { ' ' } else { '*' };
            let _ = writeln!(difference, "{mark} {name:<20} {} | {}", short(a), short(b));
        }
        Err(DataError::OtherContract {
            what: what.to_owned(),
            difference,
            hint: "use the model that made the index, or build an index with this one",
        })
    }
}

/// Hashes are long: twelve digits tell them apart for people.
fn short(value: &str) -> &str {
    let hex = value.len() >= 64 && value.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { &value[..12] } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract() -> EncoderContract {
        EncoderContract {
            model: "m".into(),
            weights: "a".repeat(64),
            tokenizer: "b".repeat(64),
            pooling: "mean+normalize".into(),
            normalize: true,
            query_prefix: "query: ".into(),
            passage_prefix: "passage: ".into(),
            query_max_tokens: 512,
            passage_max_tokens: 512,
            dim: 384,
            precision: "f32".into(),
            passage_weights: None,
        }
    }

    #[test]
    fn an_encoder_of_queries_goes_with_the_passages_it_learned_against() {
        let queries = |passages: &str| EncoderContract {
            weights: "c".repeat(64),
            passage_weights: Some(passages.repeat(64)),
            ..contract()
        };
        assert!(contract().check(&queries("a"), "searching").is_ok());
        assert!(queries("a").check(&queries("a"), "searching").is_ok());
        let text = contract().check(&queries("d"), "searching").unwrap_err().to_string();
        assert!(text.contains("* weights              aaaaaaaaaaaa | dddddddddddd"), "{text}");
    }

    #[test]
    fn name_and_precision_do_not_matter_and_the_rest_does() {
        let (model, precision) = ("n".into(), "int8".into());
        let renamed = EncoderContract { model, precision, ..contract() };
        assert!(contract().check(&renamed, "searching").is_ok());
        let other = EncoderContract { query_prefix: String::new(), ..contract() };
        let text = contract().check(&other, "searching").unwrap_err().to_string();
        assert!(text.contains("* query prefix         `query: ` | ``"), "{text}");
        assert!(text.contains("  weights              aaaaaaaaaaaa | aaaaaaaaaaaa"), "{text}");
    }

    #[test]
    fn of_an_unknown_encoder_only_the_length_is_compared() {
        let external = EncoderContract::external(384, true);
        assert!(
            contract().check(&external, "x").is_ok() && external.check(&contract(), "x").is_ok()
        );
        let other = EncoderContract::external(768, true);
        assert!(contract().check(&other, "x").is_err() && external.check(&other, "x").is_err());
    }
}
