//! The description of an index folder, `manifest.json`: which encoder made it, how its numbers
//! lie, which work units and which layers of questions it has. It is written last and replaced
//! whole, so what it names is there.
//!
//! ```text
//! INDEX/manifest.json
//! INDEX/units/00000/ids.txt            the passages' docids, one a line
//! INDEX/units/00000/passages.jsonl     the passages' texts, in the order of the rows
//! INDEX/units/00000/d.npy              their embeddings, rows x dim; not with dtype int8
//! INDEX/units/00000/d.i8               their 8-bit copy, see [`crate::sketch`]
//! INDEX/units/00000/q0001.jsonl        the questions of layer 1, ordered by row
//! INDEX/units/00000/q0001.sums.npy     their sums, (languages * rows) x dim, language by language; not with int8
//! INDEX/units/00000/q0001.i8           their 8-bit copy
//! INDEX/units/00000/q0001.gram.npy     dot products between a passage's vectors, see [`crate::gram`]
//! INDEX/units/00000/q0001.counts.npy   how many questions are in each sum
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::{Side, check_format};
use xqg_data::error::DataError;
use xqg_data::file::write_whole;
use xqg_data::lang::Lang;
use xqg_data::npy::Dtype;

use crate::collapse::Collapsed;
use crate::error::Result;
use crate::fuse::{DEFAULT_SHARE, Reduce};

/// The version that this code writes and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
const FORMAT: &str = "xqg-index";

/// Questions that were added together; a layer is never changed once it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its number, from 1; names its files.
    pub id: u32,
    /// Which side of the encoder the questions went through.
    pub side: Side,
    /// A hash of the questions file.
    pub input: String,
    /// Its languages, sorted, and how many questions each has.
    pub langs: Vec<LangCount>,
}

/// The number of questions in one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LangCount {
    /// The language.
    pub lang: Lang,
    /// How many questions.
    pub questions: u64,
}

/// How questions are fused where a search does not say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// The part of the whole weight that belongs to the questions.
    pub share: f32,
    /// Their sum or their mean.
    pub reduce: Reduce,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { share: DEFAULT_SHARE, reduce: Reduce::Mean }
    }
}

/// The inputs and settings that decide an index's bytes; a build can only be resumed with the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The encoder.
    pub contract: EncoderContract,
    /// The model folder, to find the encoder again.
    pub model_path: PathBuf,
    /// How numbers lie on disk.
    pub dtype: Dtype,
    /// Passages in each work unit but the last.
    pub unit_rows: usize,
    /// A hash of the passages file.
    pub corpus: String,
}

impl Plan {
    /// Whether two builds give the same numbers: equal but for where the model lies and what its
    /// folder is called.
    pub fn is_same(&self, other: &Self) -> bool {
        let there = Self { model_path: other.model_path.clone(), ..self.clone() };
        let model = other.contract.model.clone();
        let contract = EncoderContract { model, ..there.contract };
        Self { contract, ..there } == *other
    }

    /// The names of the settings that differ from another plan's, with both values.
    pub fn difference(&self, other: &Self) -> String {
        let (a, b) = (serde_json::json!(self), serde_json::json!(other));
        let keys = ["contract", "dtype", "unit_rows", "corpus"];
        let differs = keys.into_iter().filter(|k| a[k] != b[k]);
        differs.map(|k| format!("{k}: {} | {}", a[k], b[k])).collect::<Vec<_>>().join("; ")
    }
}

/// `manifest.json` of a finished index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexManifest {
    /// Always `xqg-index`.
    pub format: String,
    /// See [`FORMAT_VERSION`].
    pub version: u32,
    /// Inputs and settings.
    #[serde(flatten)]
    pub plan: Plan,
    /// Passages in the whole collection.
    pub passages: u64,
    /// Which n-th units this folder holds, as (i, n) from (1, 1); a part of a sharded build has n > 1.
    pub shard: (u32, u32),
    /// The layers of questions.
    pub layers: Vec<Layer>,
    /// How its questions are fused where a search does not say; an older index has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// What was fused into its one matrix, where it is a collapsed index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapsed: Option<Collapsed>,
}

impl IndexManifest {
    /// A manifest with the format's name and version filled in.
    pub fn new(plan: Plan, passages: u64, shard: Shard) -> Self {
        let (format, shard) = (FORMAT.to_owned(), (shard.number, shard.of));
        Self {
            format,
            version: FORMAT_VERSION,
            plan,
            passages,
            shard,
            layers: Vec::new(),
            defaults: None,
            collapsed: None,
        }
    }

    /// How its questions are fused where a search does not say.
    pub fn defaults(&self) -> Defaults {
        self.defaults.unwrap_or_default()
    }

    /// Adds a layer of questions; the first brings the defaults.
    pub fn add_layer(&mut self, layer: Layer) {
        self.layers.push(layer);
        self.defaults.get_or_insert_default();
    }

    /// The part of the whole that this folder holds.
    pub fn shard(&self) -> Shard {
        Shard { number: self.shard.0, of: self.shard.1 }
    }

    /// The numbers of the units in this folder.
    pub fn units(&self) -> impl Iterator<Item = usize> + use<> {
        let (shard, all) = (self.shard(), (self.passages as usize).div_ceil(self.plan.unit_rows));
        (0..all).filter(move |&unit| shard.holds(unit))
    }

    /// All languages of all layers, sorted, each once.
    pub fn langs(&self) -> Vec<Lang> {
        let mut langs: Vec<Lang> =
            self.layers.iter().flat_map(|l| l.langs.iter().map(|c| c.lang)).collect();
        langs.sort();
        langs.dedup();
        langs
    }

    /// Reads and checks the manifest of an index folder.
    ///
    /// # Errors
    /// When there is none, or it is of a newer version or of something else.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = fs::read_to_string(&path).map_err(DataError::io("reading", &path))?;
        check_format(&path, &text, (FORMAT, FORMAT_VERSION))?;
        let unexpected =
            |found: String| DataError::unexpected(&path, "the manifest of an index", found);
        let manifest: Self = serde_json::from_str(&text).map_err(|e| unexpected(e.to_string()))?;
        let (shard, rows) = (manifest.shard(), manifest.plan.unit_rows);
        if shard.number == 0 || shard.number > shard.of || rows == 0 {
            let found = format!("shard {}/{}, {rows} rows a unit", shard.number, shard.of);
            return Err(unexpected(found).into());
        }
        Ok(manifest)
    }

    /// Writes the manifest: the moment at which a build or an addition becomes visible.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("manifest.json"), self)
    }
}

/// Every n-th unit, beginning with the i-th: the part of a build that one machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which part, from 1.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

impl Shard {
    /// The whole.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Whether a unit belongs to this part.
    pub fn holds(self, unit: usize) -> bool {
        unit % self.of as usize == self.number as usize - 1
    }
}

/// Writes a value as indented JSON, whole or not at all.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data");
    text.push('\n');
    Ok(write_whole(path, text.as_bytes())?)
}

/// The blake3 hash of a file's content, in hexadecimal.
///
/// # Errors
/// When it is a folder or cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    if path.is_dir() {
        return Err(DataError::unexpected(path, "a file", "a folder").into());
    }
    hasher.update_mmap_rayon(path).map_err(DataError::io("reading", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}
