//! Laid-out weights on disk, beside the model: `MODEL/.xqg/PRECISION-SET.safetensors`. Packing and
//! quantising half a gigabyte takes longer than a search, so it is done once; later runs map the file
//! and use it where it lies. It is a cache: where it does not fit the model's files, cannot be read
//! or cannot be written, the weights come from the model's own files as before.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytemuck::{AnyBitPattern, NoUninit};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};

use crate::buffer::Buffer;

/// Changes whenever the layout of panels or the meaning of an array does.
const VERSION: &str = "1";
const FOLDER: &str = ".xqg";

/// What a file of laid-out weights was made from; a file with another one is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Names, lengths and times of the model's files, hashed.
    pub fingerprint: String,
    /// Where the laid-out weights lie.
    pub path: PathBuf,
}

impl Origin {
    /// The origin for a model folder's files under a name of precision and instruction set; `None`
    /// where the system does not tell a file's time.
    pub fn of(folder: &Path, files: &[PathBuf], name: &str) -> Option<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(VERSION.as_bytes());
        for file in files {
            let about = std::fs::metadata(file).ok()?;
            let time = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let line = format!("{name} {} {}\n", about.len(), time.as_nanos());
            hasher.update(line.as_bytes());
        }
        let fingerprint = hasher.finalize().to_hex().to_string();
        let path = folder.join(FOLDER).join(format!("{name}.safetensors"));
        Some(Self { fingerprint, path })
    }
}

/// An array to be written.
#[derive(Debug)]
pub(crate) struct Array<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Array<'a> {
    /// Numbers of one axis.
    pub fn new<T: NoUninit>(dtype: Dtype, numbers: &'a [T]) -> Self {
        let bytes = Cow::Borrowed(bytemuck::cast_slice(numbers));
        Self { dtype, shape: vec![numbers.len()], bytes }
    }
}

impl View for &Array<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes laid-out weights, whole or not at all.
///
/// # Errors
/// When the place cannot be written.
pub(crate) fn write(
    origin: &Origin,
    hash: &str,
    arrays: &BTreeMap<String, Array>,
) -> std::io::Result<()> {
    let folder = origin.path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let said = [("origin", origin.fingerprint.as_str()), ("weights", hash)];
    let said: HashMap<String, String> =
        said.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let bytes = safetensors::serialize(arrays, Some(said)).map_err(std::io::Error::other)?;
    // A name of its own for each writer: two programs may open the same model for the first time.
    let mut named = tempfile::Builder::new();
    // As any file that a program writes; tempfile's own default is for secrets.
    #[cfg(unix)]
    named.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = named.tempfile_in(folder)?;
    file.write_all(&bytes)?;
    file.as_file().sync_all()?;
    file.persist(&origin.path)?;
    Ok(())
}

/// A mapped file of laid-out weights.
#[derive(Debug)]
pub(crate) struct PackedFile {
    map: Arc<Mmap>,
    /// The place and type of each array.
    arrays: BTreeMap<String, (Dtype, std::ops::Range<usize>)>,
    /// The hash of the weights that it was made from.
    pub hash: String,
}

impl PackedFile {
    /// Opens the file of an origin; `None` where there is none that fits.
    pub fn open(origin: &Origin) -> Option<Self> {
        let file = fs_err::File::open(&origin.path).ok()?;
        // SAFETY: the mapping is read-only; this program replaces such files by renaming, which
        // leaves a mapping as it was, and any bits are valid numbers.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let (header, about) = SafeTensors::read_metadata(&map).ok()?;
        let said = about.metadata().as_ref()?;
        if said.get("origin") != Some(&origin.fingerprint) {
            return None;
        }
        let start = header + size_of::<u64>();
        let place = |name: String| {
            let info = about.info(&name)?;
            let (from, to) = info.data_offsets;
            Some((name, (info.dtype, start + from..start + to)))
        };
        let arrays = about.offset_keys().into_iter().map(place).collect::<Option<_>>()?;
        let hash = said.get("weights")?.clone();
        Some(Self { map: Arc::new(map), arrays, hash })
    }

    /// An array of a type and length; `None` where there is no such.
    pub fn array<T: AnyBitPattern>(
        &self,
        name: &str,
        dtype: Dtype,
        length: usize,
    ) -> Option<Buffer<T>> {
        let (found, bytes) = self.arrays.get(name)?;
        let numbers = Buffer::mapped(&self.map, bytes.clone())?;
        (*found == dtype && numbers.len() == length).then_some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_mapped_and_another_origin_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model.safetensors");
        std::fs::write(&source, "weights").unwrap();
        let files = [source.clone()];
        let origin = Origin::of(folder.path(), &files, "int8-avx2").unwrap();
        assert!(PackedFile::open(&origin).is_none());
        let (values, scales) = ([1i8, -2, 3], [0.5f32, 0.25]);
        let arrays = BTreeMap::from([
            ("a.values".to_owned(), Array::new(Dtype::I8, &values)),
            ("a.scales".to_owned(), Array::new(Dtype::F32, &scales)),
        ]);
        write(&origin, "abc", &arrays).unwrap();
        let packed = PackedFile::open(&origin).unwrap();
        assert_eq!(packed.hash, "abc");
        assert_eq!(*packed.array::<i8>("a.values", Dtype::I8, 3).unwrap(), values);
        assert_eq!(*packed.array::<f32>("a.scales", Dtype::F32, 2).unwrap(), scales);
        assert!(packed.array::<f32>("a.scales", Dtype::F32, 3).is_none());
        assert!(packed.array::<f32>("a.values", Dtype::F32, 3).is_none());

        std::fs::write(&source, "other weights").unwrap();
        let changed = Origin::of(folder.path(), &files, "int8-avx2").unwrap();
        assert!(PackedFile::open(&changed).is_none());
        let damaged = std::fs::read(&origin.path).unwrap();
        std::fs::write(&origin.path, &damaged[..damaged.len() - 1]).unwrap();
        assert!(PackedFile::open(&origin).is_none());
    }
}
