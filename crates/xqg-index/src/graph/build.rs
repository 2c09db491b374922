//! Building a graph: the fused vectors are surveyed once, then linked in the order of the rows. The
//! links so far are written at intervals, so a killed build goes on from the last of these; the
//! graph appears beside the index's units when it is complete, and no other file is touched.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xqg_data::error::DataError;
use xqg_data::file::{Lock, partial_path, remove, replace_folder, writable_folder};
use xqg_data::npy::{Dtype, MatrixWriter};

use crate::add::refuse_part;
use crate::error::{IndexError, Result};
use crate::fused::{BLOCK, FusedRows, Fusion};
use crate::graph::code::{Space, TRAILER};
use crate::graph::file::LinksFile;
use crate::graph::links::Links;
use crate::graph::manifest::{Content, GraphManifest, GraphPlan, Recall, Shape};
use crate::graph::recall::{Sample, depth};
use crate::graph::{Graph, centre_path, folder, hash, links_path};
use crate::index::Index;
use crate::manifest::write_json;
use crate::progress::{Observer, Progress, Stage};
use crate::search::SearchOptions;

/// Rows that are linked one after the other before threads share the work: in a small graph two rows
/// linked at once often miss each other, and one of them may stay out of reach.
const ALONE: usize = 2048;

/// What to build and how.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphOptions {
    /// How passages and questions are fused.
    pub fusion: Fusion,
    /// How the graph is built.
    pub shape: Shape,
    /// Paths that a search follows at once where nobody says how many.
    pub effort: usize,
    /// Rows linked between two writings of the links so far.
    pub checkpoint_rows: usize,
    /// Queries that recall is measured with.
    pub recall_queries: usize,
    /// The seed that picks them.
    pub seed: u64,
    /// Whether another graph may be replaced and unfinished work thrown away.
    pub force: bool,
}

/// What a build did.
#[derive(Debug, Clone)]
pub struct Built {
    /// The graph's description.
    pub manifest: GraphManifest,
    /// Rows linked by this run, so without those of an interrupted one.
    pub linked: usize,
    /// Bytes of the links' file.
    pub bytes: u64,
}

/// What an unfinished build has settled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Begun {
    plan: GraphPlan,
    reach: Option<f32>,
}

/// Builds the graph of an index. A finished graph of the same content and settings is left alone.
///
/// # Errors
/// When a graph of something else is there and `force` is not set, when an unfinished build began
/// from something else, on a full disk. The index itself is never written to.
pub fn build_graph(index: &Index, options: &GraphOptions, observer: Observer) -> Result<Built> {
    check(options)?;
    refuse_part(index.folder(), &index.manifest)?;
    let fused = FusedRows::new(index, &options.fusion)?;
    let out = folder(index.folder());
    let _lock = Lock::take(&out)?;
    let of = Content::of(&index.manifest);
    let plan = GraphPlan { of, fusion: options.fusion.clone(), shape: options.shape };
    if let Some(built) = built_before(&out, &plan, options.force)? {
        return Ok(built);
    }
    let work = Work { fused: &fused, options, folder: partial_path(&out) };
    work.open(&plan)?;
    let reach = work.survey(&plan, observer)?;
    let linked = work.link(reach, observer)?;
    let manifest = work.measure(plan, reach)?;
    manifest.write(&work.folder)?;
    remove(&begun_path(&work.folder))?;
    replace_folder(&work.folder, &out)?;
    let bytes = size(&links_path(&out))?;
    Ok(Built { manifest, linked, bytes })
}

fn check(options: &GraphOptions) -> Result<()> {
    let setting = |name, expected, found: usize| {
        Err(IndexError::Setting { name, expected, found: found.to_string() })
    };
    let Shape { neighbours, beam } = options.shape;
    if !(2..=256).contains(&neighbours) {
        return setting("--neighbours", "2 to 256 links", neighbours);
    }
    if !(1..=65536).contains(&beam) {
        return setting("--build-effort", "1 to 65536 paths", beam);
    }
    if !(1..=65536).contains(&options.effort) {
        return setting("--effort", "1 to 65536 paths", options.effort);
    }
    if options.checkpoint_rows == 0 {
        return setting("--checkpoint-rows", "1 passage or more", 0);
    }
    Ok(())
}

/// A finished graph of the same plan needs nothing; one of another plan must not be lost unasked.
fn built_before(out: &Path, plan: &GraphPlan, force: bool) -> Result<Option<Built>> {
    if !out.exists() || force {
        return Ok(None);
    }
    let manifest = GraphManifest::read(out)?;
    if manifest.plan() != *plan {
        return Err(DataError::Exists { path: out.to_path_buf() }.into());
    }
    let bytes = size(&links_path(out))?;
    Ok(Some(Built { manifest, linked: 0, bytes }))
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(DataError::io("reading", path))?.len())
}

fn begun_path(folder: &Path) -> PathBuf {
    folder.join("begun.json")
}

fn read_begun(folder: &Path) -> Option<Begun> {
    serde_json::from_slice(&fs::read(begun_path(folder)).ok()?).ok()
}

struct Work<'a> {
    fused: &'a FusedRows<'a>,
    options: &'a GraphOptions,
    folder: PathBuf,
}

