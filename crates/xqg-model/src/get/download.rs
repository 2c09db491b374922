//! One file from the hub into a file of ours: continued where an earlier try stopped, tried again
//! when the connection breaks or falls silent, and never longer than promised. No name on the
//! disk comes from an answer of the hub; whether the contents are right is checked by the caller.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use fs_err::File;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::http::header::{CONTENT_RANGE, ETAG};
use ureq::{Agent, Body};

use crate::get::settings::HubSettings;
use crate::get::verify::ContentHash;
use crate::get::{Progress, Report};

/// Pause before a cut download is continued.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// Bytes read at once.
const BUFFER: usize = 1 << 17;

/// How often an answer may lead elsewhere.
const REDIRECTS: u32 = 10;

/// The range that asks for as little as possible.
const ONE_BYTE: &str = "bytes=0-0";

/// What the hub is told of who asks.
const USER_AGENT: &str = concat!("xqg/", env!("CARGO_PKG_VERSION"));

/// Why a file did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// No answer came, or one that says no.
    #[error("{source}")]
    Request {
        /// What the HTTP client met.
        source: Box<ureq::Error>,
    },
    /// The contents ended early or stopped coming.
    #[error("the connection broke at byte {at}: {source}")]
    Broken {
        /// Bytes that are there.
        at: u64,
        /// What the HTTP client met.
        source: std::io::Error,
    },
    /// An answer that is neither the whole file nor the part that was asked for.
    #[error("asking for the file from byte {from} on: expected {expected}, found {found}")]
    Answer {
        /// The first byte that was asked for.
        from: u64,
        /// What should have come.
        expected: String,
        /// What came.
        found: String,
    },
    /// What arrived could not be written.
    #[error("{source}")]
    Disk {
        /// What the system said; its words name the file.
        source: std::io::Error,
    },
}

impl DownloadError {
    fn request(source: ureq::Error) -> Self {
        Self::Request { source: Box::new(source) }
    }

    fn disk(source: std::io::Error) -> Self {
        Self::Disk { source }
    }

    fn answer(from: u64, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Answer { from, expected: expected.into(), found: found.into() }
    }

    /// Whether trying again can help.
    fn is_transient(&self) -> bool {
        match self {
            Self::Request { source } => {
                !matches!(**source, ureq::Error::StatusCode(status) if status < 500)
            }
            Self::Broken { .. } => true,
            Self::Answer { .. } | Self::Disk { .. } => false,
        }
    }
}

/// A file that is to be fetched.
pub(super) struct Wanted<'a> {
    /// Its path in the model, for reports.
    pub(super) name: &'a str,
    /// Where it is.
    pub(super) url: &'a str,
    /// Its length, if the list of files has it.
    pub(super) size: Option<u64>,
    /// Whether its contents can be checked. If not, at least its length must be known.
    pub(super) checked: bool,
}

/// The client that asks for files.
#[derive(Debug)]
pub(super) struct Downloader {
    agent: Agent,
    authorization: Option<String>,
    retries: u32,
}

impl Downloader {
    /// Makes the client; nothing is asked yet.
    pub(super) fn new(settings: &HubSettings) -> Self {
        let config = Agent::config_builder()
            .user_agent(USER_AGENT)
            // A compressed answer could not be continued.
            .accept_encoding("identity")
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_send_request(Some(settings.read_timeout))
            .timeout_recv_response(Some(settings.read_timeout))
            .timeout_per_read(Some(settings.read_timeout))
            .build();
        let authorization = settings.token.as_ref().map(|token| format!("Bearer {token}"));
        Self { agent: config.new_agent(), authorization, retries: settings.retries }
    }

    /// The hash that the hub sends along with a file, for mirrors whose list has none.
    ///
    /// # Errors
    ///
    /// Where no answer comes.
    pub(super) fn hash(&self, url: &str) -> Result<Option<ContentHash>, DownloadError> {
        let first = self.ask(url, Some(ONE_BYTE), 0).map_err(DownloadError::request)?;
        let etag = match header(&first, "x-linked-etag") {
            Some(etag) => Some(etag),
            None if first.status().is_redirection() => {
                // The file's own etag comes with the file.
                let last = self.ask(url, Some(ONE_BYTE), REDIRECTS);
                header(&last.map_err(DownloadError::request)?, ETAG.as_str())
            }
            None => header(&first, ETAG.as_str()),
        };
        Ok(etag.and_then(|etag| ContentHash::parse(etag.trim_matches('"'))))
    }

