//! Which files of a model are fetched: what the tokenizer, the encoder and the recipe of
//! sentence-transformers read, and one copy of the weights. Exports for other runtimes (ONNX,
//! OpenVINO, TensorFlow, Flax, Rust) stay where they are.

use std::collections::BTreeSet;

/// The files of a model or of one of its modules that are fetched wherever they exist.
const SMALL_FILES: [&str; 14] = [
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
];

/// The two forms of weights, the preferred one first: stem and ending of the file names.
const WEIGHTS: [(&str, &str); 2] = [("model", ".safetensors"), ("pytorch_model", ".bin")];

/// Picks from `paths` (relative, with `/`) what is to be fetched: small files first and weights
/// last, so that a folder with weights is a whole one.
pub(super) fn choose<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let paths: BTreeSet<&str> = paths.iter().copied().filter(|path| is_plain(path)).collect();
    let small = paths.iter().copied().filter(|path| is_small(path));
    let modules: BTreeSet<&str> = paths.iter().map(|path| split(path).0).collect();
    let weights = modules.iter().flat_map(|module| weights(module, &paths));
    small.chain(weights).collect()
}

/// Whether the path is in the model's own folder or in a module's, in harmless characters.
fn is_plain(path: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let (module, file) = split(path);
    let in_module = module.is_empty() || is_module(module);
    let relative = !path.starts_with('/') && !path.contains("..");
    in_module && relative && !file.is_empty() && path.chars().all(allowed)
}

/// Folder and file name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Whether a folder is named like a module of sentence-transformers: `1_Pooling`, `2_Dense`.
fn is_module(folder: &str) -> bool {
    let number = folder.split_once('_').map(|(number, _)| number);
    let digits = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    digits && !folder.contains('/')
}

fn is_small(path: &str) -> bool {
    let file = split(path).1;
    let sentence = file.starts_with("sentence_") && file.ends_with("_config.json");
    sentence || SMALL_FILES.contains(&file)
}

/// The weights of one module: safetensors before PyTorch's, one file before shards.
fn weights<'a>(module: &str, paths: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let here = || paths.iter().copied().filter(|path| split(path).0 == module);
    for (stem, ending) in WEIGHTS {
        let whole = format!("{stem}{ending}");
        if let Some(path) = here().find(|path| split(path).1 == whole) {
            return vec![path];
        }
        let index = format!("{stem}{ending}.index.json");
        if let Some(path) = here().find(|path| split(path).1 == index) {
            let shards = here().filter(|path| is_shard(split(path).1, stem, ending));
            return std::iter::once(path).chain(shards).collect();
        }
    }
    Vec::new()
}

/// Whether a file is named like a shard: `model-00001-of-00003.safetensors`.
fn is_shard(file: &str, stem: &str, ending: &str) -> bool {
    let numbers = file.strip_prefix(stem).and_then(|rest| rest.strip_suffix(ending));
    numbers.is_some_and(|numbers| numbers.starts_with('-') && numbers.contains("-of-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_and_second_copies_are_left_out() {
        let paths = [
            "README.md",
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "tf_model.h5",
            "onnx/model.onnx",
            "onnx/config.json",
            "openvino/config.json",
            "tokenizer.json",
            "1_Pooling/config.json",
            "sentence_bert_config.json",
            "sentencepiece.bpe.model",
        ];
        let chosen = choose(&paths);
        assert_eq!(
            chosen,
            [
                "1_Pooling/config.json",
                "config.json",
                "sentence_bert_config.json",
                "sentencepiece.bpe.model",
                "tokenizer.json",
                "model.safetensors",
            ]
        );
    }

    #[test]
    fn each_module_keeps_its_weights() {
        let paths = [
            "pytorch_model.bin",
            "2_Dense/config.json",
            "2_Dense/pytorch_model.bin",
            "2_Dense/model.safetensors",
            "colbert_linear.pt",
        ];
        let chosen = choose(&paths);
        assert_eq!(
            chosen,
            ["2_Dense/config.json", "pytorch_model.bin", "2_Dense/model.safetensors"]
        );
    }

    #[test]
    fn shards_come_with_their_index() {
        let paths = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "model.fp16.safetensors",
            "pytorch_model.bin",
        ];
        let chosen = choose(&paths);
        assert_eq!(
            chosen,
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ]
        );
    }

    #[test]
    fn paths_that_lead_elsewhere_are_left_out() {
        assert!(
            choose(&["../config.json", "/config.json", "1_x/../config.json", "a\\config.json"])
                .is_empty()
        );
    }
}
