//! The weights of a Hugging Face model folder, found by name: safetensors files and PyTorch's
//! `.bin` files, whole or sharded. Files are memory-mapped and nothing is copied until a tensor
//! is asked for, which then comes as f32 of a checked shape. Which names a model needs is the
//! encoder's business; downloading is [`crate::get`]'s.
//!
//! A `.bin` file contains a pickle, which Python would run as a program. Here it is not run: a
//! restricted reader follows only what a dictionary of tensors needs and refuses the rest.

mod element;
mod error;
mod pickle;
mod safetensors;
mod shards;
mod tensor;
mod torch_bin;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

pub use error::CheckpointError;
pub use pickle::PickleError;
use tensor::{Layout, Place, Storage, Tensor};

use crate::buffer::Buffer;
use crate::checkpoint::element::Element;

/// The weight files of a model folder without opening them: one file, or an index and its
/// shards, all of which are there.
///
/// # Errors
///
/// Where there are none, the index is damaged, or a shard is missing.
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let first = shards::find(folder)?;
    let mut files = vec![first.clone()];
    if shards::is_index(&first) {
        let contents = fs_err::read(&first).map_err(|source| CheckpointError::Io { source })?;
        files.extend(shards::read_index(&contents, &first)?.shards);
    }
    Ok(files)
}

/// What a git-lfs pointer file begins with.
const LFS_MAGIC: &[u8] = b"version https://git-lfs";

