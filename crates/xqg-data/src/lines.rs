//! Lines of a text file, plain or `.gz`, each checked (UTF-8, no NUL, not endless) and handed to a
//! parser. Bad lines fail the reading at the end of the file, all counted and the first twenty
//! listed; or, where the caller chose so, they are skipped, counted and listed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::error::{BadLine, DataError, Mismatch, SHOWN_PROBLEMS, quote};

/// The longest line that is read; a longer one is a bad line.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// The longest text of one passage or query, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

const HINT: &str = "mend these lines; encode and index can leave them out with --skip-bad";

/// What to do with a line that does not hold what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadLines {
    /// Hand out nothing after the first, read on to count them all, then fail.
    #[default]
    Stop,
    /// Leave them out; count and list them.
    Skip,
}

/// The bad lines that were left out of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many lines were left out.
    pub total: usize,
    /// The first of them, at most [`SHOWN_PROBLEMS`].
    pub shown: Vec<BadLine>,
}

impl Skipped {
    fn push(&mut self, line: u64, mismatch: Mismatch) {
        self.total += 1;
        if self.shown.len() < SHOWN_PROBLEMS {
            self.shown.push(BadLine { line, mismatch });
        }
    }
}

/// The parser of one line: the text without its line end, to a noun or to what is wrong with it.
pub type ParseLine<T> = Box<dyn FnMut(&str) -> Result<T, Mismatch> + Send>;

/// A file of nouns, one a line; blank lines are passed over.
pub struct LineFile<T> {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    parse: ParseLine<T>,
    policy: BadLines,
    line: u64,
    bad: Skipped,
    checked_outside: bool,
    done: bool,
    buffer: Vec<u8>,
}

impl<T> LineFile<T> {
    /// Opens a file; a name that ends in `.gz` is decompressed on the way.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, policy: BadLines, parse: ParseLine<T>) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("reading", path))?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(DataError::unexpected(path, "a file", "a folder"));
        }
        let gz = path.extension().is_some_and(|e| e == "gz");
        let reader: Box<dyn BufRead + Send> = if gz {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::new(file))))
        } else {
            Box::new(BufReader::with_capacity(1 << 16, file))
        };
        Ok(Self {
            path: path.to_path_buf(),
            reader,
            parse,
            policy,
            line: 0,
            bad: Skipped::default(),
            checked_outside: false,
            done: false,
            buffer: Vec::new(),
        })
    }

    /// Hands out good lines even after bad ones, for a caller that checks more than a line can
    /// tell and [`reject`](Self::reject)s: so one reading finds the bad lines of both kinds.
    #[must_use]
    pub fn checked_outside(mut self) -> Self {
        self.checked_outside = true;
        self
    }

    /// The bad lines left out so far.
    pub fn skipped(&self) -> &Skipped {
        &self.bad
    }

    /// Counts the line that was read last as bad, though it parsed: for checks that need more than
    /// the line. Where the policy is to stop, the file's end is then an error.
    pub fn reject(&mut self, mismatch: Mismatch) {
        self.bad.push(self.line, mismatch);
    }

    /// The error over all the bad lines met, if the policy is to stop and there were any.
    fn finish(&mut self) -> Result<(), DataError> {
        if self.policy == BadLines::Skip || self.bad.total == 0 {
            return Ok(());
        }
        let Skipped { total, shown } = std::mem::take(&mut self.bad);
        Err(DataError::BadLines { path: self.path.clone(), shown, total, hint: HINT })
    }

    /// Reads the next line into the buffer; `None` at the end of the file.
    fn read_line(&mut self) -> Result<Option<Result<(), Mismatch>>, DataError> {
        self.buffer.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let mut part = (&mut self.reader).take(limit);
        let n = part
            .read_until(b'\n', &mut self.buffer)
            .map_err(DataError::io("reading", &self.path))?;
        if n == 0 {
            return Ok(None);
        }
        self.line += 1;
        if n as u64 == limit && self.buffer.last() != Some(&b'\n') {
            self.skip_to_line_end()?;
            let expected = format!("a line of at most {} MiB", MAX_LINE_BYTES >> 20);
            return Ok(Some(Err(Mismatch::new(expected, "a longer one"))));
        }
        Ok(Some(Ok(())))
    }

    fn skip_to_line_end(&mut self) -> Result<(), DataError> {
        self.reader.skip_until(b'\n').map_err(DataError::io("reading", &self.path))?;
        Ok(())
    }

    /// The next noun; `None` for a blank line.
    fn parse_buffer(&mut self) -> Result<Option<T>, Mismatch> {
        let text = checked_text(&self.buffer)?;
        let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        if text.trim().is_empty() {
            return Ok(None);
        }
        (self.parse)(text.trim_end_matches(['\n', '\r'])).map(Some)
    }

    fn step(&mut self) -> Result<Option<T>, DataError> {
        let all = self.policy == BadLines::Skip || self.checked_outside;
        while let Some(read) = self.read_line()? {
            match read.and_then(|()| self.parse_buffer()) {
                Ok(Some(noun)) if all || self.bad.total == 0 => return Ok(Some(noun)),
                Ok(_) => {}
                Err(mismatch) => self.reject(mismatch),
            }
        }
        self.finish()?;
        Ok(None)
    }
}

