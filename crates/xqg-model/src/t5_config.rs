//! The shape of a T5 or mT5, read from Hugging Face's `config.json`: what a generator runs by, and
//! what one is trained by.

use std::path::Path;

use serde::Deserialize;

use crate::config::read_json;
use crate::error::ModelError;

/// The numbers of `config.json` that shape the network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct T5Config {
    model_type: String,
    /// Length of a token state.
    pub d_model: usize,
    /// Length of a head's part.
    pub d_kv: usize,
    /// Length of the inner feed-forward state.
    pub d_ff: usize,
    /// Layers of the encoder.
    pub num_layers: usize,
    /// Layers of the decoder; by default as many.
    #[serde(default)]
    num_decoder_layers: Option<usize>,
    /// Heads of attention in each layer.
    pub num_heads: usize,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Kinds of distance that attention tells apart.
    #[serde(default = "buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distances from this on are one kind.
    #[serde(default = "distance")]
    pub relative_attention_max_distance: usize,
    /// Rate of dropout.
    #[serde(default = "dropout")]
    pub dropout_rate: f32,
    /// Added to the mean square in norms.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f64,
    #[serde(default = "relu")]
    feed_forward_proj: String,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    /// What the decoder begins with.
    #[serde(default)]
    pub decoder_start_token_id: u32,
    /// The token that ends a text.
    #[serde(default = "end")]
    pub eos_token_id: u32,
}

fn buckets() -> usize {
    32
}

fn distance() -> usize {
    128
}

fn dropout() -> f32 {
    0.1
}

fn epsilon() -> f64 {
    1e-6
}

fn relu() -> String {
    "relu".to_owned()
}

fn end() -> u32 {
    1
}

fn yes() -> bool {
    true
}

impl T5Config {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// When it is missing, lacks a number, or is of another architecture.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let refuse = |(expected, found): (&str, String)| ModelError::Unexpected {
            path: path.clone(),
            expected: expected.to_owned(),
            found,
        };
        // Another architecture lacks the keys; that it is another one says more.
        let about: serde_json::Value = read_json(&path)?;
        let kind = about["model_type"].as_str().unwrap_or("none");
        if !matches!(kind, "t5" | "mt5") {
            return Err(refuse(("model_type t5 or mt5", kind.to_owned())));
        }
        let config: Self = read_json(&path)?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if !matches!(self.feed_forward_proj.as_str(), "relu" | "gated-gelu") {
            let expected = "feed_forward_proj relu or gated-gelu";
            return Err((expected, self.feed_forward_proj.clone()));
        }
        let sizes = [self.d_model, self.d_kv, self.d_ff, self.num_heads, self.vocab_size];
        if sizes.iter().any(|&n| n == 0 || n > 1 << 24) {
            return Err(("sizes of 1 or more and below 2^24", format!("{sizes:?}")));
        }
        if self.relative_attention_num_buckets < 4 {
            let found = self.relative_attention_num_buckets.to_string();
            return Err(("4 or more relative_attention_num_buckets", found));
        }
        let ids = [self.decoder_start_token_id, self.eos_token_id];
        match ids.into_iter().find(|&id| id as usize >= self.vocab_size) {
            Some(id) => Err(("token ids below vocab_size", id.to_string())),
            None => Ok(()),
        }
    }

    /// Layers of the decoder.
    pub fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }

    /// Whether the word embedding is also the output layer, and states are scaled down before it: the
    /// first T5. Later ones have an `lm_head` and no scale; mT5 never scales, whatever its file says.
    pub fn scales(&self) -> bool {
        self.model_type == "t5" && self.tie_word_embeddings
    }

    /// Whether the feed-forward part is gated: `gelu(x W0) · (x W1)` in place of `relu(x W)` (Shazeer
    /// 2020, arXiv 2002.05202).
    pub fn gated(&self) -> bool {
        self.feed_forward_proj == "gated-gelu"
    }

    /// The kind of the distance from a query's position to a key's; `both` where keys may lie
    /// behind and ahead (the encoder), else they lie behind. As T5's `_relative_position_bucket`.
    pub fn bucket(&self, query: usize, key: usize, both: bool) -> usize {
        let all = self.relative_attention_num_buckets;
        let (kinds, begin) = match (both, key > query) {
            (true, true) => (all / 2, all / 2),
            (true, false) => (all / 2, 0),
            (false, _) => (all, 0),
        };
        let n = if both { query.abs_diff(key) } else { query.saturating_sub(key) };
        let exact = kinds / 2;
        if n < exact {
            return begin + n;
        }
        let span = (self.relative_attention_max_distance as f32 / exact as f32).ln();
        let far = (n as f32 / exact as f32).ln() / span * (kinds - exact) as f32;
        begin + (exact + far as usize).min(kinds - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_transformers() {
        let text = r#"{"model_type":"t5","d_model":8,"d_kv":4,"d_ff":8,"num_layers":1,"num_heads":2,
            "vocab_size":9}"#;
        let config: T5Config = serde_json::from_str(text).unwrap();
        // T5Attention._relative_position_bucket(d, bidirectional, 32, 128) for d = key - query.
        for (query, key, both, bucket) in [
            (0, 0, true, 0),
            (0, 5, true, 21),
            (7, 0, true, 7),
            (8, 0, true, 8),
            (0, 20, true, 26),
            (200, 0, true, 15),
            (3, 9, false, 0),
            (15, 0, false, 15),
            (20, 0, false, 17),
            (500, 0, false, 31),
        ] {
            assert_eq!(config.bucket(query, key, both), bucket, "{query} {key} {both}");
        }
    }

    #[test]
    fn what_is_no_t5_is_refused() {
        let sizes = r#""d_model":8,"d_kv":4,"d_ff":8,"num_layers":1,"num_heads":2,"vocab_size":9"#;
        for (more, said) in [
            (r#","model_type":"bert""#, "model_type t5 or mt5, found bert"),
            (r#","model_type":"t5","feed_forward_proj":"gated-silu""#, "found gated-silu"),
            (r#","model_type":"t5","eos_token_id":9"#, "below vocab_size, found 9"),
            (r#","model_type":"t5","relative_attention_num_buckets":2"#, "4 or more"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), format!("{{{sizes}{more}}}"))
                .unwrap();
            let error = T5Config::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
