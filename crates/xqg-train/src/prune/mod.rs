//! A smaller vocabulary: a model folder without the tokens that nobody's texts use. Kept are tokens
//! that given texts are made of, and tokens of the scripts of given languages; ids move together,
//! rows of the word embedding with them, nothing else changes. A text whose tokens are all kept has
//! the same tokens as before, for neither Unigram's best path nor WordPiece's longest match can gain
//! by what is removed; so its embedding is the same bit for bit.

pub(crate) mod tokenizer;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xqg_data::error::DataError;
use xqg_data::file::{output_path, partial_path, remove, replace_folder, write_whole};
use xqg_data::lang::Lang;
use xqg_model::checkpoint::Checkpoint;
use xqg_model::config::Config;
use xqg_model::recipe::{Recipe, known_prefixes};
use xqg_model::scripts::{is_in, scripts};
use xqg_model::tokenizer::Tokenizer;

use crate::error::TrainError;
use crate::folder::{copy_small, write_prompts};
use crate::parameters::write_tensors;
use tokenizer::Vocabulary;

/// Texts that are tokenized at once.
const AT_ONCE: usize = 1024;

/// A vocabulary about to be pruned.
#[derive(Debug)]
pub struct Pruner {
    folder: PathBuf,
    recipe: Recipe,
    config: Config,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    kept: BTreeSet<u32>,
}

/// How much was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Rows of the word embedding before.
    pub before: usize,
    /// Rows now.
    pub after: usize,
}

