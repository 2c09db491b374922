//! Where a generator's weights come from: the published files, by the names that these use, or the
//! file into which an earlier run laid them out. Both go the same way, so they cannot drift apart.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::buffer::Buffer;
use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::linear::{Arithmetic, Linear, Precision};
use crate::network::Words;
use crate::network::load::{absent, finite};
use crate::packed::{self, Array, Origin, PackedFile};

/// The name of the word embedding among laid-out weights.
const WORDS: &str = "words";

/// Arrays that are to be laid out.
pub(crate) type Arrays<'a> = BTreeMap<String, Array<'a>>;

/// A place that has the weights, and how they are computed with.
pub(crate) struct Source<'a> {
    checkpoint: &'a Checkpoint,
    /// Laid-out weights, where there are some. A word embedding that is used as it was published is
    /// left in the checkpoint, unread and already known to be finite.
    packed: Option<&'a PackedFile>,
    /// The arithmetic.
    pub how: Arithmetic,
}

/// A name among laid-out weights and the published ones, whose rows lie one after the other.
pub(crate) type Names<'n> = (&'n str, &'n [String]);

impl Source<'_> {
    /// Numbers that are used as they are: they are few, and come from the checkpoint in any case.
    ///
    /// # Errors
    /// When there are none, or of another shape.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        match shape {
            &[rows, columns] => Ok(self.checkpoint.matrix(name, (rows, columns))?),
            _ => Ok(self.checkpoint.tensor(name, shape)?),
        }
    }

    /// A layer of several weights of `output x input` side by side; their biases are `NAME.bias`.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn biased(&self, names: Names, shape: (usize, usize)) -> Result<Linear, ModelError> {
        self.linear(names, shape, |name| {
            let bias = self.checkpoint.tensor(&format!("{name}.bias"), &[shape.0]);
            Ok((format!("{name}.weight"), bias?))
        })
    }

    /// The same without biases, the names being those of whole tensors.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn plain(&self, names: Names, shape: (usize, usize)) -> Result<Linear, ModelError> {
        self.linear(names, shape, |name| Ok((name.to_owned(), vec![0.0; shape.0])))
    }

    /// A layer whose bias lies elsewhere.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn tied(
        &self,
        names: Names,
        bias: Vec<f32>,
        shape: (usize, usize),
    ) -> Result<Linear, ModelError> {
        self.linear(names, shape, |name| Ok((name.to_owned(), bias.clone())))
    }

    fn linear(
        &self,
        (stored, names): Names,
        (output, input): (usize, usize),
        of: impl Fn(&str) -> Result<(String, Vec<f32>), ModelError>,
    ) -> Result<Linear, ModelError> {
        if let Some(file) = self.packed {
            let shape = (output * names.len(), input);
            return Linear::stored(file, stored, shape, self.how).ok_or_else(|| absent(stored));
        }
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            let (name, more) = of(name)?;
            let part = self.checkpoint.matrix(&name, (output, input))?;
            if weight.is_empty() {
                weight = part;
            } else {
                weight.extend_from_slice(&part);
            }
            bias.extend(more);
        }
        Ok(Linear::new(weight, bias, input, self.how))
    }

    /// The word embedding; beside 8-bit arithmetic in half precision.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn words(&self, name: &str, (rows, columns): (usize, usize)) -> Result<Words, ModelError> {
        let shape = [rows, columns];
        let exact = self.how.effective() == Precision::F32;
        if let Some(file) = self.packed {
            let length = rows * columns;
            let found = if exact {
                let stored = file.array(WORDS, Dtype::F32, length);
                stored.or_else(|| self.checkpoint.mapped(name, &shape)).map(Words::F32)
            } else {
                file.array(WORDS, Dtype::F16, length).map(Words::F16)
            };
            return found.ok_or_else(|| absent(WORDS));
        }
        let words = match self.checkpoint.mapped(name, &shape) {
            Some(_) => finite(self.checkpoint, name, &shape)?,
            None => self.checkpoint.matrix(name, (rows, columns))?.into(),
        };
        if exact {
            return Ok(Words::F32(words));
        }
        let halves: Vec<f16> = words.par_iter().map(|&x| f16::from_f32(x)).collect();
        Ok(Words::F16(halves.into()))
    }
}

/// Adds a word embedding to what is laid out; one that lies in the checkpoint as it is used stays there.
pub(crate) fn store_words<'a>(words: &'a Words, to: &mut Arrays<'a>) {
    let array = match words {
        Words::F16(words) => Array::new(Dtype::F16, words),
        Words::F32(Buffer::Owned(words)) => Array::new(Dtype::F32, words),
        Words::F32(Buffer::Mapped(_)) => return,
    };
    to.insert(WORDS.to_owned(), array);
}

/// What is made of weights and can be laid out.
pub(crate) trait Stored: Sized {
    /// The arrays that a source of laid-out weights reads.
    fn arrays(&self) -> Arrays<'_>;
}

/// Loads a generator's weights: from the file of an earlier run, else from the published files, and
/// then keeps them for the next run where `keep` is set.
///
/// # Errors
/// Those of `load` with the published files.
pub(crate) fn load<T: Stored>(
    folder: &Path,
    checkpoint: &Checkpoint,
    (how, keep): (Arithmetic, bool),
    load: impl Fn(&Source) -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    let origin = if keep { origin(folder, checkpoint, how) } else { None };
    if let Some(file) = origin.as_ref().and_then(PackedFile::open) {
        let source = Source { checkpoint, packed: Some(&file), how };
        if let Ok(found) = load(&source) {
            return Ok(found);
        }
    }
    let found = load(&Source { checkpoint, packed: None, how })?;
    if let Some(origin) = origin {
        let path = origin.path.display();
        match packed::write(&origin, "", &found.arrays()) {
            Ok(()) => log::info!("laid-out weights are kept in {path}"),
            Err(e) => log::info!("keeping laid-out weights in {path}: {e}"),
        }
    }
    Ok(found)
}

fn origin(folder: &Path, checkpoint: &Checkpoint, how: Arithmetic) -> Option<Origin> {
    let mut files = checkpoint.files().to_vec();
    files.push(folder.join("config.json"));
    let name = format!("generator-{}-{}", how.effective().name(), how.isa.name());
    Origin::of(folder, &files, &name)
}
