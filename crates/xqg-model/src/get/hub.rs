//! Fetching a model from the hub into its cache: the list of files first, then each file that is
//! needed, continued where an earlier run stopped, and checked against the hash in the list.
//!
//! The crate `hf-hub` does the requests, the locks and the links of the cache; what it leaves
//! out is done here: which files, one commit for all of them, time-outs, retries, and hashes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use crate::get::cache::ModelCache;
use crate::get::error::GetError;
use crate::get::select;
use crate::get::settings::HubSettings;
use crate::get::verify::ContentHash;
use crate::get::{Progress, Report};

/// How long the hub may take to answer with its list of files.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause before a cut download is continued.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// The hub's description of a model, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

/// One file of the model. Mirrors may leave out everything but the name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
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
}

/// One model on the hub.
pub(super) struct Hub<'a> {
    settings: &'a HubSettings,
    id: &'a str,
    revision: &'a str,
    cache: ModelCache,
    api: Api,
}

impl<'a> Hub<'a> {
    /// Makes the client; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// Where the client cannot be made.
    pub(super) fn new(
        settings: &'a HubSettings,
        id: &'a str,
        revision: &'a str,
    ) -> Result<Self, GetError> {
        let mut builder = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_token(settings.token.clone())
            .with_progress(false);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let failed = |source| GetError::Download { file: id.to_string(), source };
        let api = builder.build().map_err(failed)?;
        let cache = ModelCache::new(&settings.cache, id);
        Ok(Self { settings, id, revision, cache, api })
    }

    /// Brings the cached snapshot up to date and returns its folder. With `recheck`, files that
    /// are already there are hashed again.
    ///
    /// # Errors
    ///
    /// [`GetError::Unreachable`] where the hub does not answer at all, others as they come.
    pub(super) fn fetch(&self, recheck: bool, report: Report<'_>) -> Result<PathBuf, GetError> {
        let listing = self.listing()?;
        let names: Vec<&str> =
            listing.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let chosen = select::choose(&names);
        self.check_enough(&chosen)?;
        let repo = self.repo(&listing.sha);
        let download = Snapshot { hub: self, commit: &listing.sha, repo: self.api.repo(repo) };
        for name in chosen {
            if let Some(file) = listing.siblings.iter().find(|file| file.rfilename == name) {
                download.bring(file, recheck, report)?;
            }
        }
        self.cache.set_ref(self.revision, &listing.sha)?;
        Ok(self.cache.snapshot_of(&listing.sha))
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.to_string(), RepoType::Model, revision.to_string())
    }

    /// Asks for the model's files with their sizes and hashes.
    fn listing(&self) -> Result<Listing, GetError> {
        let request = self.api.repo(self.repo(self.revision)).info_request().query("blobs", "true");
        let request = request
            .config()
            .timeout_resolve(Some(self.settings.connect_timeout))
            .timeout_connect(Some(self.settings.connect_timeout))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_recv_body(Some(ANSWER_TIMEOUT))
            .build();
        let mut answer = request.call().map_err(|source| self.refused(source))?;
        let listing = answer.body_mut().read_json::<Listing>();
        let name = || self.id.to_string();
        let listing =
            listing.map_err(|source| GetError::Listing { name: name(), source: source.into() })?;
        match ContentHash::parse(&listing.sha) {
            Some(ContentHash::GitBlob(_)) => Ok(listing),
            _ => {
                Err(GetError::ListingField { name: name(), expected: "commit", found: listing.sha })
            }
        }
    }

    /// What an unsuccessful answer means.
    fn refused(&self, source: ureq::Error) -> GetError {
        let name = self.id.to_string();
        match source {
            ureq::Error::StatusCode(status @ (401 | 403)) => GetError::Refused { name, status },
            ureq::Error::StatusCode(404) => {
                GetError::NotFound { name, revision: self.revision.to_string() }
            }
            source => GetError::Unreachable { name, source: Box::new(source) },
        }
    }

    fn check_enough(&self, chosen: &[&str]) -> Result<(), GetError> {
        let lacks = |expected| GetError::Lacks { name: self.id.to_string(), expected };
        let weights = |name: &&str| {
            !name.contains('/') && (name.ends_with(".safetensors") || name.ends_with(".bin"))
        };
        if !chosen.contains(&"config.json") {
            return Err(lacks("config.json"));
        }
        if !chosen.iter().any(weights) {
            return Err(lacks("model.safetensors or pytorch_model.bin"));
        }
        Ok(())
    }
}

