//! How a file comes to be: written beside its place as `NAME.partial`, synced, then renamed, so
//! that whoever finds the name finds the whole content, even after a power cut.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// A file in the making. Dropped without [`commit`](Self::commit), it leaves nothing behind.
#[derive(Debug)]
pub struct PartialFile {
    to: PathBuf,
    partial: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl PartialFile {
    /// Opens `PATH.partial` for writing; the folder must exist.
    ///
    /// # Errors
    /// When the folder is missing or cannot be written to.
    pub fn create(path: &Path) -> Result<Self, DataError> {
        let partial = partial_path(path);
        let file = File::create(&partial).map_err(DataError::io("creating", &partial))?;
        let writer = Some(BufWriter::with_capacity(1 << 18, file));
        Ok(Self { to: path.to_path_buf(), partial, writer })
    }

    /// Flushes, syncs and renames: afterwards the content is at its path.
    ///
    /// # Errors
    /// On a full disk or any other refusal of the system; the old file, if any, is untouched.
    pub fn commit(mut self) -> Result<(), DataError> {
        let writer = self.writer.take().expect("a partial file is committed once");
        let done = self.publish(writer);
        if done.is_err() {
            let _ = fs::remove_file(&self.partial);
        }
        done
    }

    fn publish(&self, writer: BufWriter<File>) -> Result<(), DataError> {
        let file = writer
            .into_inner()
            .map_err(|e| DataError::io("writing", &self.partial)(e.into_error()))?;
        file.sync_all().map_err(DataError::io("syncing", &self.partial))?;
        fs::rename(&self.partial, &self.to).map_err(DataError::io("renaming to", &self.to))
    }

    /// Where the finished file will lie.
    pub fn path(&self) -> &Path {
        &self.to
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.as_mut().expect("open until committed").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().expect("open until committed").flush()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// `PATH.partial`, beside the path.
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Writes all bytes to a path by way of a partial file.
///
/// # Errors
/// As [`PartialFile::create`] and [`PartialFile::commit`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let mut file = PartialFile::create(path)?;
    file.write_all(bytes).map_err(DataError::io("writing", path))?;
    file.commit()
}

/// Makes a folder and its parents, and checks that it can be written to.
///
/// # Errors
/// When a parent is a file, or permission is missing: said before the long work begins.
pub fn writable_folder(path: &Path) -> Result<(), DataError> {
    fs::create_dir_all(path).map_err(DataError::io("creating", path))?;
    let probe = path.join(format!(".xqg-probe-{}", std::process::id()));
    File::create(&probe).map_err(DataError::io("writing to", path))?;
    let _ = fs::remove_file(&probe);
    Ok(())
}

/// An output's path without a slash at its end, so that names beside it can be made.
///
/// # Errors
/// When the path names no file or folder of its own, like `..` or `/`.
pub fn output_path(path: &Path) -> Result<PathBuf, DataError> {
    let clean: PathBuf = path.components().collect();
    if clean.file_name().is_none() {
        return Err(DataError::unexpected(path, "the name of a new folder", "none"));
    }
    Ok(clean)
}

/// Says that one process works on an output; two at once would spoil each other's files.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of an output: `PATH.lock` beside it, until dropped.
    ///
    /// # Errors
    /// When another process has it, or the folder cannot be written to.
    pub fn take(output: &Path) -> Result<Self, DataError> {
        let mut name = output.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
            fs::create_dir_all(parent).map_err(DataError::io("creating", parent))?;
        }
        let file = File::create(&path).map_err(DataError::io("creating", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(DataError::Unexpected {
                path: output.to_path_buf(),
                expected: "no other process at work on it".into(),
                found: "one that holds its lock".into(),
                hint: "wait until it is done; parts of one index need an --out each",
            }),
            Err(fs::TryLockError::Error(source)) => Err(DataError::io("locking", &path)(source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Moves a finished folder to its place. What lay there steps aside to `PATH.old.partial` and is
/// removed only when the new one is in place; what a killed move left aside is removed too.
///
/// # Errors
/// When the disk refuses.
pub fn replace_folder(finished: &Path, path: &Path) -> Result<(), DataError> {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    let old = partial_path(Path::new(&old));
    if path.exists() {
        remove(&old)?;
        fs::rename(path, &old).map_err(DataError::io("renaming", path))?;
    }
    if let Err(error) = fs::rename(finished, path) {
        let _ = fs::rename(&old, path);
        return Err(DataError::io("renaming to", path)(error));
    }
    remove(&old)
}

/// Removes a file or a folder with all that is in it, if it is there.
///
/// # Errors
/// When the disk refuses.
pub fn remove(path: &Path) -> Result<(), DataError> {
    if path.is_dir() {
        fs::remove_dir_all(path).map_err(DataError::io("removing", path))
    } else if path.exists() {
        fs::remove_file(path).map_err(DataError::io("removing", path))
    } else {
        Ok(())
    }
}

/// Whether a folder is empty or of our making: its manifest names one of our formats.
fn is_replaceable(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap_or_default();
    let ours = manifest.contains("\"xqg-index\"") || manifest.contains("\"xqg-embeddings\"");
    ours || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Refuses to go on where an output exists, unless `force` is set; even then a folder that is not
/// of our making is left alone.
///
/// # Errors
/// [`DataError::Exists`], or [`DataError::Unexpected`] for somebody else's folder.
pub fn refuse_existing(path: &Path, force: bool) -> Result<(), DataError> {
    if path.exists() && !force {
        return Err(DataError::Exists { path: path.to_path_buf() });
    }
    if path.is_dir() && !is_replaceable(path) {
        return Err(DataError::Unexpected {
            path: path.to_path_buf(),
            expected: "an artefact of xqg, which --force may replace".into(),
            found: "a folder with other files".into(),
            hint: "name another folder",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_an_abandoned_file_and_all_of_a_committed_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let mut file = PartialFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write_whole(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(!partial_path(&path).exists());
    }

    #[test]
    fn a_commit_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("below")).unwrap();
        assert!(write_whole(&path, b"x").is_err(), "a folder is in the way");
        assert!(!partial_path(&path).exists());
    }

    #[test]
    fn a_folder_takes_the_place_of_another_and_of_what_a_kill_left() {
        let folder = tempfile::tempdir().unwrap();
        let [new, path, old] = ["a.partial", "a", "a.old.partial"].map(|n| folder.path().join(n));
        for (path, content) in [(&new, "new"), (&path, "kept"), (&old, "left")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("x"), content).unwrap();
        }
        replace_folder(&new, &path).unwrap();
        assert_eq!(fs::read_to_string(path.join("x")).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn force_replaces_only_what_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (data, index) = (folder.path().join("data"), folder.path().join("index"));
        for (path, name) in [(&data, "thesis.txt"), (&index, "manifest.json")] {
            fs::create_dir(path).unwrap();
            assert!(refuse_existing(path, true).is_ok(), "an empty folder");
            write_whole(&path.join(name), b"{\"format\": \"xqg-index\"}").unwrap();
        }
        assert!(refuse_existing(&data, true).is_err());
        assert!(refuse_existing(&index, true).is_ok() && refuse_existing(&index, false).is_err());
    }

    #[test]
    fn one_process_at_a_time_works_on_an_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = output_path(&folder.path().join("index/")).unwrap();
        let lock = Lock::take(&path).unwrap();
        assert!(Lock::take(&path).unwrap_err().to_string().contains("no other process"));
        drop(lock);
        Lock::take(&path).unwrap();
        assert!(output_path(Path::new("..")).is_err());
    }

    #[test]
    fn a_folder_below_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_whole(&path, b"x").unwrap();
        assert!(writable_folder(&path.join("below")).is_err());
        assert!(matches!(refuse_existing(&path, false), Err(DataError::Exists { .. })));
    }
}