impl Pruner {
    /// Opens a model folder; special tokens are kept from the beginning.
    ///
    /// # Errors
    /// When a file is missing, or the tokenizer is neither Unigram nor WordPiece.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let recipe = Recipe::read(folder)?;
        let config = Config::read(&recipe.network)?;
        let vocabulary = Vocabulary::read(&recipe.network.join("tokenizer.json"))?;
        let tokenizer = Tokenizer::open(&recipe.network)?;
        let mut pruner = Self {
            folder: folder.to_path_buf(),
            kept: vocabulary.special().collect(),
            recipe,
            config,
            tokenizer,
            vocabulary,
        };
        // The padding id decides where XLM-RoBERTa's positions begin: all up to it stay in place.
        pruner.kept.extend(0..=pruner.config.padding_id() as u32);
        pruner.keep_prompts()?;
        Ok(pruner)
    }

    fn keep_prompts(&mut self) -> Result<(), TrainError> {
        let known = known_prefixes(&self.folder.to_string_lossy());
        let known = known.map(|(query, passage)| [query.to_owned(), passage.to_owned()]);
        let named = [self.recipe.query_prefix.clone(), self.recipe.passage_prefix.clone()];
        let texts: Vec<String> =
            known.into_iter().flatten().chain(named.into_iter().flatten()).collect();
        self.keep_texts(texts.into_iter().map(Ok))
    }

    /// Keeps every token that these texts are made of, alone and after the model's prompts.
    ///
    /// # Errors
    /// When the tokenizer refuses a text, or a text cannot be read.
    pub fn keep_texts(
        &mut self,
        texts: impl IntoIterator<Item = Result<String, DataError>>,
    ) -> Result<(), TrainError> {
        let prompts = [self.recipe.query_prefix.clone(), self.recipe.passage_prefix.clone()];
        let mut prompts: Vec<String> = prompts.into_iter().flatten().collect();
        prompts.push(String::new());
        let mut texts = texts.into_iter();
        loop {
            let part: Vec<String> = texts.by_ref().take(AT_ONCE).collect::<Result<_, _>>()?;
            if part.is_empty() {
                return Ok(());
            }
            for prompt in &prompts {
                let tokens = self.tokenizer.encode(prompt, &part, usize::MAX)?;
                self.kept.extend(tokens.iter().flat_map(|t| t.ids.iter().copied()));
            }
        }
    }

    /// Keeps every token that is written in the scripts of these languages, digits and signs.
    ///
    /// # Errors
    /// When the script of a language is not known here.
    pub fn keep_languages(&mut self, languages: &[Lang]) -> Result<(), TrainError> {
        let mut written = Vec::new();
        for lang in languages {
            let of = scripts(lang.code()).ok_or_else(|| TrainError::Setting {
                name: "--keep-languages",
                expected: "languages whose script is known here; use --keep-corpus for others",
                found: lang.code().to_owned(),
            })?;
            written.extend_from_slice(of);
        }
        let fits = |piece: &str| piece.chars().all(|c| is_in(c, &written));
        let kept = self.vocabulary.pieces().filter(|(_, piece)| fits(piece)).map(|(id, _)| id);
        self.kept.extend(kept);
        Ok(())
    }

    /// Writes the pruned model as a folder of its own.
    ///
    /// # Errors
    /// When a weight does not fit, or the disk refuses; what lay there is then untouched.
    pub fn write(mut self, to: &Path) -> Result<Pruned, TrainError> {
        let to = output_path(to)?;
        let rows = self.config.vocab_size;
        self.kept.extend(self.vocabulary.needed());
        self.kept.retain(|&id| (id as usize) < rows);
        let ids: Vec<u32> = self.kept.iter().copied().collect();
        let partial = partial_path(&to);
        remove(&partial)?;
        copy_small(&self.folder, &partial)?;
        if self.recipe.network != self.folder {
            return Err(TrainError::Unexpected {
                path: self.folder,
                expected: "a model whose network lies in the folder itself".into(),
                found: "one that lies deeper".into(),
                hint: "name the folder of the network",
            });
        }
        // These list the whole vocabulary by place; tokenizer.json says all of it.
        for name in ["sentencepiece.bpe.model", "vocab.txt", "spiece.model"] {
            remove(&partial.join(name))?;
        }
        copy_below(&self.folder, &partial)?;
        write_json(&partial.join("tokenizer.json"), &self.vocabulary.pruned(&ids))?;
        edit(&partial.join("config.json"), |value| tokenizer::renumber_config(value, &ids))?;
        edit(&partial.join("tokenizer_config.json"), |value| {
            tokenizer::renumber_decoder(value, &ids);
        })?;
        self.write_weights(&partial.join("model.safetensors"), &ids)?;
        self.write_prompts(&partial)?;
        replace_folder(&partial, &to)?;
        Ok(Pruned { before: rows, after: ids.len() })
    }

    /// Prefixes that the folder had by its name alone are written down: the new one may be called anything.
    fn write_prompts(&self, folder: &Path) -> Result<(), TrainError> {
        let Some((query, passage)) = known_prefixes(&self.folder.to_string_lossy()) else {
            return Ok(());
        };
        let said = [&self.recipe.query_prefix, &self.recipe.passage_prefix];
        let said = said.map(|prefix| prefix.as_deref());
        write_prompts(folder, [said[0].unwrap_or(query), said[1].unwrap_or(passage)])
    }

    fn write_weights(&self, path: &Path, ids: &[u32]) -> Result<(), TrainError> {
        let checkpoint = Checkpoint::open(&self.recipe.network)?;
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for name in checkpoint.names() {
            // Heads over the vocabulary have no use in an encoder.
            if name.starts_with("cls.") || name.starts_with("lm_head.") {
                continue;
            }
            let mut shape = checkpoint.shape(name).unwrap_or_default().to_vec();
            let mut values = match checkpoint.tensor(name, &shape) {
                Err(xqg_model::checkpoint::CheckpointError::NotFloat { .. }) => continue,
                read => read?,
            };
            if name.ends_with("embeddings.word_embeddings.weight") {
                let width = self.config.hidden_size;
                if shape != [self.config.vocab_size, width] {
                    return Err(TrainError::Unexpected {
                        path: self.folder.clone(),
                        expected: format!("{name} of {} x {width} numbers", self.config.vocab_size),
                        found: format!("{shape:?}"),
                        hint: "config.json and the weights are of different models",
                    });
                }
                let row = |&id: &u32| values[id as usize * width..][..width].iter().copied();
                values = ids.iter().flat_map(row).collect();
                shape[0] = ids.len();
            }
            tensors.push((name.to_owned(), shape, values));
        }
        let views: Vec<(&str, &[usize], &[f32])> =
            tensors.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
        write_tensors(path, &views, &[])
    }
}

/// Copies the folders of sentence-transformers' modules that hold settings only, and Dense weights.
fn copy_below(from: &Path, to: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(from).map_err(DataError::io("reading", from))? {
        let path = entry.map_err(DataError::io("reading", from))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && name.starts_with(|c: char| c.is_ascii_digit()) {
            copy_small(&path, &to.join(&name))?;
            for weights in ["model.safetensors", "pytorch_model.bin"] {
                let (from, to) = (path.join(weights), to.join(&name).join(weights));
                if from.exists() {
                    fs::copy(&from, &to).map_err(DataError::io("copying", &from))?;
                }
            }
        }
    }
    Ok(())
}

/// Changes a JSON file, where it is there.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) -> Result<(), TrainError> {
    if !path.exists() {
        return Ok(());
    }
    let mut value = tokenizer::read_value(path)?;
    change(&mut value);
    write_json(path, &value)
}

fn write_json(path: &Path, value: &Value) -> Result<(), TrainError> {
    Ok(write_whole(path, format!("{value:#}\n").as_bytes())?)
}
