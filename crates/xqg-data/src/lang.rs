//! A reader's language: an ISO 639 code that is checked once, at the border, and its English name
//! for prompts and tables. Regional subtags are dropped: `zh-Hans` is `zh`, as data sets mix both.

use std::fmt;
use std::str::FromStr;

use isolang::Language;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Mismatch, quote};

/// A language by its shortest ISO 639 code (two letters where there are two).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lang(Language);

impl Lang {
    /// The code as it is written in files: `ar`, `te`, `yue`.
    pub fn code(&self) -> &'static str {
        self.0.to_639_1().unwrap_or(self.0.to_639_3())
    }

    /// The English name, as a generator's prompt wants it: `Arabic`, `Telugu`; without what ISO 639
    /// adds to tell a language from its ancestors or its varieties.
    pub fn name(&self) -> &'static str {
        let name = self.0.to_name();
        let bare = name.split_once(" (").map_or(name, |(bare, _)| bare);
        bare.strip_prefix("Modern ").unwrap_or(bare)
    }
}

impl FromStr for Lang {
    type Err = Mismatch;

    /// Reads a code; white space around it is ignored, for some public files have it.
    fn from_str(text: &str) -> Result<Self, Mismatch> {
        let code = text.trim().split(['-', '_']).next().unwrap_or("").to_ascii_lowercase();
        let found = Language::from_639_1(&code).or_else(|| Language::from_639_3(&code));
        found.map(Self).ok_or_else(|| Mismatch::new("an ISO 639 language code", quote(text)))
    }
}

impl Ord for Lang {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.code().cmp(other.code())
    }
}

impl PartialOrd for Lang {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl Serialize for Lang {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Lang {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|m: Mismatch| {
            serde::de::Error::custom(format!("expected {}, found {}", m.expected, m.found))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_trimmed_shortened_and_named() {
        for (text, code, name) in [
            (" te", "te", "Telugu"),
            ("zh-Hans", "zh", "Chinese"),
            ("FIN", "fi", "Finnish"),
            ("sw", "sw", "Swahili"),
            ("el", "el", "Greek"),
        ] {
            let lang: Lang = text.parse().unwrap();
            assert_eq!((lang.code(), lang.name()), (code, name));
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in ["", "xx", "english", "12", "e"] {
            assert!(text.parse::<Lang>().is_err(), "{text} must not pass");
        }
    }
}
