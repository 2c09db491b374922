//! Words out: results to standard output, everything else to standard error. The only file of the
//! project that prints, so that a library never does.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use xqg_data::lines::Skipped;

/// Prints a line of the result.
///
/// # Errors
/// When standard output is closed; a broken pipe ends the program quietly.
pub fn line(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("writing to standard output")
}

/// Tells the person at the terminal something that is not the result.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Warns: printed like a note, and marked.
pub fn warn(text: impl Display) {
    note(format_args!("{} {text}", paint("warning:", "33")));
}

/// Prints an error and its causes, unless the error says them itself.
pub fn error(error: &anyhow::Error) {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    note(format_args!("{} {text}", paint("error:", "31")));
}

/// Whether the reader of a pipe has gone: nobody is left to tell.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|e| e.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Bold text, where standard output is a terminal with colours.
pub fn bold(text: &str) -> String {
    if io::stdout().is_terminal() && colours() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn paint(text: &str, colour: &str) -> String {
    if io::stderr().is_terminal() && colours() {
        format!("\x1b[1;{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Reports the lines of a file that were left out.
pub fn skipped(path: &Path, skipped: &Skipped) {
    if skipped.total == 0 {
        return;
    }
    warn(format_args!("{} bad lines of {} were left out", skipped.total, path.display()));
    for bad in &skipped.shown {
        let (line, m) = (bad.line, &bad.mismatch);
        note(format_args!("  line {line}: expected {}, found {}", m.expected, m.found));
    }
}

/// Reports texts that were cut to the encoder's greatest length.
pub fn truncated(texts: u64, of: u64) {
    if texts > 0 {
        let part = 100.0 * texts as f64 / of.max(1) as f64;
        warn(format_args!(
            "{texts} of {of} texts ({part:.1} %) were longer than the encoder reads and were cut"
        ));
    }
}