/// An open checkpoint: the names, shapes and places of its tensors over mapped files.
///
/// The files must not be changed while it is open.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<PathBuf>,
    maps: Vec<Arc<Mmap>>,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Opens the weights of a model folder: the first that is there of `model.safetensors`,
    /// `model.safetensors.index.json`, `pytorch_model.bin`, `pytorch_model.bin.index.json`.
    ///
    /// # Errors
    ///
    /// Where none is there, or the one that is there is damaged or of a format that is not read.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        Self::open_file(&shards::find(folder)?)
    }

    /// Opens one weight file, or one index and its shards. A name that ends with `.safetensors`
    /// is read as that format, one that ends with `.index.json` as an index, any other as
    /// PyTorch's zip format.
    ///
    /// # Errors
    ///
    /// Where the file, or a shard, is missing, damaged or of a format that is not read.
    pub fn open_file(path: &Path) -> Result<Self, CheckpointError> {
        let mut checkpoint = Self { files: vec![], maps: vec![], tensors: BTreeMap::new() };
        if shards::is_index(path) {
            checkpoint.add_index(path)?;
        } else {
            let tensors = checkpoint.add_weights(path)?;
            checkpoint.tensors.extend(tensors);
        }
        Ok(checkpoint)
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The axes of the tensor of that name (empty for a scalar), whatever its element type.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Reads a tensor of f32, f16, bf16 or f64 as f32, in row-major order.
    ///
    /// # Errors
    ///
    /// Where there is no such tensor, its shape is not `expected_shape`, its elements are
    /// integers, or one of them is not finite.
    pub fn tensor(
        &self,
        name: &str,
        expected_shape: &[usize],
    ) -> Result<Vec<f32>, CheckpointError> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        let (name, path) = (name.to_string(), self.path(tensor.file));
        if tensor.shape != expected_shape {
            let (expected, found) = (expected_shape.to_vec(), tensor.shape.clone());
            return Err(CheckpointError::Shape { name, path, expected, found });
        }
        if tensor.element.bytes().is_none() {
            let found = tensor.element.name().to_string();
            return Err(CheckpointError::NotFloat { name, path, found });
        }
        let values = self.values(&name, tensor)?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let value = values[index];
                Err(CheckpointError::NotFinite { name, path, index, value })
            }
            None => Ok(values),
        }
    }

    /// Reads a matrix as [`Checkpoint::tensor`] does, or one of 8-bit whole numbers with a scale for
    /// each row beside it: `NAME.scale`.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::tensor`].
    pub(crate) fn matrix(
        &self,
        name: &str,
        (rows, columns): (usize, usize),
    ) -> Result<Vec<f32>, CheckpointError> {
        let shape = [rows, columns];
        let whole = self.tensors.get(name).filter(|t| t.element == Element::Other("i8"));
        let Some(tensor) = whole.filter(|t| t.shape == shape) else {
            return self.tensor(name, &shape);
        };
        let bytes = self.plain_bytes(tensor).filter(|b| b.len() == rows * columns);
        let values: &[i8] = bytemuck::cast_slice(bytes.ok_or_else(|| self.missing(name))?);
        let scales = self.tensor(&format!("{name}.scale"), &[rows])?;
        let rows = values.chunks_exact(columns.max(1)).zip(scales);
        Ok(rows.flat_map(|(row, scale)| row.iter().map(move |&v| f32::from(v) * scale)).collect())
    }

    /// Reads a list of u32.
    ///
    /// # Errors
    ///
    /// Where there is no such tensor, or it holds other elements or has other axes.
    pub(crate) fn whole_numbers(&self, name: &str) -> Result<Vec<u32>, CheckpointError> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        if tensor.element != Element::Other("u32") || tensor.shape.len() != 1 {
            let (path, found) = (self.path(tensor.file), tensor.element.name().to_owned());
            return Err(CheckpointError::NotWhole { name: name.to_owned(), path, found });
        }
        let bytes = self.plain_bytes(tensor).ok_or_else(|| self.missing(name))?;
        Ok(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)).collect())
    }

    /// The bytes of a tensor whose elements follow each other.
    fn plain_bytes(&self, tensor: &Tensor) -> Option<&[u8]> {
        match &tensor.place {
            Place::Plain(range) => self.bytes(tensor.file).get(range.clone()),
            _ => None,
        }
    }

    /// A tensor of f32 where it lies in its file, unread and so unchecked for NaN: for callers that
    /// know the file. `None` where it lies otherwise, or has another shape.
    pub(crate) fn mapped(&self, name: &str, expected_shape: &[usize]) -> Option<Buffer<f32>> {
        let tensor = self.tensors.get(name).filter(|t| t.shape == expected_shape)?;
        let map = self.maps.get(tensor.file)?;
        let found = match (&tensor.place, tensor.element) {
            (Place::Plain(range), Element::F32) if cfg!(target_endian = "little") => {
                Buffer::mapped(map, range.clone())?
            }
            _ => return None,
        };
        (found.len() == expected_shape.iter().product::<usize>()).then_some(found)
    }

    /// The files that were mapped: the index of a sharded checkpoint first, then the weight
    /// files sorted by name. Their contents determine every tensor.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// BLAKE3 over the contents of [`Checkpoint::files`] one after the other, as 64 hex digits;
    /// for a single file that is what `b3sum` prints.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for map in &self.maps {
            hasher.update_rayon(map);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Maps an index and every shard it names, and takes each tensor from its shard.
    fn add_index(&mut self, path: &Path) -> Result<(), CheckpointError> {
        let file = self.map(path)?;
        let map = shards::read_index(self.bytes(file), path)?;
        let mut held = Vec::with_capacity(map.shards.len());
        for shard in &map.shards {
            let tensors = self.add_weights(shard)?;
            held.push(tensors.into_iter().collect::<BTreeMap<_, _>>());
        }
        for (name, shard) in map.tensors {
            let tensor = held.get_mut(shard).and_then(|tensors| tensors.remove(&name));
            let Some(tensor) = tensor else {
                let shard = map.shards.get(shard).cloned().unwrap_or_default();
                return Err(CheckpointError::NotInShard { shard, name });
            };
            self.tensors.insert(name, tensor);
        }
        Ok(())
    }

    /// Maps a weight file and lists its tensors.
    fn add_weights(&mut self, path: &Path) -> Result<Vec<(String, Tensor)>, CheckpointError> {
        let file = self.map(path)?;
        let bytes = self.bytes(file);
        if bytes.starts_with(LFS_MAGIC) {
            return Err(CheckpointError::LfsPointer { path: path.to_path_buf() });
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            safetensors::tensors(bytes, path, file)
        } else {
            torch_bin::tensors(bytes, path, file)
        }
    }

    /// Maps a file and returns its number.
    fn map(&mut self, path: &Path) -> Result<usize, CheckpointError> {
        let failed = |source| CheckpointError::Io { source };
        let file = fs_err::File::open(path).map_err(failed)?;
        // SAFETY: the mapping is read-only and private to this struct. That nobody changes the
        // file meanwhile is asked of the caller in the docs of `Checkpoint`; downloads of this
        // program replace files by renaming, which leaves a mapping as it was.
        let map = unsafe { Mmap::map(&file) };
        let named = |error: io::Error| {
            failed(io::Error::new(error.kind(), format!("mapping {}: {error}", path.display())))
        };
        let map = map.map_err(named)?;
        self.files.push(path.to_path_buf());
        self.maps.push(Arc::new(map));
        Ok(self.maps.len() - 1)
    }

    fn bytes(&self, file: usize) -> &[u8] {
        self.maps.get(file).map(|map| &map[..]).unwrap_or_default()
    }

    fn path(&self, file: usize) -> PathBuf {
        self.files.get(file).cloned().unwrap_or_default()
    }

    fn missing(&self, name: &str) -> CheckpointError {
        let (name, path) = (name.to_string(), self.path(0));
        CheckpointError::Missing { name, path, count: self.tensors.len() }
    }

    /// The elements of a tensor of floats in row-major order.
    fn values(&self, name: &str, tensor: &Tensor) -> Result<Vec<f32>, CheckpointError> {
        let bytes = self.bytes(tensor.file);
        let found = match &tensor.place {
            Place::Plain(range) => {
                bytes.get(range.clone()).map(|bytes| tensor.element.decode(bytes))
            }
            Place::Strided(Storage::Mapped(range), layout) => {
                bytes.get(range.clone()).and_then(|bytes| gather(bytes, tensor, layout))
            }
            Place::Strided(Storage::Deflated(index), layout) => {
                let wanted = wanted_bytes(tensor, layout);
                let inflated = torch_bin::inflate(bytes, *index, wanted, &self.path(tensor.file))?;
                gather(&inflated, tensor, layout)
            }
            Place::Unread => None,
        };
        let outside = || CheckpointError::Strides {
            path: self.path(tensor.file),
            name: name.to_string(),
            elements: bytes.len() / tensor.element.bytes().unwrap_or(1),
        };
        found.ok_or_else(outside)
    }
}

/// How many bytes of its storage a tensor reaches into.
fn wanted_bytes(tensor: &Tensor, layout: &Layout) -> usize {
    let width = tensor.element.bytes().unwrap_or_default();
    layout.end(&tensor.shape, usize::MAX).unwrap_or_default().saturating_mul(width)
}

/// Picks a tensor's elements out of the bytes of its storage.
fn gather(storage: &[u8], tensor: &Tensor, layout: &Layout) -> Option<Vec<f32>> {
    layout.gather(&tensor.shape, &tensor.element.decode(storage))
}
