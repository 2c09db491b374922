//! What a model may be called: a folder, a hub id, or a well-known short name.

use std::path::{Path, PathBuf};

use crate::get::error::GetError;

/// The one model that can also be had with pip.
pub(super) const E5_SMALL: &str = "intfloat/multilingual-e5-small";

/// Short names and the hub ids they stand for.
pub(super) const KNOWN_NAMES: [(&str, &str); 9] = [
    ("multilingual-e5-small", E5_SMALL),
    ("multilingual-e5-base", "intfloat/multilingual-e5-base"),
    ("multilingual-e5-large", "intfloat/multilingual-e5-large"),
    ("LaBSE", "sentence-transformers/LaBSE"),
    ("bge-m3", "BAAI/bge-m3"),
    (
        "paraphrase-multilingual-MiniLM-L12-v2",
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    ),
    ("bert-base-multilingual-cased", "google-bert/bert-base-multilingual-cased"),
    ("xlm-roberta-base", "FacebookAI/xlm-roberta-base"),
    ("xlm-roberta-large", "FacebookAI/xlm-roberta-large"),
];

/// The hub's own limit on an id.
const MAX_ID: usize = 96;

/// What a name turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A model folder on this machine.
    Folder(PathBuf),
    /// A repository on the hub, as `owner/name`.
    Repository(String),
}

/// Decides what `name` is; a folder on this machine comes first.
///
/// # Errors
///
/// Where it is nothing that could be fetched, or a folder without config.json.
pub(super) fn resolve(name: &str) -> Result<Named, GetError> {
    let folder = Path::new(name);
    if folder.join("config.json").is_file() {
        return Ok(Named::Folder(folder.to_path_buf()));
    }
    let known = KNOWN_NAMES.iter().find(|(short, _)| short.eq_ignore_ascii_case(name));
    if let Some((_, id)) = known {
        return Ok(Named::Repository((*id).to_string()));
    }
    if folder.is_dir() {
        return Err(GetError::NotAModel { folder: folder.to_path_buf() });
    }
    if is_id(name) {
        return Ok(Named::Repository(name.to_string()));
    }
    Err(GetError::UnknownName { name: name.to_string() })
}

/// Whether this is `owner/name` in the characters that the hub allows. It also keeps the id from
/// leading out of the cache folder.
fn is_id(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() == 2 && name.len() <= MAX_ID && parts.iter().all(|part| is_plain(part))
}

/// Letters, digits, `_`, `.` and `-`, beginning with neither of the last two.
fn is_plain(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !part.is_empty()
        && !part.starts_with(['.', '-'])
        && !part.contains("..")
        && !part.contains("--")
        && part.chars().all(allowed)
}

/// Checks that a revision is a branch, tag or commit that can also be a path in the cache.
///
/// # Errors
///
/// [`GetError::Revision`] otherwise.
pub(super) fn check_revision(revision: &str) -> Result<(), GetError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good =
        |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(allowed);
    if revision.split('/').all(good) {
        return Ok(());
    }
    Err(GetError::Revision { revision: revision.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Option<String> {
        match resolve(name) {
            Ok(Named::Repository(id)) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn short_names_and_ids_become_ids() {
        assert_eq!(repository("multilingual-e5-small").as_deref(), Some(E5_SMALL));
        assert_eq!(repository("labse").as_deref(), Some("sentence-transformers/LaBSE"));
        assert_eq!(repository("someone/some.model_1").as_deref(), Some("someone/some.model_1"));
        assert!(KNOWN_NAMES.iter().all(|(_, id)| is_id(id)));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "gpt", "../x", "a/..", "a/../b", "/etc", "a/b/c", "a--b/c", "a/b c"] {
            assert_eq!(repository(name), None, "{name}");
        }
    }

    #[test]
    fn a_folder_with_a_config_is_itself() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().to_str().unwrap();
        assert!(matches!(resolve(name), Err(GetError::NotAModel { .. })));
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        assert_eq!(resolve(name).unwrap(), Named::Folder(folder.path().to_path_buf()));
    }

    #[test]
    fn revisions_are_branches_tags_or_commits() {
        for good in ["main", "v1.0", "refs/pr/3", "0123abc"] {
            assert!(check_revision(good).is_ok(), "{good}");
        }
        for bad in ["", "/main", "a/../b", "../x", "a b", "main/"] {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
    }
}
