//! The snapshot of one commit in the cache, being filled: each file is downloaded beside its
//! place, checked, renamed to its blob, and only then linked, so that what the snapshot leads to
//! was checked, whenever a run ends. Blobs are named by hashes that were checked or computed here.

use std::path::Path;

use serde::Deserialize;

use crate::get::cache::ModelCache;
use crate::get::download::{Downloader, Wanted};
use crate::get::error::GetError;
use crate::get::lock::WaitLock;
use crate::get::verify::{self, ContentHash};
use crate::get::{Progress, Report};

/// One file of the model in the hub's list. Mirrors may leave out everything but the name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sibling {
    /// The file's path in the model, with `/`.
    pub(super) rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

/// What the hub knows of a file that is not in git itself.
#[derive(Debug, Deserialize)]
struct LargeFile {
    sha256: Option<String>,
}

impl Sibling {
    /// The hash of its contents: for a large file git only hashes a pointer.
    fn hash(&self) -> Option<ContentHash> {
        let text = match &self.lfs {
            Some(large) => large.sha256.as_deref(),
            None => self.blob_id.as_deref(),
        };
        text.and_then(ContentHash::parse)
    }

    /// Compares a file on the disk with what is known of this one.
    fn check(&self, hash: Option<&ContentHash>, path: &Path) -> Result<(), GetError> {
        let damaged = |expected: String, found: String| {
            Err(GetError::Damaged { file: self.rfilename.clone(), expected, found })
        };
        let found = fs_err::metadata(path).map_err(GetError::io)?.len();
        if let Some(size) = self.size.filter(|size| *size != found) {
            return damaged(format!("{size} bytes"), format!("{found} bytes"));
        }
        let Some(hash) = hash else { return Ok(()) };
        let found = hash.of_file(path)?;
        if found == hash.text() { Ok(()) } else { damaged(hash.text().to_string(), found) }
    }
}

/// The snapshot of one commit, being filled.
pub(super) struct Snapshot<'a> {
    /// The model's cache.
    pub(super) cache: &'a ModelCache,
    /// The commit; it was checked to be one.
    pub(super) commit: &'a str,
    /// Who brings the files.
    pub(super) downloader: &'a Downloader,
    /// Whether files that are there are hashed again.
    pub(super) recheck: bool,
}

impl Snapshot<'_> {
    /// Makes sure that one file is there and whole.
    ///
    /// # Errors
    ///
    /// Where it cannot be had, is damaged, or cannot be written.
    pub(super) fn bring(
        &self,
        file: &Sibling,
        url: &str,
        report: Report<'_>,
    ) -> Result<(), GetError> {
        let name = file.rfilename.as_str();
        let pointer = self.cache.snapshot_of(self.commit).join(name);
        if !self.recheck && file.check(None, &pointer).is_ok() {
            return Ok(());
        }
        let hash = self.hash(file, url)?;
        let key = match &hash {
            Some(hash) => hash.text().to_string(),
            None => verify::sha256_of(format!("{}/{name}", self.commit).as_bytes()),
        };
        let _alone = WaitLock::take(&self.cache.lock_path(&key), name, report)?;
        if file.check(hash.as_ref(), &pointer).is_ok() {
            return Ok(());
        }
        self.cache.discard(&pointer);
        if hash.as_ref().is_some_and(|hash| self.cache.link_blob(self.commit, name, hash)) {
            return Ok(());
        }
        let part = self.cache.part_path(&key)?;
        let blob = self.obtain(file, (url, hash), &part, report)?;
        self.cache.publish(&part, &blob, self.commit, name)
    }

    /// The hash in the list, or else the one that comes with the file.
    fn hash(&self, file: &Sibling, url: &str) -> Result<Option<ContentHash>, GetError> {
        let failed = |source| GetError::Download { file: file.rfilename.clone(), source };
        match file.hash() {
            None => self.downloader.hash(url).map_err(failed),
            hash => Ok(hash),
        }
    }

    /// Downloads a file to `part` and returns the checked hash of its contents. If the damage may
    /// be in what an earlier run left, the file is fetched anew.
    fn obtain(
        &self,
        file: &Sibling,
        (url, hash): (&str, Option<ContentHash>),
        part: &Path,
        report: Report<'_>,
    ) -> Result<ContentHash, GetError> {
        let continued = part.exists();
        let name = file.rfilename.as_str();
        let wanted = Wanted { name, url, size: file.size, checked: hash.is_some() };
        let mut done = self.download(file, &wanted, (part, hash.as_ref()), report);
        if continued && matches!(done, Err(GetError::Damaged { .. })) {
            done = self.download(file, &wanted, (part, hash.as_ref()), report);
        }
        done?;
        match hash {
            Some(hash) => Ok(hash),
            None => {
                let note = format!("{name}: the hub gives no hash, so it is not checked");
                report(Progress::Note(&note));
                Ok(ContentHash::Sha256(verify::sha256(part)?))
            }
        }
    }

    fn download(
        &self,
        file: &Sibling,
        wanted: &Wanted<'_>,
        (part, hash): (&Path, Option<&ContentHash>),
        report: Report<'_>,
    ) -> Result<(), GetError> {
        let failed = |source| GetError::Download { file: file.rfilename.clone(), source };
        self.downloader.fetch(wanted, part, report).map_err(failed)?;
        file.check(hash, part).inspect_err(|_| {
            // One that cannot be removed is found damaged again.
            let _removed = fs_err::remove_file(part);
        })
    }
}