/// The snapshot of one commit, being filled.
struct Snapshot<'a> {
    hub: &'a Hub<'a>,
    commit: &'a str,
    repo: ApiRepo,
}

impl Snapshot<'_> {
    /// Makes sure that one file is there and whole.
    fn bring(&self, file: &Sibling, recheck: bool, report: Report<'_>) -> Result<(), GetError> {
        let name = file.rfilename.as_str();
        let pointer = self.hub.cache.snapshot_of(self.commit).join(name);
        let hash = file.hash();
        if let Ok(found) = fs_err::metadata(&pointer) {
            let same_size = file.size.is_none_or(|size| size == found.len());
            if same_size && (!recheck || check(file, hash.as_ref(), &pointer).is_ok()) {
                return Ok(());
            }
            discard(&pointer);
        } else if hash.is_some_and(|hash| self.hub.cache.link_blob(self.commit, name, &hash)) {
            return Ok(());
        }
        self.hub.cache.drop_finished_part(file.size, file.hash().as_ref());
        let pointer = self.download(name, report)?;
        let hash = file.hash().or_else(|| etag_hash(&pointer));
        if hash.is_none() {
            report(Progress::Note(&format!("{name}: the hub gives no hash, so it is not checked")));
        }
        check(file, hash.as_ref(), &pointer).inspect_err(|_| discard(&pointer))
    }

    /// Downloads one file, and continues it when the connection breaks.
    fn download(&self, name: &str, report: Report<'_>) -> Result<PathBuf, GetError> {
        let mut tries = 0;
        loop {
            let meter = Meter { name, done: 0, total: 0, report };
            match self.repo.download_with_progress(name, meter) {
                Ok(pointer) => return Ok(pointer),
                Err(source) if tries >= self.hub.settings.retries || !is_transient(&source) => {
                    return Err(GetError::Download { file: name.to_string(), source });
                }
                Err(_) => std::thread::sleep(RETRY_PAUSE),
            }
            tries += 1;
        }
    }
}

/// Whether trying again can help.
fn is_transient(error: &ApiError) -> bool {
    match error {
        ApiError::RequestError(error) => {
            !matches!(**error, ureq::Error::StatusCode(status) if status < 500)
        }
        ApiError::IoError(error) => matches!(
            error.kind(),
            std::io::ErrorKind::UnexpectedEof
                | std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::ConnectionAborted
                | std::io::ErrorKind::TimedOut
                | std::io::ErrorKind::Other
        ),
        _ => false,
    }
}

/// Compares a file with what the list says.
fn check(file: &Sibling, hash: Option<&ContentHash>, path: &Path) -> Result<(), GetError> {
    let damaged = |expected: String, found: String| {
        Err(GetError::Damaged { file: file.rfilename.clone(), expected, found })
    };
    let found = fs_err::metadata(path).map_err(GetError::io)?.len();
    if let Some(size) = file.size.filter(|size| *size != found) {
        return damaged(format!("{size} bytes"), format!("{found} bytes"));
    }
    let Some(hash) = hash else { return Ok(()) };
    let found = hash.of_file(path)?;
    if found == hash.text() { Ok(()) } else { damaged(hash.text().to_string(), found) }
}

/// The hash that the download named the blob by.
fn etag_hash(pointer: &Path) -> Option<ContentHash> {
    let blob = fs_err::canonicalize(pointer).ok()?;
    ContentHash::parse(blob.file_name()?.to_str()?)
}

/// Removes a damaged file: the blob and the link to it.
fn discard(pointer: &Path) {
    // If one of them cannot be removed, the next check finds it damaged again.
    if let Ok(blob) = fs_err::canonicalize(pointer) {
        let _removed = fs_err::remove_file(blob);
    }
    let _removed = fs_err::remove_file(pointer);
}

/// Passes a download's progress on.
struct Meter<'a, 'b> {
    name: &'a str,
    done: u64,
    total: u64,
    report: &'a mut (dyn FnMut(Progress<'_>) + 'b),
}

impl Meter<'_, '_> {
    fn tell(&mut self) {
        (self.report)(Progress::File { name: self.name, done: self.done, total: self.total });
    }
}

impl hf_hub::api::Progress for Meter<'_, '_> {
    fn init(&mut self, size: usize, _name: &str) {
        self.total = size as u64;
        self.done = 0;
        self.tell();
    }

    fn update(&mut self, size: usize) {
        self.done = self.done.saturating_add(size as u64);
        self.tell();
    }

    fn finish(&mut self) {}
}
