//! The token states of every source, computed once by the frozen encoder and kept in files of half
//! precision. A file holds some hundred sources and is named by a hash of them and of the encoder, so
//! a run that was killed goes on, and another run over the same sources computes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use xqg_data::embeddings::Side;
use xqg_data::error::DataError;
use xqg_data::file::{remove, write_whole};
use xqg_data::map::MappedFile;
use xqg_kernel::dropout::Key;
use xqg_model::encoder::Encoder;

use crate::error::TrainError;

/// Sources of one file.
const AT_ONCE: usize = 512;

const MAGIC: &[u8; 8] = b"xqgstat1";

/// The states of a task's sources.
#[derive(Debug)]
pub struct Memories {
    hidden: usize,
    files: Vec<File>,
    /// Sources that were cut to the encoder's greatest length.
    pub truncated: usize,
}

#[derive(Debug)]
struct File {
    map: MappedFile,
    /// Where each source begins, in rows; and where the last ends.
    starts: Vec<usize>,
    /// Bytes before the first row.
    head: usize,
}

impl Memories {
    /// Opens the states of some sources, and computes those that are not there; tells how many are.
    ///
    /// # Errors
    /// When the encoder refuses a text, or the disk refuses.
    pub fn open(
        encoder: &Encoder,
        (side, sources): (Side, &[String]),
        folder: &Path,
        tell: &mut dyn FnMut(usize),
    ) -> Result<Self, TrainError> {
        fs::create_dir_all(folder).map_err(DataError::io("creating", folder))?;
        let hidden = encoder.hidden_size();
        let (mut files, mut truncated, mut done) = (Vec::new(), 0, 0);
        for part in sources.chunks(AT_ONCE) {
            let path = folder.join(name(encoder, side, part));
            let mut file = File::open(&path, part.len(), hidden)?;
            if file.is_none() {
                remove(&path)?;
                write(&path, encoder, (side, part))?;
                file = File::open(&path, part.len(), hidden)?;
            }
            let Some((file, cut)) = file else { return Err(damaged(&path)) };
            files.push(file);
            truncated += cut;
            done += part.len();
            tell(done);
        }
        Ok(Self { hidden, files, truncated })
    }

    /// Adds the states of a source to `rows`; a `key` leaves out the tokens that it draws.
    pub fn read(&self, source: usize, drop: Option<(Key, f32)>, rows: &mut Vec<f32>) {
        let (file, place) = (&self.files[source / AT_ONCE], source % AT_ONCE);
        let (start, end) = (file.starts[place], file.starts[place + 1]);
        let numbers = file.numbers(start * self.hidden, end * self.hidden);
        let limit = |share: f32| (f64::from(share) * u64::MAX as f64) as u64;
        for (i, row) in numbers.chunks_exact(self.hidden).enumerate() {
            // The first token stays, so that something does.
            let left_out =
                |(key, share): (Key, f32)| i > 0 && key.part(i as u64).number() < limit(share);
            if !drop.is_some_and(left_out) {
                let at = rows.len();
                rows.resize(at + self.hidden, 0.0);
                row.convert_to_f32_slice(&mut rows[at..]);
            }
        }
    }
}

impl File {
    /// A file that holds so many sources, with the number of those that were cut; `None` where it is
    /// missing or not whole.
    fn open(path: &Path, count: usize, hidden: usize) -> Result<Option<(Self, usize)>, DataError> {
        if !path.exists() {
            return Ok(None);
        }
        let map = MappedFile::open(path)?;
        let bytes = map.bytes();
        let head = (8 + 4 * (count + 1)).next_multiple_of(16);
        if bytes.len() < head || &bytes[..8] != MAGIC {
            return Ok(None);
        }
        let number = |i: usize| {
            let at = 8 + 4 * i;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        };
        let truncated = number(0);
        let mut starts = vec![0];
        (1..=count).for_each(|i| starts.push(starts[i - 1] + number(i)));
        let whole = bytes.len() == head + starts[count] * hidden * 2;
        Ok(whole.then_some((Self { map, starts, head }, truncated)))
    }

    fn numbers(&self, from: usize, to: usize) -> Vec<f16> {
        let bytes = &self.map.bytes()[self.head + from * 2..self.head + to * 2];
        bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()
    }
}

fn write(
    path: &Path,
    encoder: &Encoder,
    (side, part): (Side, &[String]),
) -> Result<(), TrainError> {
    let found = encoder.states(side, part)?;
    let mut bytes = MAGIC.to_vec();
    let lengths = found.lengths.iter().map(|&n| n as u32);
    for number in std::iter::once(found.truncated as u32).chain(lengths) {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes.extend(found.states.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()));
    Ok(write_whole(path, &bytes)?)
}

/// The name of a file: what its states follow from.
fn name(encoder: &Encoder, side: Side, part: &[String]) -> PathBuf {
    let contract = encoder.contract();
    let mut text = format!("{contract:?} {side:?}");
    text.push_str(&contract.precision);
    for source in part {
        text.push('\0');
        text.push_str(source);
    }
    PathBuf::from(format!("{}.states", &blake3::hash(text.as_bytes()).to_hex()[..24]))
}

fn damaged(path: &Path) -> TrainError {
    TrainError::Unexpected {
        path: path.to_path_buf(),
        expected: "the states that were just written".into(),
        found: "something else".into(),
        hint: "see whether the disk is full, then start again",
    }
}
