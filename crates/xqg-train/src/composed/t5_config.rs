//! The shape of a T5 or mT5, read from Hugging Face's `config.json`.

use std::path::Path;

use serde::Deserialize;
use xqg_data::error::DataError;

use crate::error::TrainError;

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

fn yes() -> bool {
    true
}

impl T5Config {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// When it is missing, lacks a number, or is of another architecture.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).map_err(DataError::io("reading", &path))?;
        let refuse = |found: String| TrainError::Unexpected {
            path: path.clone(),
            expected: "a T5 or mT5 with relu or gated-gelu".into(),
            found,
            hint: "generators are trained from google/mt5-small and its kin",
        };
        let config: Self = serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
        if !matches!(config.model_type.as_str(), "t5" | "mt5") {
            return Err(refuse(config.model_type));
        }
        if !matches!(config.feed_forward_proj.as_str(), "relu" | "gated-gelu") {
            return Err(refuse(config.feed_forward_proj));
        }
        let sizes = [config.d_model, config.d_kv, config.d_ff, config.num_heads, config.vocab_size];
        if sizes.contains(&0) || config.relative_attention_num_buckets < 4 {
            return Err(refuse("a size of 0 or fewer than 4 buckets".into()));
        }
        Ok(config)
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

    /// Whether the feed-forward part is gated: `gelu(x W0) · (x W1)` in place of `relu(x W)`.
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
}
