//! The numbers that training changes: every tensor of a checkpoint that the network uses, by its
//! published name. They are single precision; a device that learns has its own until they are saved.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use xqg_data::file::PartialFile;
use xqg_model::checkpoint::{Checkpoint, CheckpointError};

use crate::error::TrainError;

/// One tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its published name, with the checkpoint's prefix.
    pub name: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Vec<f32>,
    /// How it is trained.
    pub kind: Kind,
}

/// How a parameter is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A weight: it decays.
    Weight,
    /// A bias or part of a norm: it does not decay.
    Plain,
    /// A table of which a batch touches few rows; its gradient and moments are kept row by row.
    Table,
    /// Not trained.
    Frozen,
}

/// The tensors of a network, in the order in which it asked for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters(pub Vec<Parameter>);

impl Parameters {
    /// Reads a tensor of a checkpoint, adds it and returns its place.
    ///
    /// # Errors
    /// When it is missing or of another shape.
    pub fn load(
        &mut self,
        checkpoint: &Checkpoint,
        name: String,
        shape: &[usize],
        kind: Kind,
    ) -> Result<usize, CheckpointError> {
        let values = checkpoint.tensor(&name, shape)?;
        self.0.push(Parameter { name, shape: shape.to_vec(), values, kind });
        Ok(self.0.len() - 1)
    }

    /// The elements of the tensor at a place.
    pub fn values(&self, place: usize) -> &[f32] {
        &self.0[place].values
    }

    /// Number of elements of all tensors.
    pub fn count(&self) -> usize {
        self.0.iter().map(|p| p.values.len()).sum()
    }

    /// Writes all tensors, and those of `more` by name, to a safetensors file: whole or not at all.
    ///
    /// # Errors
    /// When the disk refuses; what lay there is untouched.
    pub fn write(&self, path: &Path, more: &[Parameter]) -> Result<(), TrainError> {
        let all: Vec<(&str, &[usize], &[f32])> = self
            .0
            .iter()
            .chain(more)
            .map(|p| (p.name.as_str(), p.shape.as_slice(), p.values.as_slice()))
            .collect();
        write_tensors(path, &all, &[])
    }
}

/// Writes tensors of f32 to a safetensors file with a few words about them: whole or not at all.
///
/// # Errors
/// When the disk refuses; what lay there is untouched.
pub fn write_tensors(
    path: &Path,
    tensors: &[(&str, &[usize], &[f32])],
    about: &[(&str, String)],
) -> Result<(), TrainError> {
    let mut file = PartialFile::create(path)?;
    write_to(&mut file, tensors, about).map_err(xqg_data::error::DataError::io("writing", path))?;
    Ok(file.commit()?)
}

/// The format itself: length of the header, header padded to 8 bytes, then the elements in order.
fn write_to(
    out: &mut impl std::io::Write,
    tensors: &[(&str, &[usize], &[f32])],
    about: &[(&str, String)],
) -> std::io::Result<()> {
    let mut metadata = BTreeMap::from([("format", "pt".to_owned())]);
    metadata.extend(about.iter().cloned());
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut at = 0;
    for (name, shape, values) in tensors {
        let end = at + values.len() * 4;
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
        header.insert((*name).to_owned(), entry);
        at = end;
    }
    let mut text = serde_json::to_string(&header)?;
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    tensors.iter().try_for_each(|(_, _, values)| write_floats(out, values))
}

/// Elements as little-endian bytes, some thousands at a time.
fn write_floats(out: &mut impl std::io::Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for chunk in values.chunks(1 << 14) {
        bytes.clear();
        chunk.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Whether a view holds f32 elements; what this crate writes always does.
pub fn is_f32(view: &TensorView<'_>) -> bool {
    view.dtype() == Dtype::F32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let one = |name: &str, shape: &[usize], values: &[f32]| Parameter {
            name: name.into(),
            shape: shape.to_vec(),
            values: values.to_vec(),
            kind: Kind::Weight,
        };
        let parameters = Parameters(vec![one("b", &[2, 1], &[1.0, -2.5]), one("a", &[1], &[3.0])]);
        parameters.write(&path, &[one("pooler", &[1], &[7.0])]).unwrap();
        let checkpoint = Checkpoint::open_file(&path).unwrap();
        assert_eq!(checkpoint.tensor("b", &[2, 1]).unwrap(), [1.0, -2.5]);
        assert_eq!(checkpoint.tensor("a", &[1]).unwrap(), [3.0]);
        assert_eq!(checkpoint.tensor("pooler", &[1]).unwrap(), [7.0]);
        assert_eq!(parameters.count(), 3);
    }
}
