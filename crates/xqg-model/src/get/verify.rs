//! Content hashes as the hub gives them: SHA-256 for large files, git's blob hash (SHA-1 over a
//! short header and the contents) for the rest. A file's etag is one of the two.

use std::io::Read as _;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::get::error::GetError;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// The hash that a file must have, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContentHash {
    /// SHA-256 of the contents.
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the contents.
    GitBlob(String),
}

impl ContentHash {
    /// Recognises a hash by its length; `None` where the text is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match text.len() {
            64 if hex => Some(Self::Sha256(text.to_string())),
            40 if hex => Some(Self::GitBlob(text.to_string())),
            _ => None,
        }
    }

    /// The hash as text, which is also the file's name in the cache.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitBlob(text) => text,
        }
    }

    /// The same kind of hash over the file's contents.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read.
    pub(super) fn of_file(&self, path: &Path) -> Result<String, GetError> {
        match self {
            Self::Sha256(_) => digest(path, Sha256::new()),
            Self::GitBlob(_) => {
                let length = fs_err::metadata(path).map_err(GetError::io)?.len();
                digest(path, Sha1::new_with_prefix(format!("blob {length}\0")))
            }
        }
    }
}

/// SHA-256 of a file, in hex.
///
/// # Errors
///
/// Where the file cannot be read.
pub(super) fn sha256(path: &Path) -> Result<String, GetError> {
    digest(path, Sha256::new())
}

/// SHA-256 of bytes, in hex.
pub(super) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds a file to a hasher and returns the result in hex.
fn digest(path: &Path, mut hasher: impl sha2::Digest) -> Result<String, GetError> {
    let mut file = fs_err::File::open(path).map_err(GetError::io)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = file.read(&mut buffer).map_err(GetError::io)?;
        match buffer.get(..length) {
            Some(read) if !read.is_empty() => hasher.update(read),
            _ => break,
        }
    }
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_git_hash_object() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for hash in [sha256, git] {
            assert_eq!(ContentHash::parse(hash).unwrap().of_file(&path).unwrap(), hash);
        }
    }

    #[test]
    fn other_etags_are_no_hashes() {
        for text in ["", "W/\"abc\"", &"g".repeat(40), &"A".repeat(64), &"a".repeat(41)] {
            assert_eq!(ContentHash::parse(text), None);
        }
    }
}