    /// Brings the file `part` to its full length, whatever of it is there.
    ///
    /// # Errors
    ///
    /// See [`DownloadError`]; what has arrived stays in `part`.
    pub(super) fn fetch(
        &self,
        wanted: &Wanted<'_>,
        part: &Path,
        report: Report<'_>,
    ) -> Result<(), DownloadError> {
        let mut tries = 0;
        loop {
            match self.attempt(wanted, part, report) {
                Err(error) if tries < self.retries && error.is_transient() => {
                    tries += 1;
                    std::thread::sleep(RETRY_PAUSE);
                }
                done => return done,
            }
        }
    }

    fn attempt(
        &self,
        wanted: &Wanted<'_>,
        part: &Path,
        report: Report<'_>,
    ) -> Result<(), DownloadError> {
        let mut options = fs_err::OpenOptions::new();
        let file = options.create(true).append(true).open(part).map_err(DownloadError::disk)?;
        let found = file.metadata().map_err(DownloadError::disk)?.len();
        if found > 0 && wanted.size == Some(found) {
            return Ok(());
        }
        let from = if wanted.size.is_some_and(|size| found > size) { 0 } else { found };
        let answer = self.open(wanted.url, from)?;
        let (at, total) = placed(&answer, from)?;
        let total = agreed(wanted, at, total)?;
        if at < found {
            file.set_len(at).map_err(DownloadError::disk)?;
        }
        let mut incoming = Incoming { file, name: wanted.name, at, total, report };
        incoming.take(answer)
    }

    /// Asks for the file from a byte on, or for all of it if there is nothing from there on.
    fn open(&self, url: &str, from: u64) -> Result<Response<Body>, DownloadError> {
        const NOTHING_THERE: u16 = 416;
        let range = (from > 0).then(|| format!("bytes={from}-"));
        match self.ask(url, range.as_deref(), REDIRECTS) {
            Err(ureq::Error::StatusCode(NOTHING_THERE)) if from > 0 => {
                self.ask(url, None, REDIRECTS)
            }
            asked => asked,
        }
        .map_err(DownloadError::request)
    }

    fn ask(
        &self,
        url: &str,
        range: Option<&str>,
        redirects: u32,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.config().max_redirects(redirects).build().call()
    }
}

fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    Some(answer.headers().get(name)?.to_str().ok()?.to_string())
}

/// Where in the file the answer begins, and how long the file is. A hub that cannot continue
/// sends all of it.
fn placed(answer: &Response<Body>, from: u64) -> Result<(u64, Option<u64>), DownloadError> {
    match answer.status().as_u16() {
        200 => Ok((0, answer.body().content_length())),
        206 => {
            let range = header(answer, CONTENT_RANGE.as_str()).unwrap_or_default();
            let expected = format!("bytes {from}-");
            let total = range.strip_prefix(&expected).and_then(|rest| rest.rsplit_once('/'));
            let (_, total) = total.ok_or_else(|| DownloadError::answer(from, expected, &range))?;
            Ok((from, total.parse().ok()))
        }
        status => Err(DownloadError::answer(from, "status 200 or 206", status.to_string())),
    }
}

/// The file's length, on which the list and the answer must agree.
fn agreed(wanted: &Wanted<'_>, at: u64, total: Option<u64>) -> Result<Option<u64>, DownloadError> {
    match (wanted.size, total) {
        (Some(size), Some(total)) if size != total => {
            Err(DownloadError::answer(at, format!("{size} bytes in all"), total.to_string()))
        }
        (None, None) if !wanted.checked => {
            Err(DownloadError::answer(at, "a length or a hash", "neither"))
        }
        (size, total) => Ok(size.or(total)),
    }
}

/// A file that is arriving.
struct Incoming<'a, 'b> {
    file: File,
    name: &'a str,
    at: u64,
    total: Option<u64>,
    report: &'a mut (dyn FnMut(Progress<'_>) + 'b),
}

impl Incoming<'_, '_> {
    /// Writes the contents of an answer to the file.
    fn take(&mut self, answer: Response<Body>) -> Result<(), DownloadError> {
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        self.tell();
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return self.check_end(),
                Ok(length) => self.put(buffer.get(..length).unwrap_or_default())?,
                Err(source) if source.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(DownloadError::Broken { at: self.at, source }),
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        let end = self.at.saturating_add(bytes.len() as u64);
        if let Some(total) = self.total.filter(|total| end > *total) {
            return Err(DownloadError::answer(self.at, format!("{total} bytes in all"), "more"));
        }
        self.file.write_all(bytes).map_err(DownloadError::disk)?;
        self.at = end;
        self.tell();
        Ok(())
    }

    fn check_end(&self) -> Result<(), DownloadError> {
        match self.total {
            Some(total) if self.at < total => {
                let source = std::io::Error::from(ErrorKind::UnexpectedEof);
                Err(DownloadError::Broken { at: self.at, source })
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self) {
        let total = self.total.unwrap_or(0);
        (self.report)(Progress::File { name: self.name, done: self.at, total });
    }
}
