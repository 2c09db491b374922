//! The shape of a network, read from Hugging Face's `config.json`. Two families are known, BERT and
//! XLM-RoBERTa; they differ in the names of their weights and in where positions begin to count.

use std::path::Path;

use serde::Deserialize;
use xqg_kernel::ops::Activation;

use crate::error::ModelError;

/// Which family of encoder a checkpoint belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `BertModel`: mBERT, LaBSE, multilingual-e5-small, MiniLM.
    Bert,
    /// `XLMRobertaModel`: XLM-R, multilingual-e5-base and -large, BGE-M3. Positions begin after the
    /// padding id.
    XlmRoberta,
}

/// The published names of the activations.
#[derive(Deserialize)]
#[serde(remote = "Activation")]
enum ActivationName {
    #[serde(rename = "gelu")]
    Gelu,
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    #[serde(rename = "relu")]
    Relu,
}

/// The numbers of `config.json` that shape the network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    model_type: String,
    /// Length of a token state.
    pub hidden_size: usize,
    /// Length of the inner feed-forward state.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of attention in each layer; divides the hidden size.
    pub num_attention_heads: usize,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding; only row 0 is used.
    pub type_vocab_size: usize,
    /// The activation.
    #[serde(with = "ActivationName")]
    pub hidden_act: Activation,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// Rate of dropout over states while it learns.
    #[serde(default = "published_dropout")]
    pub hidden_dropout_prob: f32,
    /// Rate of dropout over the attention's probabilities while it learns.
    #[serde(default = "published_dropout")]
    pub attention_probs_dropout_prob: f32,
    #[serde(default)]
    pad_token_id: Option<usize>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

/// What transformers takes where a configuration names no rate.
fn published_dropout() -> f32 {
    0.1
}

impl Config {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// When it is missing, lacks a number, or is of a family that is not known here.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config: Self = read_json(&path)?;
        config.check().map_err(|(expected, found)| ModelError::Unexpected {
            path,
            expected: expected.to_owned(),
            found,
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if !matches!(self.model_type.as_str(), "bert" | "xlm-roberta") {
            return Err(("model_type bert or xlm-roberta", self.model_type.clone()));
        }
        if let Some(kind) = self.position_embedding_type.as_deref().filter(|k| *k != "absolute") {
            return Err(("position_embedding_type absolute", kind.to_owned()));
        }
        let (h, heads) = (self.hidden_size, self.num_attention_heads);
        if h == 0 || heads == 0 || h % heads != 0 {
            return Err(("a hidden size that the heads divide", format!("{h} and {heads} heads")));
        }
        let sizes = [self.intermediate_size, self.vocab_size, self.type_vocab_size];
        if sizes.contains(&0) {
            return Err((
                "sizes of 1 or more",
                "an intermediate, vocab or type vocab size of 0".into(),
            ));
        }
        if self.max_position_embeddings <= self.first_position().saturating_add(2) {
            return Err(("room for positions", self.max_position_embeddings.to_string()));
        }
        Ok(())
    }

    /// The family.
    pub fn family(&self) -> Family {
        if self.model_type == "bert" { Family::Bert } else { Family::XlmRoberta }
    }

    /// The row of the position embedding that the first token takes.
    pub fn first_position(&self) -> usize {
        match self.family() {
            Family::Bert => 0,
            // Where the file names no padding id, transformers takes 1 for this family.
            Family::XlmRoberta => self.pad_token_id.unwrap_or(1).saturating_add(1),
        }
    }

    /// The row of the word embedding that is never trained: transformers gives the padding id no
    /// gradient, even where a tokenizer uses that id for something else, as multilingual-e5-small's
    /// does. Where the file names none, the family's default.
    pub fn padding_id(&self) -> usize {
        let default = if self.family() == Family::Bert { 0 } else { 1 };
        self.pad_token_id.unwrap_or(default)
    }

    /// The most tokens that the position embedding can tell apart.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    /// Length of one head's part of a token state.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

/// Reads a JSON file into a type.
///
/// # Errors
/// When the file is missing, or its content does not fit the type.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let bytes = std::fs::read(path).map_err(|source| ModelError::Io {
        path: path.to_path_buf(),
        source,
        hint: "a model folder holds config.json, tokenizer.json and weights; `xqg model get` makes one",
    })?;
    serde_json::from_slice(&bytes).map_err(|e| ModelError::Unexpected {
        path: path.to_path_buf(),
        expected: "JSON with the keys of a Hugging Face model".to_owned(),
        found: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        folder
    }

    const BASE: &str = r#"{"model_type":"TYPE","hidden_size":8,"intermediate_size":16,
        "num_hidden_layers":1,"num_attention_heads":HEADS,"vocab_size":9,
        "max_position_embeddings":20,"type_vocab_size":1,"hidden_act":"gelu",
        "layer_norm_eps":1e-12,"pad_token_id":1}"#;

    fn base(kind: &str, heads: &str) -> tempfile::TempDir {
        write(&BASE.replace("TYPE", kind).replace("HEADS", heads))
    }

    #[test]
    fn positions_begin_after_the_padding_in_xlm_roberta() {
        let bert = Config::read(base("bert", "2").path()).unwrap();
        assert_eq!((bert.first_position(), bert.max_tokens(), bert.padding_id()), (0, 20, 1));
        let xlmr = Config::read(base("xlm-roberta", "2").path()).unwrap();
        assert_eq!((xlmr.first_position(), xlmr.max_tokens()), (2, 18));
    }

    #[test]
    fn unknown_families_and_impossible_shapes_are_refused() {
        for folder in [base("t5", "2"), base("bert", "3"), base("bert", "0"), write("{}")] {
            assert!(Config::read(folder.path()).is_err());
        }
    }
}