impl<T> Iterator for LineFile<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.step().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

fn checked_text(bytes: &[u8]) -> Result<&str, Mismatch> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Mismatch::new("UTF-8 text", format!("an invalid byte at column {}", e.valid_up_to() + 1))
    })?;
    match bytes.iter().position(|&b| b == 0) {
        Some(at) => Err(Mismatch::new("text", format!("a NUL byte at column {}", at + 1))),
        None => Ok(text),
    }
}

/// Reads one line as a JSON object.
///
/// # Errors
/// When it is no JSON, or JSON but no object.
pub fn json_object(line: &str) -> Result<Value, Mismatch> {
    let value: Value = serde_json::from_str(line)
        .map_err(|e| Mismatch::new("a JSON object", format!("{e}: {}", quote(line))))?;
    if value.is_object() { Ok(value) } else { Err(Mismatch::new("a JSON object", quote(line))) }
}

/// An identifier field: a string without white space, or a whole number.
///
/// # Errors
/// When the field is missing, empty or holds white space (a TREC run could not carry it).
pub fn id_field(object: &Value, key: &str) -> Result<String, Mismatch> {
    let expected = || format!("`{key}`, a string without white space");
    let id = match object.get(key) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => n.to_string(),
        Some(other) => return Err(Mismatch::new(expected(), quote(&other.to_string()))),
        None => return Err(Mismatch::new(expected(), format!("no `{key}`"))),
    };
    if id.is_empty() || id.contains(|c: char| c.is_whitespace() || c == '\0') {
        return Err(Mismatch::new(expected(), quote(&id)));
    }
    Ok(id)
}

/// A text field of at most [`MAX_TEXT_BYTES`]; absent or null is `None`.
///
/// # Errors
/// When it is no string, holds a NUL or is too long.
pub fn text_field(object: &Value, key: &str) -> Result<Option<String>, Mismatch> {
    let text = match object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(s)) => s,
        Some(other) => {
            return Err(Mismatch::new(format!("`{key}`, a string"), quote(&other.to_string())));
        }
    };
    if text.contains('\0') {
        return Err(Mismatch::new(format!("`{key}` as text"), "a NUL character in it"));
    }
    if text.len() > MAX_TEXT_BYTES {
        let found = format!("{:.1} MB", text.len() as f64 / 1e6);
        return Err(Mismatch::new(format!("`{key}` of at most 1 MiB"), found));
    }
    Ok(Some(text.clone()))
}

/// A set of identifiers that remembers 16 bytes for each: two ids with one 128-bit hash are taken
/// for equal, which among 18 million has a chance below 1e-24.
#[derive(Debug, Default)]
pub struct SeenIds(std::collections::HashSet<u128>);

impl SeenIds {
    /// Adds an id.
    ///
    /// # Errors
    /// When it was there before.
    pub fn insert(&mut self, key: &str, id: &str) -> Result<(), Mismatch> {
        if self.0.insert(xxhash_rust::xxh3::xxh3_128(id.as_bytes())) {
            return Ok(());
        }
        Err(Mismatch::new(format!("a `{key}` of its own"), format!("{} again", quote(id))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn open(bytes: &[u8], policy: BadLines) -> (tempfile::TempDir, LineFile<Value>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let file = LineFile::open(&path, policy, Box::new(json_object)).unwrap();
        (folder, file)
    }

    #[test]
    fn bad_lines_are_collected_before_the_reading_stops() {
        let (_f, file) = open(b"{}\n[1]\n{\xff}\n{\"a\":\n\n{}\0\n", BadLines::Stop);
        let results: Vec<_> = file.collect();
        assert_eq!(results.len(), 2);
        let text = results[1].as_ref().unwrap_err().to_string();
        for line in ["line 2", "line 3", "line 4", "line 6", "hint: "] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn skipped_lines_are_counted_and_listed() {
        let (_f, mut file) = open(b"{}\n[1]\n{}\nnope\n", BadLines::Skip);
        assert_eq!(file.by_ref().filter(Result::is_ok).count(), 2);
        assert_eq!(file.skipped().total, 2);
        assert_eq!(file.skipped().shown[1].line, 4);
    }

    #[test]
    fn gzip_of_several_members_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl.gz");
        let mut bytes = Vec::new();
        for part in ["{}\n", "{\"a\":1}\n"] {
            let mut gz = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::fast());
            gz.write_all(part.as_bytes()).unwrap();
            gz.finish().unwrap();
        }
        std::fs::write(&path, &bytes).unwrap();
        let file = LineFile::open(&path, BadLines::Stop, Box::new(json_object)).unwrap();
        assert_eq!(file.filter(Result::is_ok).count(), 2);
        std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        let file = LineFile::open(&path, BadLines::Stop, Box::new(json_object)).unwrap();
        assert!(file.last().unwrap().is_err(), "a cut archive must not pass");
    }

    #[test]
    fn fields_are_checked() {
        let value = json_object(r#"{"id":12,"a":"x y","t":5,"big":null}"#).unwrap();
        assert_eq!(id_field(&value, "id").unwrap(), "12");
        assert!(id_field(&value, "a").is_err() && id_field(&value, "none").is_err());
        assert!(text_field(&value, "t").is_err());
        assert_eq!(text_field(&value, "big").unwrap(), None);
    }
}
