//! The prompts of a model whose published folder does not name them. Under its own name the encoder
//! knows them; in a folder that the user named, only a file can carry them.

use std::path::Path;

use serde_json::{Value, json};
use xqg_data::file::write_whole;

use super::error::GetError;
use crate::recipe::known_prefixes;

const FILE: &str = "config_sentence_transformers.json";

/// Writes the prompts that `repository` was trained with, where the folder names none.
///
/// # Errors
/// When the folder cannot be written to.
pub fn complete(folder: &Path, repository: &str) -> Result<(), GetError> {
    let Some((query, passage)) = known_prefixes(repository) else { return Ok(()) };
    let path = folder.join(FILE);
    let old = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut config: Value = old.unwrap_or_else(|| json!({}));
    let named = config["prompts"].as_object().is_some_and(|prompts| !prompts.is_empty());
    if named || !config.is_object() {
        return Ok(());
    }
    config["prompts"] = json!({"query": query, "passage": passage});
    Ok(write_whole(&path, format!("{config:#}\n").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_added_where_there_are_none_and_only_for_models_that_have_them() {
        let folder = tempfile::tempdir().unwrap();
        let read = || std::fs::read_to_string(folder.path().join(FILE));
        complete(folder.path(), "sentence-transformers/LaBSE").unwrap();
        assert!(read().is_err());
        std::fs::write(folder.path().join(FILE), r#"{"__version__": {}, "prompts": {}}"#).unwrap();
        complete(folder.path(), "intfloat/multilingual-e5-small").unwrap();
        let text = read().unwrap();
        assert!(text.contains("query: ") && text.contains("__version__"), "{text}");
        complete(folder.path(), "intfloat/multilingual-e5-small").unwrap();
        assert_eq!(read().unwrap(), text);
    }
}
