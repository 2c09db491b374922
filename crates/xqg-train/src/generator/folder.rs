//! The folder of a generator, complete: settings with the encoder's contract, the pruned tokenizer,
//! weights in f32 or in 8 bits, and a card.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};
use xqg_data::contract::EncoderContract;
use xqg_data::error::DataError;
use xqg_data::file::{partial_path, remove, replace_folder, write_whole};

use super::config::GeneratorConfig;
use super::vocabulary::{EOS, PAD, Vocabulary};
use crate::decoder::Decoder;
use crate::error::TrainError;

/// The greatest level of a weight in 8 bits.
const STEPS: f32 = 127.0;

/// Everything that a generator's folder says beside its numbers.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The settings that it was trained with.
    pub config: &'a GeneratorConfig,
    /// Its tokens.
    pub vocabulary: &'a Vocabulary,
    /// The encoder that it stands on.
    pub contract: &'a EncoderContract,
    /// The model card.
    pub card: &'a str,
}

/// One tensor's bytes.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Writes a generator's folder; with `int8` its matrices are kept in 8 bits, a scale for each row.
/// What lay there is replaced when all is written.
///
/// # Errors
/// When the disk refuses; what lay there is then untouched.
pub fn write(to: &Path, decoder: &Decoder, about: About, int8: bool) -> Result<(), TrainError> {
    let partial = partial_path(to);
    remove(&partial)?;
    std::fs::create_dir_all(&partial).map_err(DataError::io("creating", &partial))?;
    let settings = format!("{:#}\n", settings(decoder, about));
    write_whole(&partial.join("config.json"), settings.as_bytes())?;
    write_whole(&partial.join("tokenizer.json"), about.vocabulary.file.as_bytes())?;
    write_whole(&partial.join("README.md"), about.card.as_bytes())?;
    let mut tensors: Vec<Tensor> = Vec::new();
    for parameter in &decoder.parameters.0 {
        let (name, shape) = (parameter.name.clone(), parameter.shape.clone());
        match shape[..] {
            [rows, width] if int8 => {
                tensors.extend(quantised(name, (rows, width), &parameter.values))
            }
            _ => tensors.push(floats(name, shape, &parameter.values)),
        }
    }
    for (lang, list) in about.config.langs.iter().zip(&about.vocabulary.shortlists) {
        let bytes = list.iter().flat_map(|id| id.to_le_bytes()).collect();
        let name = format!("shortlist.{}", lang.code());
        tensors.push(Tensor { name, dtype: Dtype::U32, shape: vec![list.len()], bytes });
    }
    write_whole(&partial.join("model.safetensors"), &serialised(&partial, &tensors)?)?;
    Ok(replace_folder(&partial, to)?)
}

fn settings(decoder: &Decoder, about: About) -> Value {
    let shape = decoder.shape();
    let langs: Vec<&str> = about.config.langs.iter().map(|lang| lang.code()).collect();
    let tag = |(i, code): (usize, &&str)| ((*code).to_owned(), json!(about.vocabulary.tag(i)));
    let tags: Map<String, Value> = langs.iter().enumerate().map(tag).collect();
    json!({
        "model_type": "xqg-decoder",
        "hidden_size": shape.hidden,
        "num_layers": shape.layers,
        "num_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_positions": shape.positions,
        "vocab_size": shape.vocabulary,
        "activation": "gelu",
        "norm_eps": f64::from(shape.norm_eps),
        "embed_scale": f64::from(shape.embed_scale),
        "logit_scale": f64::from(shape.logit_scale),
        "start_ids": tags,
        "eos_id": EOS,
        "pad_id": PAD,
        "langs": langs,
        "encoder": about.contract,
    })
}

fn floats(name: String, shape: Vec<usize>, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Tensor { name, dtype: Dtype::F32, shape, bytes }
}

/// A matrix as levels from -127 to 127, and the scale of each row.
fn quantised(name: String, (rows, width): (usize, usize), values: &[f32]) -> [Tensor; 2] {
    let (mut bytes, mut scales) = (Vec::with_capacity(values.len()), Vec::with_capacity(rows));
    for row in values.chunks_exact(width) {
        let greatest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
        let scale = (greatest / STEPS).max(f32::MIN_POSITIVE);
        let level = |x: &f32| (x / scale).round().clamp(-STEPS, STEPS) as i8;
        bytes.extend(row.iter().map(|x| level(x).to_le_bytes()[0]));
        scales.push(scale);
    }
    let scale = floats(format!("{name}.scale"), vec![rows], &scales);
    [Tensor { name, dtype: Dtype::I8, shape: vec![rows, width], bytes }, scale]
}

fn serialised(path: &Path, tensors: &[Tensor]) -> Result<Vec<u8>, TrainError> {
    let failed = |found: String| TrainError::Unexpected {
        path: path.to_path_buf(),
        expected: "weights that can be written".into(),
        found,
        hint: "this is a fault of the program",
    };
    let mut views: Vec<(&str, TensorView)> = Vec::new();
    for tensor in tensors {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
        views.push((&tensor.name, view.map_err(|e| failed(e.to_string()))?));
    }
    safetensors::serialize(views, None).map_err(|e| failed(e.to_string()))
}
