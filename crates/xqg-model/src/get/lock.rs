//! Waiting for another process that fetches the same file. The lock files lie where Python's
//! client has its own, and are locked by the same system call, so the two also wait for each
//! other. They stay behind, empty: removing one would let a third process in.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use xqg_data::error::DataError;

use crate::get::error::GetError;
use crate::get::{Progress, Report};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct WaitLock {
    _file: File,
}

impl WaitLock {
    /// Takes the lock at `path`; where another process has it, says so once and waits.
    ///
    /// # Errors
    ///
    /// Where the lock file cannot be made or locked. A file system that knows no locks is none.
    pub(super) fn take(path: &Path, what: &str, report: Report<'_>) -> Result<Self, GetError> {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(GetError::io)?;
        }
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(DataError::io("creating", path))?;
        let locked = match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                let note = format!("{what}: waiting for another process that fetches it");
                report(Progress::Note(&note));
                file.lock()
            }
            Err(TryLockError::Error(source)) => Err(source),
        };
        match locked {
            Err(source) if source.kind() != ErrorKind::Unsupported => {
                Err(DataError::io("locking", path)(source).into())
            }
            _ => Ok(Self { _file: file }),
        }
    }
}
