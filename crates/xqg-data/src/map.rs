//! A file mapped into memory: opening reads nothing, pages come as they are touched and can be
//! given up by the system at any time. All large artefacts are read through here.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::DataError;

/// A whole file, mapped for reading.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a file; nothing is read yet.
    ///
    /// # Errors
    /// When it is missing or cannot be mapped.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("reading", path))?;
        // SAFETY: artefacts are written once and renamed into place, never changed afterwards; a
        // person who truncates one under a running search gets a bus error, as with any map.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io("mapping", path))?;
        Ok(Self { path: path.to_path_buf(), map })
    }

    /// The file's content; its first byte lies at the beginning of a memory page.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the system that only scattered parts will be read, so that it reads nothing ahead, or
    /// takes that back. A wish: where the system does not know it, nothing happens.
    pub fn expect_scattered(&self, scattered: bool) {
        #[cfg(unix)]
        let _ = self.map.advise(match scattered {
            true => memmap2::Advice::Random,
            false => memmap2::Advice::Normal,
        });
    }

    /// Tells the system that the whole file will be read soon, so that it may begin. A wish, too.
    pub fn fetch(&self) {
        #[cfg(unix)]
        let _ = self.map.advise(memmap2::Advice::WillNeed);
    }
}
