//! Fetching a model from the hub into its cache: the list of files first, then each file that is
//! needed, all of one commit, and at the end a look whether it is a whole model.
//!
//! The crate `hf-hub` makes the addresses and asks for the list. It does not bring the files: it
//! would take names on the disk from the hub's answers, unchecked.

use std::path::PathBuf;

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use crate::get::Report;
use crate::get::cache::ModelCache;
use crate::get::download::Downloader;
use crate::get::error::GetError;
use crate::get::folder;
use crate::get::lock::WaitLock;
use crate::get::select;
use crate::get::settings::HubSettings;
use crate::get::snapshot::{Sibling, Snapshot};
use crate::get::verify::ContentHash;

/// The hub's description of a model, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
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
        let failed = |source| GetError::Client { source };
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
        let repo = self.api.repo(self.repo(&listing.sha));
        let downloader = Downloader::new(self.settings);
        let (cache, commit) = (&self.cache, listing.sha.as_str());
        let snapshot = Snapshot { cache, commit, downloader: &downloader, recheck };
        for name in chosen {
            if let Some(file) = listing.siblings.iter().find(|file| file.rfilename == name) {
                snapshot.bring(file, &repo.url(name), report)?;
            }
        }
        let folder = cache.snapshot_of(commit);
        self.check_whole(folder::missing(&folder))?;
        let _alone = WaitLock::take(&cache.lock_path("refs"), self.id, report)?;
        cache.set_ref(self.revision, commit)?;
        Ok(folder)
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
            .timeout_recv_response(Some(self.settings.read_timeout))
            .timeout_recv_body(Some(self.settings.read_timeout))
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

    /// Whether the list promises a model: said before anything large is fetched.
    fn check_enough(&self, chosen: &[&str]) -> Result<(), GetError> {
        let weights = |name: &&str| {
            !name.contains('/') && (name.ends_with(".safetensors") || name.ends_with(".bin"))
        };
        let there = |name: &str| match name {
            folder::WEIGHTS => chosen.iter().any(weights),
            folder::TOKENIZER => folder::TOKENIZERS.iter().any(|name| chosen.contains(name)),
            name => chosen.contains(&name),
        };
        let missing = folder::NEEDED.into_iter().find(|name| !there(name));
        self.check_whole(missing.map(str::to_string))
    }

    fn check_whole(&self, missing: Option<String>) -> Result<(), GetError> {
        let lacks = |expected| GetError::Lacks { name: self.id.to_string(), expected };
        missing.map_or(Ok(()), |missing| Err(lacks(missing)))
    }
}
