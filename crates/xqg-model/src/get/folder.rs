//! Model folders on the disk: whether one is whole, which files belong to it, and how a new one
//! comes into being without ever being seen half-written: it is made as `NAME.partial` and then
//! renamed.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::checkpoint::weight_files;
use crate::get::error::GetError;
use crate::get::select;

/// Files from this size on are hard-linked rather than copied. Smaller ones are copied, because
/// people edit configs, and an edit must not reach the cache.
const LINKED_BYTES: u64 = 1 << 20;

/// The tokenizer files of which a whole model has at least one.
const TOKENIZERS: [&str; 5] =
    ["tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model", "vocab.json"];

/// One entry of sentence-transformers' `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

/// Whether the folder holds all that an encoder needs: config, tokenizer, every weight file, and
/// the modules that `modules.json` names.
pub(super) fn is_whole(folder: &Path) -> bool {
    let tokenizer = TOKENIZERS.iter().any(|name| folder.join(name).is_file());
    folder.join("config.json").is_file()
        && tokenizer
        && weight_files(folder).is_ok()
        && modules(folder).iter().all(|module| has_module(folder, module))
}

/// Whether the folder says how sentence-transformers pools. One that was cached by a program
/// that only wanted the bare encoder does not, although the hub might.
pub(super) fn has_recipe(folder: &Path) -> bool {
    folder.join("modules.json").is_file()
}

fn modules(folder: &Path) -> Vec<Module> {
    let text = fs_err::read(folder.join("modules.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Whether a module's own files are there. The transformer itself lies in the folder, and a
/// normalisation has no files.
fn has_module(folder: &Path, module: &Module) -> bool {
    if module.path.is_empty() || module.class.ends_with("Normalize") {
        return true;
    }
    let own = folder.join(&module.path);
    let weights = !module.class.ends_with("Dense") || weight_files(&own).is_ok();
    own.join("config.json").is_file() && weights
}

/// Copies the files of a model from one folder to a new one.
///
/// # Errors
///
/// Where the target is full and `force` is not set, or the disk refuses.
pub(super) fn copy(from: &Path, to: &Path, force: bool) -> Result<PathBuf, GetError> {
    let partial = PartialFolder::begin(to, force)?;
    let paths = files(from)?;
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    for path in select::choose(&paths) {
        let target = partial.path(path)?;
        place(&from.join(path), &target)?;
    }
    partial.finish()
}

/// The files of a model folder and of the folders in it, as relative paths with `/`.
fn files(folder: &Path) -> Result<Vec<String>, GetError> {
    let mut found = Vec::new();
    for (name, path) in entries(folder)? {
        if path.is_dir() {
            let inner = entries(&path)?.into_iter().filter(|(_, inner)| inner.is_file());
            found.extend(inner.map(|(file, _)| format!("{name}/{file}")));
        } else {
            found.push(name);
        }
    }
    Ok(found)
}

/// Names and paths in a folder; names that are no Unicode belong to no model.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, GetError> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(GetError::io)? {
        let entry = entry.map_err(GetError::io)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Links or copies one file; the cache's own links are followed first.
fn place(from: &Path, to: &Path) -> Result<(), GetError> {
    let from = fs_err::canonicalize(from).map_err(GetError::io)?;
    let length = fs_err::metadata(&from).map_err(GetError::io)?.len();
    if length >= LINKED_BYTES && fs_err::hard_link(&from, to).is_ok() {
        return Ok(());
    }
    fs_err::copy(&from, to).map_err(GetError::io)?;
    sync(to)
}

/// Brings a written file to the disk.
pub(super) fn sync(path: &Path) -> Result<(), GetError> {
    let file = fs_err::OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.sync_all()).map_err(GetError::io)
}

/// A folder in the making, beside its final place. Dropped before [`PartialFolder::finish`], it
/// is removed again.
#[derive(Debug)]
pub(super) struct PartialFolder {
    partial: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl PartialFolder {
    /// Makes `target.partial`, in place of one that an earlier run left.
    ///
    /// # Errors
    ///
    /// [`GetError::NotEmpty`] where the target is in the way and `force` is not set.
    pub(super) fn begin(target: &Path, force: bool) -> Result<Self, GetError> {
        check_free(target, force)?;
        let partial = with_suffix(target, ".partial");
        remove(&partial)?;
        fs_err::create_dir_all(&partial).map_err(GetError::io)?;
        Ok(Self { partial, target: target.to_path_buf(), finished: false })
    }

    /// The path of a file in the folder; its own folder is made.
    ///
    /// # Errors
    ///
    /// Where that folder cannot be made.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, GetError> {
        let path = self.partial.join(name);
        let parent = path.parent().unwrap_or(&self.partial);
        fs_err::create_dir_all(parent).map_err(GetError::io)?;
        Ok(path)
    }

    /// Puts the folder in its final place, in exchange for what is there.
    ///
    /// # Errors
    ///
    /// Where the disk refuses; what was there is then still there, or at `target.old.partial`.
    pub(super) fn finish(mut self) -> Result<PathBuf, GetError> {
        let old = with_suffix(&self.target, ".old.partial");
        remove(&old)?;
        if self.target.exists() {
            fs_err::rename(&self.target, &old).map_err(GetError::io)?;
        }
        fs_err::rename(&self.partial, &self.target).map_err(GetError::io)?;
        self.finished = true;
        remove(&old)?;
        Ok(self.target.clone())
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about a folder that cannot be removed; the next run
            // removes it or says why not.
            let _removed = remove(&self.partial);
        }
    }
}

/// Checks that a folder can be written without losing anything, or that losing it is meant.
///
/// # Errors
///
/// [`GetError::NotEmpty`] otherwise.
pub(super) fn check_free(target: &Path, force: bool) -> Result<(), GetError> {
    if force || is_free(target) {
        return Ok(());
    }
    Err(GetError::NotEmpty { folder: target.to_path_buf() })
}

/// Whether nothing would be lost: no such path, or an empty folder.
fn is_free(target: &Path) -> bool {
    match fs_err::read_dir(target) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !target.exists(),
    }
}

