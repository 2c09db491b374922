//! PyTorch's own checkpoint file (`pytorch_model.bin`, PyTorch 1.6 and later): a zip archive of
//! one pickle, which describes the tensors, and one record per storage. Records are normally
//! stored uncompressed and are then read in place from the mapped file.
//!
//! Nothing in the file is executed, see [`crate::checkpoint::pickle`]. The older format, a bare
//! pickle, is refused.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::ops::Range;
use std::path::Path;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::pickle::{self, PickledTensor};
use crate::checkpoint::tensor::{Place, Storage, Tensor};

/// The first bytes of a zip archive's first entry.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// The first byte of a bare pickle: the PROTO opcode.
const PICKLE_MAGIC: u8 = 0x80;
/// Bytes that a compressed record may unfold to. Torch never compresses, so only archives that
/// someone packed again come here.
const MAX_INFLATED: u64 = 1 << 32;

/// Lists the tensors of a mapped file; `file` is its number in the checkpoint.
///
/// # Errors
///
/// Where the file is of the old format, or archive, pickle and records do not fit together.
pub(super) fn tensors(
    bytes: &[u8],
    path: &Path,
    file: usize,
) -> Result<Vec<(String, Tensor)>, CheckpointError> {
    if !bytes.starts_with(ZIP_MAGIC) && bytes.first() == Some(&PICKLE_MAGIC) {
        return Err(CheckpointError::LegacyTorch { path: path.to_path_buf() });
    }
    let mut archive = Archive::open(bytes, path)?;
    archive.check_byte_order()?;
    let pickled = pickle::read_tensors(&archive.read("data.pkl", pickle::MAX_PICKLE_BYTES)?);
    let pickled =
        pickled.map_err(|source| CheckpointError::Pickle { path: path.to_path_buf(), source })?;
    let placed = pickled.into_iter().map(|(name, tensor)| {
        let tensor = archive.place(&name, tensor, file)?;
        Ok((name, tensor))
    });
    placed.collect()
}

/// Unfolds the first `wanted` bytes of compressed record number `index` of the archive in
/// `bytes`; fewer where the record, or the limit of 4 GiB, ends before.
///
/// # Errors
///
/// Where the archive is damaged.
pub(super) fn inflate(
    bytes: &[u8],
    index: usize,
    wanted: usize,
    path: &Path,
) -> Result<Vec<u8>, CheckpointError> {
    let failed = |source| CheckpointError::Zip { path: path.to_path_buf(), source };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(failed)?;
    let mut record = archive.by_index(index).map_err(failed)?;
    let mut inflated = Vec::new();
    let read = record.by_ref().take(MAX_INFLATED.min(wanted as u64)).read_to_end(&mut inflated);
    read.map_err(|source| failed(ZipError::Io(source)))?;
    Ok(inflated)
}

