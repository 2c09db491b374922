//! How token states become an embedding: the modules that sentence-transformers stores beside a
//! model (`modules.json`, `1_Pooling`, `2_Dense`, `2_Normalize`, prompts, the greatest length). A
//! folder without them has no recipe, and then the user must name the pooling: guessing it wrong is
//! the commonest silent error of embedding servers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::read_json;
use crate::error::ModelError;

/// How the token states of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens, special ones included.
    Mean,
    /// The state of the first token.
    Cls,
}

impl Pooling {
    /// The name on the command line and in a contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// The activation of a dense module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseActivation {
    /// None.
    Identity,
    /// The hyperbolic tangent, as in LaBSE.
    Tanh,
}

/// A dense module over the pooled vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseModule {
    /// The folder with its weights.
    pub folder: PathBuf,
    /// Length of its input.
    pub in_features: usize,
    /// Length of its output.
    pub out_features: usize,
    /// Whether it adds a bias.
    pub bias: bool,
    /// Its activation.
    pub activation: DenseActivation,
}

/// Everything between token states and an embedding, and how texts are prepared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Where config, tokenizer and weights of the network lie; empty for the model folder itself.
    pub network: PathBuf,
    /// The pooling, where the folder names one.
    pub pooling: Option<Pooling>,
    /// Dense modules, in order.
    pub dense: Vec<DenseModule>,
    /// Whether the embedding is scaled to length one.
    pub normalize: bool,
    /// The greatest length in tokens, where the folder names one.
    pub max_tokens: Option<usize>,
    /// What is put before a query, where the folder names it.
    pub query_prefix: Option<String>,
    /// What is put before a passage, where the folder names it.
    pub passage_prefix: Option<String>,
    /// For a network that learned to encode queries only: the hash of the weights that encode its
    /// passages, from [`QUERY_SIDE`].
    pub passage_weights: Option<String>,
}

/// The file of a model folder that says which passages a network of queries goes with.
pub const QUERY_SIDE: &str = "xqg_query_side.json";

/// What lies in [`QUERY_SIDE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct QuerySide {
    /// The hash of the weights that encode the passages, as in a contract.
    pub passage_weights: String,
}

#[derive(Deserialize)]
struct ModuleEntry {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Recipe {
    /// Reads the modules of a model folder; a folder without `modules.json` gives an empty recipe.
    ///
    /// # Errors
    /// When a file is broken, or a module is of a kind that is not known here.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let mut recipe = Self { network: folder.to_path_buf(), ..Self::default() };
        let modules = folder.join("modules.json");
        if modules.exists() {
            for entry in read_json::<Vec<ModuleEntry>>(&modules)? {
                recipe.add(folder, &modules, &entry)?;
            }
        }
        recipe.read_length(folder)?;
        recipe.read_prompts(folder)?;
        let side = folder.join(QUERY_SIDE);
        if side.exists() {
            recipe.passage_weights = Some(read_json::<QuerySide>(&side)?.passage_weights);
        }
        Ok(recipe)
    }

