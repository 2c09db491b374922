//! The safetensors format: a JSON header that says where each tensor lies, and the tensors. The
//! `safetensors` crate checks the header (lengths, overlaps, gaps, overflow); this file only
//! turns it into this crate's own entries.

use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};
use safetensors::{SafeTensorError, SafeTensors};

use crate::checkpoint::element::Element;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::tensor::{Place, Tensor};

/// Bytes of the header's length, which begins the file.
const LENGTH_BYTES: usize = 8;

/// Lists the tensors of a mapped file; `file` is its number in the checkpoint.
///
/// # Errors
///
/// [`CheckpointError::Safetensors`] where header and contents do not fit each other.
pub(super) fn tensors(
    bytes: &[u8],
    path: &Path,
    file: usize,
) -> Result<Vec<(String, Tensor)>, CheckpointError> {
    let failed = |source| CheckpointError::Safetensors { path: path.to_path_buf(), source };
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(failed)?;
    let names = metadata.offset_keys();
    let listed = names.into_iter().map(|name| {
        let tensor = entry(&metadata, &name, header, file)?;
        Ok((name, tensor))
    });
    listed.collect::<Result<_, SafeTensorError>>().map_err(failed)
}

/// One tensor, its place counted from the beginning of the file.
fn entry(
    metadata: &Metadata,
    name: &str,
    header: usize,
    file: usize,
) -> Result<Tensor, SafeTensorError> {
    let info = metadata.info(name);
    let info = info.ok_or_else(|| SafeTensorError::TensorNotFound(name.to_string()))?;
    let from_start = |offset: usize| {
        let absolute = header.checked_add(LENGTH_BYTES).and_then(|at| at.checked_add(offset));
        absolute.ok_or(SafeTensorError::ValidationOverflow)
    };
    let (start, end) = info.data_offsets;
    Ok(Tensor {
        shape: info.shape.clone(),
        element: element(info.dtype),
        file,
        place: Place::Plain(from_start(start)?..from_start(end)?),
    })
}

/// The element type; types that are not read keep the name the format gives them.
fn element(dtype: Dtype) -> Element {
    match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::I64 => Element::Other("i64"),
        Dtype::I32 => Element::Other("i32"),
        Dtype::I16 => Element::Other("i16"),
        Dtype::I8 => Element::Other("i8"),
        Dtype::U64 => Element::Other("u64"),
        Dtype::U32 => Element::Other("u32"),
        Dtype::U16 => Element::Other("u16"),
        Dtype::U8 => Element::Other("u8"),
        Dtype::BOOL => Element::Other("bool"),
        Dtype::C64 => Element::Other("complex64"),
        _ => Element::Other("a float of 8 bits or fewer"),
    }
}
