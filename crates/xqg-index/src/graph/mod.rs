//! Approximate search: a graph over the fused vectors of one setting, beside the index whose
//! vectors they are. The graph only proposes passages. What it proposes is scored again from the
//! index's own numbers, under whatever setting the search has, so a score is never approximate;
//! only that a passage was not proposed can be.
//!
//! ```text
//! INDEX/graph/manifest.json    what the graph is of, how it was built, the recall measured
//! INDEX/graph/centre.npy       the mean fused vector, 1 x dim
//! INDEX/graph/links.usearch    the links, and each vector in bytes: usearch's own format
//! ```
//!
//! The links are made by usearch (Malkov and Yashunin's HNSW); the vectors' bytes, their distance ([`code`])
//! and the search along the links are ours. With more than one thread the links depend on the order in which threads come,
//! so two builds of a graph, alone among all artefacts here, are not the same bytes.

pub mod build;
pub mod code;
mod file;
mod links;
pub mod manifest;
mod recall;
pub mod search;
mod walk;

use std::fs::File;
use std::path::{Path, PathBuf};

use xqg_data::error::DataError;
use xqg_data::npy::Matrix;

use crate::error::{IndexError, Result};
use crate::graph::code::{Space, TRAILER};
use crate::graph::file::LinksFile;
use crate::graph::manifest::GraphManifest;
use crate::index::Index;

/// A graph opened for searching.
pub struct Graph {
    /// What it is of and how it was built.
    pub manifest: GraphManifest,
    space: Space,
    links: LinksFile,
}

impl Graph {
    /// Opens the graph of an index. The whole file is read once, to compare its hash: damage would only
    /// show as passages that are not found.
    ///
    /// # Errors
    /// When there is none, it is of other passages, or a file is damaged.
    pub fn open(index: &Index) -> Result<Self> {
        let folder = folder(index.folder());
        if !folder.join("manifest.json").exists() {
            let hint = format!("xqg index graph --index {} builds one", index.folder().display());
            return Err(no_graph(index, "a graph", "none".to_owned(), hint));
        }
        let manifest = GraphManifest::read(&folder)?;
        if manifest.of.passages != manifest::passages_hash(&index.manifest) {
            let found = "one of other passages".to_owned();
            return Err(no_graph(index, "a graph of its passages", found, rebuild(index.folder())));
        }
        let space = Space::open(&folder, index.dim(), manifest.reach)?;
        let path = links_path(&folder);
        if hash(&path)? != manifest.links {
            let found = "a damaged file: its hash is not the one it was written with".to_owned();
            return Err(no_graph(index, "the graph's links", found, rebuild(index.folder())));
        }
        let links = LinksFile::open(&path, index.dim() + TRAILER)?;
        if links.rows() != index.len() {
            let found = format!("one of {} rows", links.rows());
            return Err(no_graph(index, "a graph of all rows", found, rebuild(index.folder())));
        }
        Ok(Self { manifest, space, links })
    }

    /// Whether questions were added since the graph was built. Its candidates are still passages
    /// of the index, and are scored with all questions; but it does not know the new ones.
    pub fn is_stale(&self, index: &Index) -> bool {
        self.manifest.of.questions != manifest::questions_hash(&index.manifest)
    }
}

/// How to make a graph anew.
pub fn rebuild(index: &Path) -> String {
    format!("xqg index graph --index {} --force rebuilds it", index.display())
}

fn no_graph(index: &Index, expected: &'static str, found: String, hint: String) -> IndexError {
    IndexError::NoGraph { path: index.folder().to_path_buf(), expected, found, hint }
}

fn folder(index: &Path) -> PathBuf {
    index.join("graph")
}

fn links_path(folder: &Path) -> PathBuf {
    folder.join("links.usearch")
}

fn centre_path(folder: &Path) -> PathBuf {
    folder.join("centre.npy")
}

/// A file's xxh3 hash in hexadecimal, read in pieces.
fn hash(path: &Path) -> Result<String> {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut file = File::open(path).map_err(DataError::io("reading", path))?;
    std::io::copy(&mut file, &mut Sink(&mut hasher)).map_err(DataError::io("reading", path))?;
    Ok(format!("{:032x}", hasher.digest128()))
}

struct Sink<'a>(&'a mut xxhash_rust::xxh3::Xxh3);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Space {
    fn open(folder: &Path, dim: usize, reach: f32) -> Result<Self> {
        let matrix = Matrix::open(&centre_path(folder))?;
        if (matrix.rows(), matrix.dim()) != (1, dim) {
            let found = format!("{} x {}", matrix.rows(), matrix.dim());
            return Err(DataError::unexpected(matrix.path(), format!("1 x {dim}"), found).into());
        }
        let mut centre = vec![0.0; dim];
        matrix.read_rows(0, &mut centre);
        Ok(Self::new(centre, reach))
    }
}