/// Adds to the last part of a path.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

/// Removes a folder or file if it is there.
fn remove(path: &Path) -> Result<(), GetError> {
    let removed = match fs_err::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(GetError::io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, contents: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    /// A folder with the files of a whole model; their contents do not matter.
    fn model() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"]
        {
            write(folder.path(), name, name);
        }
        let modules = r#"[{"path":"","type":"t.Transformer"},{"path":"1_Pooling","type":"t.Pooling"},
            {"path":"2_Normalize","type":"t.Normalize"}]"#;
        write(folder.path(), "modules.json", modules);
        folder
    }

    #[test]
    fn a_folder_is_whole_only_with_all_its_files() {
        for name in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"]
        {
            let model = model();
            assert!(is_whole(model.path()));
            std::fs::remove_file(model.path().join(name)).unwrap();
            assert!(!is_whole(model.path()), "{name}");
        }
    }

    #[test]
    fn a_copy_has_the_models_files_and_no_others() {
        let model = model();
        write(model.path(), "onnx/model.onnx", "x");
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("copy");
        assert_eq!(copy(model.path(), &target, false).unwrap(), target);
        assert!(is_whole(&target) && !target.join("onnx").exists());
        assert_eq!(entries(place.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_full_folder_is_only_replaced_by_force() {
        let model = model();
        let target = tempfile::tempdir().unwrap();
        write(target.path(), "mine.txt", "mine");
        let refused = copy(model.path(), target.path(), false);
        assert!(matches!(refused, Err(GetError::NotEmpty { .. })));
        assert!(target.path().join("mine.txt").exists());
        copy(model.path(), target.path(), true).unwrap();
        assert!(is_whole(target.path()) && !target.path().join("mine.txt").exists());
    }

    #[test]
    fn what_is_not_finished_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let partial = PartialFolder::begin(&place.path().join("new"), false).unwrap();
        std::fs::write(partial.path("a/b").unwrap(), "x").unwrap();
        drop(partial);
        assert!(entries(place.path()).unwrap().is_empty());
    }
}
