//! What a graph remembers: of which passages and questions it is, under which setting they were
//! fused, how it was built, and how well it finds what exact search finds.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xqg_data::embeddings::check_format;
use xqg_data::error::DataError;

use crate::error::Result;
use crate::fused::Fusion;
use crate::manifest::{IndexManifest, Plan, write_json};

const FORMAT: &str = "xqg-graph";
const FORMAT_VERSION: u32 = 1;

/// The index's content that a graph was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// A hash over the inputs and settings that decide the passages' vectors.
    pub passages: String,
    /// A hash over the layers of questions.
    pub questions: String,
}

/// How a graph is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Links that a passage has to others; twice as many on the lowest level (HNSW's M).
    pub neighbours: usize,
    /// Paths followed at once to find these neighbours (HNSW's efConstruction).
    pub beam: usize,
}

/// What was found when approximate and exact search were asked the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// Queries asked.
    pub queries: usize,
    /// The seed that picked them.
    pub seed: u64,
    /// Passages wanted for each.
    pub k: usize,
    /// The mean part of the exact best k that the graph's candidates held.
    pub mean: f32,
}

/// `graph/manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphManifest {
    /// Always `xqg-graph`.
    pub format: String,
    /// The version of these files.
    pub version: u32,
    /// What it is of.
    pub of: Content,
    /// How passages and questions were fused.
    pub fusion: Fusion,
    /// How it was built.
    pub shape: Shape,
    /// The greatest length of a fused vector.
    pub reach: f32,
    /// The xxh3 hash of the links' file.
    pub links: String,
    /// Paths that a search follows at once where nobody says how many.
    pub effort: usize,
    /// How well it does with that effort.
    pub recall: Recall,
}

/// What must be the same for a build to go on, or for a finished graph to be what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphPlan {
    /// What it is of.
    pub of: Content,
    /// How passages and questions are fused.
    pub fusion: Fusion,
    /// How it is built.
    pub shape: Shape,
}

impl GraphManifest {
    /// A manifest of a finished graph.
    pub(super) fn new(plan: GraphPlan, reach: f32, links: String, recall: (usize, Recall)) -> Self {
        let (format, (effort, recall)) = (FORMAT.to_owned(), recall);
        let GraphPlan { of, fusion, shape } = plan;
        Self { format, version: FORMAT_VERSION, of, fusion, shape, reach, links, effort, recall }
    }

    /// What it was built from.
    pub fn plan(&self) -> GraphPlan {
        GraphPlan { of: self.of.clone(), fusion: self.fusion.clone(), shape: self.shape }
    }

    /// Reads and checks the manifest in a graph's folder.
    ///
    /// # Errors
    /// When there is none, or it is of a newer version or of something else.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = fs::read_to_string(&path).map_err(DataError::io("reading", &path))?;
        check_format(&path, &text, (FORMAT, FORMAT_VERSION))?;
        let unexpected = |e: serde_json::Error| {
            DataError::unexpected(&path, "the manifest of a graph", e.to_string())
        };
        Ok(serde_json::from_str(&text).map_err(unexpected)?)
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("manifest.json"), self)
    }
}

impl Content {
    /// The content of an index.
    pub fn of(index: &IndexManifest) -> Self {
        Self { passages: passages_hash(index), questions: questions_hash(index) }
    }
}

/// A hash over what decides an index's passages and their vectors; where the model lies does not.
pub(super) fn passages_hash(index: &IndexManifest) -> String {
    let mut plan: Plan = index.plan.clone();
    plan.model_path.clear();
    plan.contract.model.clear();
    hash(&(plan, index.passages, index.shard))
}

/// A hash over an index's layers of questions.
pub(super) fn questions_hash(index: &IndexManifest) -> String {
    hash(&index.layers)
}

fn hash<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).expect("plain data");
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
