//! The errors of reading weights: each names the file and, where there is one, the tensor, and
//! says what stood there. Nothing here is recoverable by guessing, so nothing is guessed.

use std::io;
use std::path::PathBuf;

use crate::checkpoint::pickle::PickleError;

/// Why weights could not be read from a file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The folder holds none of the four weight files that are looked for.
    #[error(
        "opening checkpoint: {}: expected model.safetensors or pytorch_model.bin (or either one's \
         .index.json), found none of them\nhint: TensorFlow, Flax and ONNX weights are not read; \
         `xqg model get` downloads a readable copy", folder.display()
    )]
    NoWeights {
        /// The folder that was searched.
        folder: PathBuf,
    },
    /// The operating system refused to open or map a file.
    #[error("reading weights: {source}")]
    Io {
        /// What the system said, with the file's path.
        source: io::Error,
    },
    /// The file is the text pointer that git leaves where a large file was not downloaded.
    #[error(
        "reading weights: {}: expected tensors, found a git-lfs pointer\n\
         hint: run `git lfs pull` in that folder, or download the file again", path.display()
    )]
    LfsPointer {
        /// The pointer file.
        path: PathBuf,
    },
    /// A safetensors file whose header does not fit its contents: cut short, overlapping
    /// offsets, broken JSON.
    #[error(
        "reading safetensors header: {}: {source}\nhint: the file is damaged or was cut short; \
         download it again", path.display()
    )]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the safetensors reader found.
        source: safetensors::SafeTensorError,
    },
    /// The index of a sharded checkpoint is not the JSON it must be.
    #[error("reading shard index: {}: {source}", path.display())]
    Index {
        /// The `.index.json` file.
        path: PathBuf,
        /// What the JSON reader found.
        source: serde_json::Error,
    },
    /// The index names a shard by a path; only a plain file name in the same folder is followed.
    #[error(
        "reading shard index: {}: expected plain file names, found `{shard}`", path.display()
    )]
    ShardName {
        /// The `.index.json` file.
        path: PathBuf,
        /// The name it gives.
        shard: String,
    },
    /// The index names a shard that is not on the disk.
    #[error(
        "opening shard: {}: expected the file, found none\nhint: {} names it; the download is \
         incomplete", shard.display(), index.display()
    )]
    ShardMissing {
        /// The `.index.json` file.
        index: PathBuf,
        /// The file that should be beside it.
        shard: PathBuf,
    },
    /// The index promises a tensor that its shard does not hold.
    #[error(
        "reading shard: {}: expected tensor `{name}`, found no tensor of that name", shard.display()
    )]
    NotInShard {
        /// The shard.
        shard: PathBuf,
        /// The tensor's name in the index.
        name: String,
    },
    /// A `.bin` file written by PyTorch before 1.6, which was not yet a zip archive.
    #[error(
        "reading torch checkpoint: {}: legacy pre-1.6 format is not supported\nhint: load it in \
         PyTorch and save it again, best as safetensors", path.display()
    )]
    LegacyTorch {
        /// The file.
        path: PathBuf,
    },
    /// A list of token ids is stored as something else.
    #[error(
        "reading tensor `{name}` of {}: expected one axis of u32, found {found} or another shape",
        path.display()
    )]
    NotWhole {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// The type of its elements.
        found: String,
    },
    /// The zip container of a torch file is damaged.
    #[error("reading torch checkpoint: {}: {source}", path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// What the zip reader found.
        source: zip::result::ZipError,
    },
    /// A record inside the zip container is missing, too short or too large.
    #[error(
        "reading torch checkpoint: {}: record `{record}`: expected {expected}, found {found}",
        path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// The record's name in the archive, without the archive's own prefix.
        record: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The pickle that lists the tensors is damaged or asks for something that is not a tensor.
    #[error("reading torch checkpoint: {}: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What the pickle reader refused.
        source: PickleError,
    },
    /// The strides of a tensor lead outside its storage.
    #[error(
        "reading torch checkpoint: {}: tensor `{name}`: expected strides that stay inside a \
         storage of {elements} elements, found ones that leave it", path.display()
    )]
    Strides {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// How many elements its storage has.
        elements: usize,
    },
    /// No tensor of the wanted name is in the checkpoint.
    #[error(
        "reading tensor `{name}`: {}: expected it among the weights, found {count} tensors of \
         other names", path.display()
    )]
    Missing {
        /// The name that was asked for.
        name: String,
        /// The weight file, or the index of a sharded checkpoint.
        path: PathBuf,
        /// How many tensors there are.
        count: usize,
    },
    /// A tensor has another shape than the model's config calls for.
    #[error(
        "reading tensor `{name}`: {}: expected shape {}, found {}",
        path.display(), brackets(expected), brackets(found)
    )]
    Shape {
        /// The tensor.
        name: String,
        /// The file that holds it.
        path: PathBuf,
        /// What the caller expects.
        expected: Vec<usize>,
        /// What the file says.
        found: Vec<usize>,
    },
    /// A tensor of integers or of a quantised type was asked for as weights.
    #[error(
        "reading tensor `{name}`: {}: expected f32, f16, bf16 or f64, found {found}",
        path.display()
    )]
    NotFloat {
        /// The tensor.
        name: String,
        /// The file that holds it.
        path: PathBuf,
        /// The element type's name in that file format.
        found: String,
    },
    /// A weight is NaN or infinite, in the file or once it is narrowed to f32.
    #[error(
        "reading tensor `{name}`: {}: expected finite weights, found {value} at index {index}",
        path.display()
    )]
    NotFinite {
        /// The tensor.
        name: String,
        /// The file that holds it.
        path: PathBuf,
        /// Where, counted over the flattened row-major tensor from 0.
        index: usize,
        /// The value.
        value: f32,
    },
}

/// A shape as `[2, 3]`.
fn brackets(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_error_prints_both_shapes() {
        let error = CheckpointError::Shape {
            name: "w".to_string(),
            path: PathBuf::from("m.safetensors"),
            expected: vec![2, 3],
            found: vec![],
        };
        let text = "reading tensor `w`: m.safetensors: expected shape [2, 3], found []";
        assert_eq!(error.to_string(), text);
    }
}
