//! The prompts of a model whose published folder does not name them. Under its own name the encoder
//! knows them; in a folder that the user named, only a file can carry them.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};
use xqg_data::error::DataError;
use xqg_data::file::write_whole;

use super::error::GetError;
use crate::recipe::known_prefixes;

const FILE: &str = "config_sentence_transformers.json";

/// Writes to the folder `to`, a copy of `from`, the prompts that the model `name` was trained
/// with, where it names none.
///
/// # Errors
/// When the folder's own file is no JSON object, or cannot be read or written.
pub(super) fn complete(from: &Path, to: &Path, name: &str) -> Result<(), GetError> {
    let Some((query, passage)) = known_prefixes(name) else { return Ok(()) };
    let mut config = read(&from.join(FILE))?;
    if names_prompts(&config) {
        return Ok(());
    }
    config["prompts"] = json!({"query": query, "passage": passage});
    Ok(write_whole(&to.join(FILE), format!("{config:#}\n").as_bytes())?)
}

/// The JSON object in a file; an empty one where there is no file.
fn read(path: &Path) -> Result<Value, DataError> {
    let unexpected = |found: String| DataError::unexpected(path, "a JSON object", found);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(json!({})),
        Err(error) => return Err(DataError::io("reading", path)(error)),
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| unexpected(e.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(unexpected("another JSON value".to_string())) }
}

/// Whether any prompt has text: the file may come with the names of prompts alone.
fn names_prompts(config: &Value) -> bool {
    let said = |prompt: &Value| prompt.as_str().is_some_and(|text| !text.is_empty());
    config["prompts"].as_object().is_some_and(|prompts| prompts.values().any(said))
}

/// What the model in a folder is called: the folder's own name, or the repository's where it is
/// a snapshot of the hub's cache, `models--OWNER--NAME/snapshots/COMMIT`.
pub(super) fn name_of(folder: &Path) -> Option<String> {
    let known = |path: &Path| {
        let name = repository(path).or_else(|| Some(path.file_name()?.to_str()?.to_string()))?;
        known_prefixes(&name).map(|_| name)
    };
    known(folder).or_else(|| known(&fs_err::canonicalize(folder).ok()?))
}

fn repository(snapshot: &Path) -> Option<String> {
    let snapshots = snapshot.parent().filter(|parent| parent.ends_with("snapshots"))?;
    let root = snapshots.parent()?.file_name()?.to_str()?;
    Some(root.strip_prefix("models--")?.replacen("--", "/", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const E5: &str = "intfloat/multilingual-e5-small";

    #[test]
    fn prompts_are_added_where_there_are_none_and_only_for_models_that_have_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let read = || std::fs::read_to_string(at.join(FILE));
        complete(at, at, "sentence-transformers/LaBSE").unwrap();
        assert!(read().is_err());
        for prompts in ["{}", "null", r#"{"query": "", "document": ""}"#] {
            let text = format!(r#"{{"__version__": {{}}, "prompts": {prompts}}}"#);
            std::fs::write(at.join(FILE), text).unwrap();
            complete(at, at, E5).unwrap();
            let text = read().unwrap();
            assert!(text.contains("passage: ") && text.contains("__version__"), "{text}");
            complete(at, at, E5).unwrap();
            assert_eq!(read().unwrap(), text);
        }
    }

    #[test]
    fn a_file_that_is_no_object_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{\"prompts\": ", "[]", "\u{0}"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = complete(folder.path(), folder.path(), E5).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("a JSON object"), "{error}");
        }
    }

    #[test]
    fn a_folder_is_called_by_its_name_or_its_repository() {
        let cached = Path::new("/c/models--intfloat--multilingual-e5-small/snapshots/0123");
        assert_eq!(name_of(cached).as_deref(), Some(E5));
        let plain = name_of(Path::new("/m/multilingual-e5-base"));
        assert_eq!(plain.as_deref(), Some("multilingual-e5-base"));
        for other in ["/m/multilingual-e5-large-instruct", "/multilingual-e5-small/labse", "/"] {
            assert_eq!(name_of(Path::new(other)), None, "{other}");
        }
    }
}