    fn add(&mut self, root: &Path, modules: &Path, entry: &ModuleEntry) -> Result<(), ModelError> {
        let folder = root.join(&entry.path);
        match entry.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => self.network = folder,
            "Pooling" => self.pooling = Some(read_pooling(&folder.join("config.json"))?),
            "Dense" if !self.normalize => self.dense.push(read_dense(folder)?),
            "Normalize" => self.normalize = true,
            other => {
                let expected = "modules Transformer, Pooling, Dense and Normalize, in this order";
                return Err(ModelError::Unexpected {
                    path: modules.to_path_buf(),
                    expected: expected.to_owned(),
                    found: other.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn read_length(&mut self, folder: &Path) -> Result<(), ModelError> {
        let path = self.network.join("sentence_bert_config.json");
        if path.exists() {
            let value: Value = read_json(&path)?;
            self.max_tokens = value["max_seq_length"].as_u64().map(|n| n as usize);
        }
        let path = folder.join("tokenizer_config.json");
        if self.max_tokens.is_none() && path.exists() {
            let value: Value = read_json(&path)?;
            // Tokenizers without a limit store 1e30 here.
            let length = value["model_max_length"].as_u64().filter(|&n| n < 1 << 20);
            self.max_tokens = length.map(|n| n as usize);
        }
        Ok(())
    }

    fn read_prompts(&mut self, folder: &Path) -> Result<(), ModelError> {
        let path = folder.join("config_sentence_transformers.json");
        if !path.exists() {
            return Ok(());
        }
        #[derive(Deserialize)]
        struct Prompts {
            #[serde(default)]
            prompts: BTreeMap<String, String>,
        }
        let prompts = read_json::<Prompts>(&path)?.prompts;
        let first = |names: &[&str]| names.iter().find_map(|n| prompts.get(*n)).cloned();
        self.query_prefix = first(&["query"]);
        self.passage_prefix = first(&["passage", "document", "corpus"]);
        Ok(())
    }
}

fn read_pooling(path: &Path) -> Result<Pooling, ModelError> {
    let value: Value = read_json(path)?;
    let unexpected = |found: String| ModelError::Unexpected {
        path: path.to_path_buf(),
        expected: "pooling by mean or by cls, over all tokens".to_owned(),
        found,
    };
    if value["include_prompt"] == Value::Bool(false) {
        return Err(unexpected("include_prompt false".to_owned()));
    }
    match pooling_modes(&value)[..] {
        ["mean"] | ["mean_tokens"] => Ok(Pooling::Mean),
        ["cls"] | ["cls_token"] => Ok(Pooling::Cls),
        ref modes => Err(unexpected(format!("pooling modes [{}]", modes.join(", ")))),
    }
}

/// The names of the pooling modes that are on: `pooling_mode` of newer files, or the flags
/// `pooling_mode_mean_tokens` and so on of older ones.
fn pooling_modes(value: &Value) -> Vec<&str> {
    if let Some(mode) = value["pooling_mode"].as_str() {
        return vec![mode];
    }
    let Some(object) = value.as_object() else {
        return Vec::new();
    };
    let on = object.iter().filter(|(_, v)| **v == Value::Bool(true));
    on.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect()
}

fn read_dense(folder: PathBuf) -> Result<DenseModule, ModelError> {
    #[derive(Deserialize)]
    struct DenseConfig {
        in_features: usize,
        out_features: usize,
        bias: bool,
        activation_function: String,
    }
    let path = folder.join("config.json");
    let config: DenseConfig = read_json(&path)?;
    let activation = match config.activation_function.rsplit('.').next().unwrap_or_default() {
        "Tanh" => DenseActivation::Tanh,
        "Identity" => DenseActivation::Identity,
        other => {
            return Err(ModelError::Unexpected {
                path,
                expected: "activation_function Tanh or Identity".to_owned(),
                found: other.to_owned(),
            });
        }
    };
    let DenseConfig { in_features, out_features, bias, .. } = config;
    Ok(DenseModule { folder, in_features, out_features, bias, activation })
}

/// Prefixes that a family was trained with though its folders do not all say so (Wang et al. 2024,
/// "Multilingual E5 Text Embeddings", section 2).
pub fn known_prefixes(model: &str) -> Option<(&'static str, &'static str)> {
    let plain_e5 = model.contains("multilingual-e5") && !model.contains("instruct");
    plain_e5.then_some(("query: ", "passage: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    const MODULES: &str = r#"[{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#;

    #[test]
    fn a_bare_folder_has_no_pooling() {
        let bare = folder(&[("tokenizer_config.json", r#"{"model_max_length":1e30}"#)]);
        let recipe = Recipe::read(bare.path()).unwrap();
        assert_eq!((recipe.pooling, recipe.max_tokens), (None, None));
    }

    #[test]
    fn old_and_new_pooling_files_are_read() {
        for (text, expected) in [
            (r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":false}"#, Pooling::Mean),
            (r#"{"pooling_mode":"cls"}"#, Pooling::Cls),
        ] {
            let full = folder(&[("modules.json", MODULES), ("1_Pooling/config.json", text)]);
            assert_eq!(Recipe::read(full.path()).unwrap().pooling, Some(expected));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let max = r#"{"pooling_mode_max_tokens":true}"#;
        let unknown = r#"[{"path":"","type":"sentence_transformers.models.WordWeights"}]"#;
        for (modules, pooling, word) in [(MODULES, max, "max_tokens"), (unknown, "", "WordWeights")]
        {
            let bad = folder(&[("modules.json", modules), ("1_Pooling/config.json", pooling)]);
            assert!(Recipe::read(bad.path()).unwrap_err().to_string().contains(word));
        }
    }
}
