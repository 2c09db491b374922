//! Model folders on the disk: whether one is whole, which files belong to it, and how a new one
//! comes into being without ever being seen half-written: it is made as `NAME.partial` and then
//! renamed.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use xqg_data::file::{self, Lock};

use crate::checkpoint::weight_files;
use crate::get::error::GetError;
use crate::get::{prompts, select};

/// What stands for the weights among [`NEEDED`]: one file of the two, or shards.
pub(super) const WEIGHTS: &str = "model.safetensors or pytorch_model.bin";

/// What stands for the tokenizer among [`NEEDED`]: one of the [`TOKENIZERS`].
pub(super) const TOKENIZER: &str = "tokenizer.json, spiece.model or sentencepiece.bpe.model";

/// The files that a tokenizer is read from.
pub(super) const TOKENIZERS: [&str; 3] =
    ["tokenizer.json", "spiece.model", "sentencepiece.bpe.model"];

/// What no model can do without.
pub(super) const NEEDED: [&str; 3] = ["config.json", TOKENIZER, WEIGHTS];

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
    missing(folder).is_none()
}

/// The first file or group of files that the folder lacks for that.
pub(super) fn missing(folder: &Path) -> Option<String> {
    let lacks = |name: &&str| match *name {
        WEIGHTS => weight_files(folder).is_err(),
        TOKENIZER => !TOKENIZERS.iter().any(|name| folder.join(name).is_file()),
        name => !folder.join(name).is_file(),
    };
    let module = || modules(folder).into_iter().find(|module| !has_module(folder, module));
    let needed = NEEDED.iter().find(|name| lacks(name)).map(|name| (*name).to_string());
    needed.or_else(|| module().map(|module| format!("the files of module {}", module.path)))
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

/// Copies the files of a model from one folder to a new one. `name`, if known, is what the model
/// is called; its prompts are added where the folder names none.
///
/// # Errors
///
/// Where the target is full and may not be replaced, or the disk refuses.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    force: bool,
    name: Option<&str>,
) -> Result<PathBuf, GetError> {
    let partial = PartialFolder::begin(to)?;
    check_free(to, force)?;
    let paths = files(from)?;
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    for path in select::choose(&paths) {
        let target = partial.path(path)?;
        place(&from.join(path), &target)?;
    }
    if let Some(name) = name {
        prompts::complete(from, &partial.partial, name)?;
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

/// Links or copies one file; the cache's own links are followed first. Only weights are linked:
/// people edit configs and tokenizers, and an edit must not reach the cache.
fn place(from: &Path, to: &Path) -> Result<(), GetError> {
    let weights = to.extension().is_some_and(|end| end == "safetensors" || end == "bin");
    let from = fs_err::canonicalize(from).map_err(GetError::io)?;
    if weights && fs_err::hard_link(&from, to).is_ok() {
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
/// is removed again. Only one process at a time makes it.
#[derive(Debug)]
pub(super) struct PartialFolder {
    partial: PathBuf,
    target: PathBuf,
    finished: bool,
    _lock: Lock,
}

impl PartialFolder {
    /// Makes `target.partial`, in place of one that an earlier run left. Whether the target may
    /// be replaced is the caller's to check.
    ///
    /// # Errors
    ///
    /// Where another process makes the same folder, or the disk refuses.
    pub(super) fn begin(target: &Path) -> Result<Self, GetError> {
        let lock = Lock::take(target)?;
        let partial = file::partial_path(target);
        file::remove(&partial)?;
        fs_err::create_dir_all(&partial).map_err(GetError::io)?;
        Ok(Self { partial, target: target.to_path_buf(), finished: false, _lock: lock })
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
    /// Where the disk refuses; what was there is then still there.
    pub(super) fn finish(mut self) -> Result<PathBuf, GetError> {
        file::replace_folder(&self.partial, &self.target)?;
        self.finished = true;
        Ok(self.target.clone())
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about a folder that cannot be removed; the next run
            // removes it or says why not.
            let _removed = file::remove(&self.partial);
        }
    }
}

/// Checks that a folder can be written without losing anything, or that losing it is meant: only
/// what looks like a model folder is ever given up.
///
/// # Errors
///
/// [`GetError::NotEmpty`] or [`GetError::NotReplaceable`] otherwise.
pub(super) fn check_free(target: &Path, force: bool) -> Result<(), GetError> {
    if is_free(target) {
        return Ok(());
    }
    if !target.join("config.json").is_file() || weight_files(target).is_err() {
        return Err(GetError::NotReplaceable { path: target.to_path_buf() });
    }
    if force { Ok(()) } else { Err(GetError::NotEmpty { folder: target.to_path_buf() }) }
}

/// Whether nothing would be lost: no such path, or an empty folder.
fn is_free(target: &Path) -> bool {
    match fs_err::read_dir(target) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => fs_err::symlink_metadata(target).is_err(),
    }
}

/// Checks that the source does not lie inside of the target.
///
/// # Errors
///
/// [`GetError::HoldsSource`] otherwise.
pub(super) fn check_apart(target: &Path, source: &Path) -> Result<(), GetError> {
    let (Ok(inside), Ok(outside)) = (fs_err::canonicalize(source), fs_err::canonicalize(target))
    else {
        return Ok(());
    };
    if inside != outside && inside.starts_with(&outside) {
        let (folder, source_folder) = (target.to_path_buf(), source.to_path_buf());
        return Err(GetError::HoldsSource { folder, source_folder });
    }
    Ok(())
}

/// Whether both paths lead to one folder.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs_err::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
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
    fn a_sentencepiece_model_is_a_tokenizer_too() {
        for name in ["spiece.model", "sentencepiece.bpe.model"] {
            let model = model();
            std::fs::rename(model.path().join("tokenizer.json"), model.path().join(name)).unwrap();
            assert!(is_whole(model.path()), "{name}");
            std::fs::rename(model.path().join(name), model.path().join("other.model")).unwrap();
            assert_eq!(missing(model.path()).as_deref(), Some(TOKENIZER));
        }
    }

    #[test]
    fn a_copy_has_the_models_files_and_no_others() {
        let model = model();
        write(model.path(), "onnx/model.onnx", "x");
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("copy");
        assert_eq!(copy(model.path(), &target, false, None).unwrap(), target);
        assert!(is_whole(&target) && !target.join("onnx").exists());
        assert_eq!(entries(place.path()).unwrap().len(), 1);
    }

    #[test]
    fn force_replaces_a_model_folder_and_nothing_else() {
        let (source, place) = (model(), tempfile::tempdir().unwrap());
        let thesis = place.path().join("thesis");
        write(&thesis, "chapter.txt", "mine");
        write(&thesis, "config.json", "{}");
        write(place.path(), "file", "mine");
        for (name, force) in [("thesis", false), ("thesis", true), ("file", true)] {
            let refused = copy(source.path(), &place.path().join(name), force, None);
            assert!(matches!(refused, Err(GetError::NotReplaceable { .. })), "{name}");
        }
        assert_eq!(entries(place.path()).unwrap().len(), 2);
        let old = model();
        write(old.path(), "mine.txt", "mine");
        let refused = copy(source.path(), old.path(), false, None);
        assert!(matches!(refused, Err(GetError::NotEmpty { .. })));
        assert!(old.path().join("mine.txt").exists());
        copy(source.path(), old.path(), true, None).unwrap();
        assert!(is_whole(old.path()) && !old.path().join("mine.txt").exists());
    }

    #[test]
    fn a_target_that_holds_the_source_is_found() {
        let model = model();
        let inner = model.path().join("inner");
        write(&inner, "config.json", "{}");
        let held = check_apart(model.path(), &inner);
        assert!(matches!(held, Err(GetError::HoldsSource { .. })));
        assert!(check_apart(&inner, model.path()).is_ok());
        assert!(check_apart(model.path(), &inner.join("..")).is_ok());
        assert!(is_same(model.path(), &inner.join("..")));
    }

    #[cfg(unix)]
    #[test]
    fn only_weights_are_linked() {
        use std::os::unix::fs::MetadataExt as _;
        let model = model();
        write(model.path(), "tokenizer.json", &"x".repeat(2 << 20));
        let place = tempfile::tempdir().unwrap();
        let copied = copy(model.path(), &place.path().join("copy"), false, None).unwrap();
        let links = |name: &str| std::fs::metadata(copied.join(name)).unwrap().nlink();
        assert_eq!((links("tokenizer.json"), links("model.safetensors")), (1, 2));
    }

    #[test]
    fn two_do_not_write_one_folder() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("new");
        let first = PartialFolder::begin(&target).unwrap();
        assert!(matches!(PartialFolder::begin(&target), Err(GetError::Write(_))));
        first.finish().unwrap();
        assert_eq!(entries(place.path()).unwrap().len(), 1);
    }

    #[test]
    fn prompts_that_cannot_be_read_leave_no_folder() {
        let (model, place) = (model(), tempfile::tempdir().unwrap());
        write(model.path(), "config_sentence_transformers.json", "{\"prompts\":");
        let target = place.path().join("copy");
        assert!(copy(model.path(), &target, false, Some("a/multilingual-e5-small")).is_err());
        assert!(entries(place.path()).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_finished_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let partial = PartialFolder::begin(&place.path().join("new")).unwrap();
        std::fs::write(partial.path("a/b").unwrap(), "x").unwrap();
        drop(partial);
        assert!(entries(place.path()).unwrap().is_empty());
    }
}