impl Work<'_> {
    /// Finds or makes the folder of the unfinished build.
    fn open(&self, plan: &GraphPlan) -> Result<()> {
        let old = read_begun(&self.folder);
        if old.as_ref().is_some_and(|old| old.plan == *plan) {
            return Ok(());
        }
        if old.is_some() && !self.options.force {
            let path = self.folder.clone();
            let difference = "another share, shape or content of the index".to_owned();
            return Err(IndexError::OtherPlan { path, difference });
        }
        // The mark goes first: a removal that is killed half-way must not be resumed.
        remove(&begun_path(&self.folder))?;
        remove(&self.folder)?;
        writable_folder(&self.folder)?;
        write_json(&begun_path(&self.folder), &Begun { plan: plan.clone(), reach: None })
    }

    /// Finds the mean and the greatest length of the fused vectors, unless an earlier run did.
    fn survey(&self, plan: &GraphPlan, observer: Observer) -> Result<f32> {
        if let Some(reach) = read_begun(&self.folder).and_then(|begun| begun.reach) {
            return Ok(reach);
        }
        let (rows, dim) = (self.fused.index().len(), self.fused.index().dim());
        let (mut sum, mut square) = (vec![0f64; dim], 0f64);
        for first in (0..rows).step_by(BLOCK * 64) {
            let last = rows.min(first + BLOCK * 64);
            let starts: Vec<usize> = (first..last).step_by(BLOCK).collect();
            let parts: Vec<(Vec<f64>, f64)> =
                starts.par_iter().map(|&start| self.survey_block(start, last)).collect();
            // In the order of the blocks, so that the mean does not depend on the threads.
            for (part, longest) in parts {
                sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
                square = square.max(longest);
            }
            let (done, total) = (last as u64, Some(rows as u64));
            observer(Progress { stage: Stage::Survey, done, total });
        }
        let centre: Vec<f32> = sum.iter().map(|&x| (x / rows.max(1) as f64) as f32).collect();
        let mut file = MatrixWriter::create(&centre_path(&self.folder), Dtype::F32, 1, dim)?;
        file.push(&centre)?;
        file.commit()?;
        let reach = square.sqrt() as f32;
        let begun = Begun { plan: plan.clone(), reach: Some(reach) };
        write_json(&begun_path(&self.folder), &begun)?;
        Ok(reach)
    }

    /// The sum of a block's vectors and the greatest squared length.
    fn survey_block(&self, start: usize, end: usize) -> (Vec<f64>, f64) {
        let dim = self.fused.index().dim();
        let rows = self.block(start, end);
        let (mut sum, mut longest) = (vec![0f64; dim], 0f64);
        for row in rows.chunks_exact(dim) {
            sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            longest = longest.max(row.iter().map(|&x| f64::from(x).powi(2)).sum());
        }
        (sum, longest)
    }

    fn block(&self, start: usize, end: usize) -> Vec<f32> {
        let rows = BLOCK.min(end - start);
        let mut out = vec![0.0; rows * self.fused.index().dim()];
        self.fused.read(start, &mut out);
        out
    }

    /// Links all rows that no earlier run has linked; returns how many.
    fn link(&self, reach: f32, observer: Observer) -> Result<usize> {
        let (path, index) = (links_path(&self.folder), self.fused.index());
        let room = (index.len(), index.dim());
        let space = Space::open(&self.folder, index.dim(), reach)?;
        let links = if path.exists() {
            Links::load(&path, &self.options.shape, room)?
        } else {
            Links::new(&path, &self.options.shape, room)?
        };
        let begun = links.rows();
        let mut first = begun;
        while first < index.len() {
            let last = index.len().min(first + self.options.checkpoint_rows);
            self.link_rows((&links, &space), first..last, observer)?;
            links.save(&path)?;
            first = last;
        }
        Ok(index.len() - begun)
    }

    fn link_rows(
        &self,
        (links, space): (&Links, &Space),
        rows: std::ops::Range<usize>,
        observer: Observer,
    ) -> Result<()> {
        let dim = self.fused.index().dim();
        let total = Some(self.fused.index().len() as u64);
        let starts: Vec<usize> = rows.clone().step_by(BLOCK).collect();
        let (alone, shared) = starts.split_at(starts.partition_point(|&start| start < ALONE));
        let at_once = shared.chunks(8 * rayon::current_num_threads());
        for some in alone.chunks(1).chain(at_once) {
            some.par_iter()
                .try_for_each(|&start| {
                    let block = self.block(start, rows.end);
                    block.chunks_exact(dim).enumerate().try_for_each(|(i, vector)| {
                        links.add((start + i) as u32, &space.passage(vector))
                    })
                })
                .map_err(|source| IndexError::Graph {
                    doing: "building",
                    path: links_path(&self.folder),
                    source,
                })?;
            let done = links.rows() as u64;
            observer(Progress { stage: Stage::Graph, done, total });
        }
        Ok(())
    }

    /// Compares the graph with exact search, and describes it.
    fn measure(&self, plan: GraphPlan, reach: f32) -> Result<GraphManifest> {
        let (index, fusion) = (self.fused.index(), &self.options.fusion);
        let path = links_path(&self.folder);
        let links = LinksFile::open(&path, index.dim() + TRAILER)?;
        let space = Space::open(&self.folder, index.dim(), reach)?;
        let none = Recall { queries: 0, seed: self.options.seed, k: 0, mean: 0.0 };
        let manifest = GraphManifest::new(plan, reach, hash(&path)?, (self.options.effort, none));
        let graph = Graph { manifest, space, links };
        let options = SearchOptions {
            k: depth(index),
            weights: vec![fusion.weight],
            reduce: fusion.reduce,
            renormalize: fusion.renormalize,
            langs: fusion.langs.clone(),
        };
        let sample = Sample::draw(self.fused, self.options.recall_queries, self.options.seed);
        let exact = sample.exact(index, &options)?;
        let effort = graph.manifest.effort;
        let recall = sample.compare((index, &graph), &options, effort, &exact)?;
        Ok(GraphManifest { recall, ..graph.manifest })
    }
}