/// An open archive and the folder name that torch puts before every record.
struct Archive<'a> {
    length: usize,
    zip: ZipArchive<Cursor<&'a [u8]>>,
    prefix: String,
    path: &'a Path,
    storages: BTreeMap<String, (Storage, u64)>,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8], path: &'a Path) -> Result<Self, CheckpointError> {
        let failed = |source| CheckpointError::Zip { path: path.to_path_buf(), source };
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(failed)?;
        let mut names = zip.file_names().filter_map(Result::ok);
        let prefix = names.find_map(|name| name.strip_suffix("data.pkl").map(str::to_string));
        let prefix = prefix.filter(|prefix| prefix.is_empty() || prefix.ends_with('/'));
        drop(names);
        let found = prefix.is_some();
        let prefix = prefix.unwrap_or_default();
        let archive = Self { length: bytes.len(), zip, prefix, path, storages: BTreeMap::new() };
        if !found {
            return Err(archive.record_error("data.pkl", "a pickle of the tensors", "none"));
        }
        Ok(archive)
    }

    fn record_error(&self, record: &str, expected: &str, found: &str) -> CheckpointError {
        CheckpointError::Record {
            path: self.path.to_path_buf(),
            record: record.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// Newer files say in which byte order they were written; older ones are little-endian.
    fn check_byte_order(&mut self) -> Result<(), CheckpointError> {
        if self.zip.index_for_name(&format!("{}byteorder", self.prefix)).is_none() {
            return Ok(());
        }
        let found = self.read("byteorder", 16)?;
        match found.as_slice() {
            b"little" => Ok(()),
            _ => Err(self.record_error("byteorder", "little", &String::from_utf8_lossy(&found))),
        }
    }

    /// The contents of a small record of at most `limit` bytes.
    fn read(&mut self, record: &str, limit: usize) -> Result<Vec<u8>, CheckpointError> {
        let failed = |source| CheckpointError::Zip { path: self.path.to_path_buf(), source };
        let entry = self.zip.by_name(&format!("{}{record}", self.prefix)).map_err(failed)?;
        let mut contents = Vec::new();
        let read = entry.take(limit as u64 + 1).read_to_end(&mut contents);
        read.map_err(|source| failed(ZipError::Io(source)))?;
        if contents.len() > limit {
            return Err(self.record_error(record, &format!("at most {limit} bytes"), "more"));
        }
        Ok(contents)
    }

    /// Turns a tensor of the pickle into an entry of the checkpoint, with all bounds checked.
    fn place(
        &mut self,
        name: &str,
        pickled: PickledTensor,
        file: usize,
    ) -> Result<Tensor, CheckpointError> {
        let PickledTensor { storage, shape, layout } = pickled;
        let element = storage.element;
        let Some(width) = element.bytes() else {
            return Ok(Tensor { shape, element, file, place: Place::Unread });
        };
        let (lies, found) = self.storage(&storage.key)?;
        let wanted = storage.elements.checked_mul(width);
        if wanted.is_none_or(|wanted| found < wanted as u64) {
            let expected = format!("{} elements of {}", storage.elements, element.name());
            let found = format!("{found} bytes");
            return Err(self.record_error(&format!("data/{}", storage.key), &expected, &found));
        }
        let elements = storage.elements;
        if layout.end(&shape, elements).is_none_or(|end| end > elements) {
            let (path, name) = (self.path.to_path_buf(), name.to_string());
            return Err(CheckpointError::Strides { path, name, elements });
        }
        let lies = truncate(lies, elements.saturating_mul(width));
        let place = match plain(&lies, layout.offset, &shape, width) {
            Some(range) if layout.is_row_major(&shape) => Place::Plain(range),
            _ => Place::Strided(lies, layout),
        };
        Ok(Tensor { shape, element, file, place })
    }

    /// Where the storage of that key lies and how many bytes it has, looked up once per key.
    fn storage(&mut self, key: &str) -> Result<(Storage, u64), CheckpointError> {
        if let Some(known) = self.storages.get(key) {
            return Ok(known.clone());
        }
        let record = format!("data/{key}");
        let index = self.zip.index_for_name(&format!("{}{record}", self.prefix));
        let missing = || self.record_error(&record, "the elements of a tensor", "no such record");
        let index = index.ok_or_else(missing)?;
        let found = self.locate(index, &record)?;
        self.storages.insert(key.to_string(), found.clone());
        Ok(found)
    }

    fn locate(&mut self, index: usize, record: &str) -> Result<(Storage, u64), CheckpointError> {
        let failed = |source| CheckpointError::Zip { path: self.path.to_path_buf(), source };
        let entry = self.zip.by_index_raw(index).map_err(failed)?;
        let (size, packed, method) = (entry.size(), entry.compressed_size(), entry.compression());
        let start = entry.data_start();
        drop(entry);
        match method {
            CompressionMethod::Stored => {
                let range = start.and_then(|start| self.range(start, packed));
                let outside = || self.record_error(record, "a place inside the file", "another");
                Ok((Storage::Mapped(range.ok_or_else(outside)?), packed))
            }
            CompressionMethod::Deflated => Ok((Storage::Deflated(index), size)),
            _ => Err(self.record_error(record, "stored or deflated bytes", "another method")),
        }
    }

    /// A byte range of the file; `None` where it is not wholly inside.
    fn range(&self, start: u64, length: u64) -> Option<Range<usize>> {
        let end = usize::try_from(start.checked_add(length)?).ok()?;
        let inside = end <= self.length;
        inside.then_some(usize::try_from(start).ok()?..end)
    }
}

/// Cuts the padding off a storage that is longer than the pickle says.
fn truncate(storage: Storage, bytes: usize) -> Storage {
    match storage {
        Storage::Mapped(range) => {
            Storage::Mapped(range.start..range.end.min(range.start.saturating_add(bytes)))
        }
        deflated => deflated,
    }
}

/// The bytes of a row-major tensor that lies in place; `None` where it is compressed.
fn plain(storage: &Storage, offset: usize, shape: &[usize], width: usize) -> Option<Range<usize>> {
    let Storage::Mapped(range) = storage else {
        return None;
    };
    let start = range.start.checked_add(offset.checked_mul(width)?)?;
    let length = crate::checkpoint::tensor::count(shape)?.checked_mul(width)?;
    Some(start..start.checked_add(length)?)
}
