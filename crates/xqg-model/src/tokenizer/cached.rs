//! The tables of a tokenizer in a file beside the model, `MODEL/.xqg/`, so that they are built once.
//! The file is only ever a copy of what can be built again: whatever is wrong with it or with its
//! place costs time, never an error.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use memmap2::Mmap;
use xqg_data::error::DataError;
use xqg_data::file::PartialFile;

use super::tables::{Key, Source, Tables};

/// Sources below this size are built faster than a file is worth.
const LEAST_BYTES: u64 = 1 << 20;

/// The tables of a source file: those kept from an earlier run, or newly built ones. `None` where
/// `read` finds that it cannot make any of the source's bytes.
///
/// # Errors
/// When the source cannot be read, or as `read` says.
pub fn open<E>(
    source: &Path,
    read: impl FnOnce(&[u8]) -> Result<Option<Source>, E>,
    failed: impl FnOnce(std::io::Error) -> E,
) -> Result<Opened, E> {
    let key = key_without_hash(source);
    let place = place(source);
    if let Some(tables) = key.and_then(|key| kept(&place, key)) {
        return Ok(Opened::Tables(Box::new(tables)));
    }
    let bytes = fs::read(source).map_err(failed)?;
    let hash = *blake3::Hasher::new().update_rayon(&bytes).finalize().as_bytes();
    let built_key = Key { hash, ..key.unwrap_or_default() };
    let Some(tables) = read(&bytes)?.and_then(|source| Tables::build(&source, built_key)) else {
        return Ok(Opened::Unknown(bytes));
    };
    if key.is_some_and(|key| key.size == bytes.len() as u64 && key.size >= LEAST_BYTES)
        && let Err(error) = keep(&place, &tables)
    {
        log::debug!("keeping the tokenizer's tables: {error}");
    }
    Ok(Opened::Tables(Box::new(tables)))
}

/// What became of a source.
pub enum Opened {
    /// Tables.
    Tables(Box<Tables>),
    /// None, for it is of another kind; these are its bytes.
    Unknown(Vec<u8>),
}

/// `.xqg/NAME.bin` beside the source.
fn place(source: &Path) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default();
    source.with_file_name(".xqg").join(stem).with_extension("bin")
}

/// Size and time of change. None for times that the system does not know.
fn key_without_hash(source: &Path) -> Option<Key> {
    let about = fs::metadata(source).ok()?;
    let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let changed = u64::try_from(changed.as_nanos()).ok()?;
    Some(Key { size: about.len(), changed, hash: [0; 32] })
}

fn kept(place: &Path, key: Key) -> Option<Tables> {
    let file = File::open(place).ok()?;
    // SAFETY: the mapping is read-only and private to the tables. This program replaces the file
    // only by renaming, which leaves a mapping as it was; that nobody else writes into it is asked
    // of the user, as for the weights.
    let map = unsafe { Mmap::map(&file) }.ok()?;
    let tables = Tables::map(map);
    let fits = |tables: &Tables| (tables.key.size, tables.key.changed) == (key.size, key.changed);
    let fitting = tables.filter(fits);
    if fitting.is_none() {
        log::debug!("the tables in {} are of another source or damaged", place.display());
    }
    fitting
}

/// Two programs that begin at once write the same bytes to the same places; until the slower one is
/// done, the checksum keeps others from what the faster one has renamed.
fn keep(place: &Path, tables: &Tables) -> Result<(), DataError> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).map_err(DataError::io("creating", folder))?;
    }
    let mut file = PartialFile::create(place)?;
    file.write_all(tables.bytes()).map_err(DataError::io("writing", place))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::settings::{Settings, Spiece, Words};

    fn source() -> Source {
        let text = Spiece { dummy: true, squeeze: true, escape: true, suffix: false, user: vec![] };
        let settings = Settings {
            words: Words::Spiece(text),
            added: vec![],
            added_normalized: vec![],
            front: vec![1],
            back: vec![2],
            unknown: 0,
            unknown_score: -20.0,
            bytes: vec![],
        };
        let pieces = ["", "▁a", "b", "▁ab"].map(|piece| (piece.to_owned(), -1.5));
        Source { pieces: pieces.to_vec(), charsmap: vec![], settings }
    }

    /// A source file that is large enough to be worth tables of its own.
    fn file(folder: &Path) -> PathBuf {
        let path = folder.join("tokenizer.json");
        fs::write(&path, vec![b'x'; LEAST_BYTES as usize]).unwrap();
        path
    }

    /// Opens the file and says whether its tables had to be built.
    fn open_file(path: &Path) -> (Box<Tables>, bool) {
        let mut built = false;
        let read = |_: &[u8]| {
            built = true;
            Ok::<_, std::io::Error>(Some(source()))
        };
        let Opened::Tables(tables) = open(path, read, |error| error).unwrap() else {
            panic!("the source is known");
        };
        assert_eq!(tables.settings, source().settings);
        assert_eq!(tables.trie().get("▁ab".as_bytes()), Some(3));
        assert_eq!(tables.scores(), [-1.5; 4]);
        assert_eq!(tables.key.hash, *blake3::hash(&fs::read(path).unwrap()).as_bytes());
        (tables, built)
    }

    #[test]
    fn tables_are_built_once_and_again_when_the_source_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        assert!(open_file(&path).1);
        assert!(!open_file(&path).1);
        fs::write(&path, vec![b'y'; LEAST_BYTES as usize + 1]).unwrap();
        assert!(open_file(&path).1);
        assert!(!open_file(&path).1);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_built_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        open_file(&path);
        let place = place(&path);
        let good = fs::read(&place).unwrap();
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            bytes
        };
        let mut bad: Vec<Vec<u8>> = (0..good.len()).step_by(97).map(flipped).collect();
        bad.extend((0..200).step_by(8).map(flipped));
        bad.extend([0, 1, 7, 8, 100, good.len() - 1].map(|length| good[..length].to_vec()));
        bad.push([good.clone(), vec![0; 8]].concat());
        bad.push(vec![0; good.len()]);
        for bytes in bad {
            fs::write(&place, bytes).unwrap();
            assert!(open_file(&path).1);
            assert!(fs::read(&place).unwrap() == good, "and kept anew");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        fs::write(folder.path().join(".xqg"), "in the way").unwrap();
        assert!(open_file(&path).1);
        assert!(open_file(&path).1);
    }

    #[test]
    fn a_small_source_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, "small").unwrap();
        assert!(open_file(&path).1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
