//! The one error type of this crate. Messages have one form: what was done, where, what was
//! expected, what was found, and, where there is a way out, a line that begins with `hint:`.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// How many bad lines an error shows before it only counts them.
pub const SHOWN_PROBLEMS: usize = 20;

/// What a line should have held, and what it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What a correct line has at this place.
    pub expected: String,
    /// What stood there, shortened.
    pub found: String,
}

impl Mismatch {
    /// A mismatch of two descriptions.
    pub fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { expected: expected.into(), found: found.into() }
    }
}

/// One bad line of an input file; `line` counts from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The line's number, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub mismatch: Mismatch,
}

/// Everything that can go wrong between a file and a noun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused: a missing file, no permission, a full disk.
    #[error("{doing} {path}: {source}{}", io_hint(source))]
    Io {
        /// The action as a participle, for example `reading`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Lines that do not hold what they must; at most [`SHOWN_PROBLEMS`] are listed.
    #[error("{}", render_bad_lines(path, shown, *total, hint))]
    BadLines {
        /// The input file.
        path: PathBuf,
        /// The first bad lines.
        shown: Vec<BadLine>,
        /// How many bad lines the file has.
        total: usize,
        /// The way out.
        hint: &'static str,
    },
    /// A file as a whole is not what it must be.
    #[error("reading {path}: expected {expected}, found {found}{}", hint_line(hint))]
    Unexpected {
        /// The file or folder.
        path: PathBuf,
        /// What a correct file holds.
        expected: String,
        /// What it holds.
        found: String,
        /// The way out; empty where there is none to name.
        hint: &'static str,
    },
    /// An output is there already and must not be lost by accident.
    #[error(
        "writing {path}: expected a new path, found an existing one\nhint: --force replaces it"
    )]
    Exists {
        /// The path that exists.
        path: PathBuf,
    },
    /// Two artefacts were made by different encoders.
    #[error("{what}: expected the same encoder contract, found another\n{difference}hint: {hint}")]
    OtherContract {
        /// Which two things were to be used together.
        what: String,
        /// Both contracts, field by field.
        difference: String,
        /// The way out.
        hint: &'static str,
    },
}

impl DataError {
    /// A closure for `map_err` that adds the action and the path to an I/O error.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// An [`Unexpected`](Self::Unexpected) error without a hint.
    pub fn unexpected(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self::Unexpected { path: path.to_path_buf(), expected, found, hint: "" }
    }
}

/// The `hint:` line, or nothing for an empty hint.
fn hint_line(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("\nhint: {hint}") }
}

fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "\nhint: check the path; nothing was written",
        io::ErrorKind::PermissionDenied => {
            "\nhint: check the permissions of the file and its folder"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: free some space and run the same command again; what is finished is kept"
        }
        io::ErrorKind::UnexpectedEof => "\nhint: the file is cut short; get the whole file",
        io::ErrorKind::ReadOnlyFilesystem => "\nhint: write to a place that is not read-only",
        _ => "",
    }
}

fn render_bad_lines(path: &Path, shown: &[BadLine], total: usize, hint: &str) -> String {
    let mut text = String::new();
    for (i, bad) in shown.iter().enumerate() {
        let (line, m) = (bad.line, &bad.mismatch);
        let start = if i == 0 { "" } else { "\n" };
        let _ = write!(
            text,
            "{start}reading {}: line {line}: expected {}, found {}",
            path.display(),
            m.expected,
            m.found
        );
    }
    if total > shown.len() {
        let _ = write!(text, "\nand {} more bad lines", total - shown.len());
    }
    text + &hint_line(hint)
}

/// A piece of input for a message: one line, at most 60 characters, in backquotes.
pub fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(60).map(printable).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

fn printable(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_are_listed_with_numbers_and_a_count_of_the_rest() {
        let bad = |line| BadLine { line, mismatch: Mismatch::new("an object", "`x`") };
        let error = DataError::BadLines {
            path: "c.jsonl".into(),
            shown: vec![bad(3), bad(9)],
            total: 5,
            hint: "mend it",
        };
        assert_eq!(
            error.to_string(),
            "reading c.jsonl: line 3: expected an object, found `x`\n\
             reading c.jsonl: line 9: expected an object, found `x`\n\
             and 3 more bad lines\nhint: mend it"
        );
    }

    #[test]
    fn quotes_are_short_and_on_one_line() {
        assert_eq!(quote("a\nb\0"), "`a\u{fffd}b\u{fffd}`");
        assert_eq!(quote(&"x".repeat(80)).chars().count(), 63);
    }
}
