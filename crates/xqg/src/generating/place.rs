//! Where generators lie: the one that a name means, the one that the project brings along, and the
//! encoder that a generator was made for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use xqg_data::contract::EncoderContract;
use xqg_data::error::DataError;
use xqg_index::manifest::hash_file;

/// The folder that holds the project's own models: here, or beside the program or above it.
const MODELS: &str = "models";
/// The kind of a decoder that reads the retriever's own token states.
const SHARED: &str = "xqg-decoder";

/// The generator that the project brings along, where it is there; for this encoder, if one is named.
pub fn own_generator(encoder: Option<&EncoderContract>) -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let above = program.iter().flat_map(|p| p.ancestors().skip(1)).map(|p| p.join(MODELS));
    let mut places = std::iter::once(PathBuf::from(MODELS)).chain(above);
    places.find_map(|place| generator_in(&place, encoder))
}

/// The first folder below `place` that holds a generator for the encoder.
fn generator_in(place: &Path, encoder: Option<&EncoderContract>) -> Option<PathBuf> {
    let entries = std::fs::read_dir(place).ok()?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    folders.sort();
    folders.into_iter().find(|folder| {
        let made_for = shared_encoder(folder).ok().flatten();
        made_for.is_some_and(|c| encoder.is_none_or(|e| c.check(e, "choosing a generator").is_ok()))
    })
}

/// The encoder that a generator reads the states of; none where it has one of its own.
///
/// # Errors
/// When its `config.json` is missing or damaged.
pub fn shared_encoder(folder: &Path) -> Result<Option<EncoderContract>> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(DataError::io("reading", &path))?;
    let wrong = |found: String| DataError::unexpected(&path, "a generator's settings", found);
    let mut config: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if config["model_type"] != SHARED {
        return Ok(None);
    }
    // What is not said of the precision, the contract fills in.
    let contract = serde_json::from_value(config["encoder"].take());
    Ok(Some(contract.map_err(|e| wrong(format!("no `encoder` in it ({e})")))?))
}

/// The hash of each of a folder's files: what decides what a model writes.
///
/// # Errors
/// When one cannot be read.
pub fn hashes(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io("reading", folder))? {
        let path = entry.map_err(DataError::io("reading", folder))?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all.insert(name, hash_file(&path)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_for_an_encoder_is_found() {
        let place = tempfile::tempdir().unwrap();
        let contract =
            |dim| EncoderContract { weights: "w".into(), ..EncoderContract::external(dim, true) };
        for (name, dim) in [("a", 8), ("b", 16)] {
            let folder = place.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let config = serde_json::json!({"model_type": SHARED, "encoder": contract(dim)});
            std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        }
        std::fs::create_dir(place.path().join("0-not-one")).unwrap();
        let found = |dim: usize| generator_in(place.path(), Some(&contract(dim)));
        assert_eq!(found(16), Some(place.path().join("b")));
        assert_eq!(found(32), None);
        assert_eq!(generator_in(place.path(), None), Some(place.path().join("a")));
        assert!(hashes(&place.path().join("a")).unwrap().contains_key("config.json"));
    }

    #[test]
    fn a_generator_says_its_encoder_or_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(folder.path().join("config.json"), text).unwrap();
        write(r#"{"model_type":"mt5"}"#);
        assert_eq!(shared_encoder(folder.path()).unwrap(), None);
        write(r#"{"model_type":"xqg-decoder"}"#);
        let error = shared_encoder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no `encoder` in it"), "{error}");
    }
}
