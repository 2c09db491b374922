//! `xqg index graph`, and the part of `xqg search` that follows the graph.

use anyhow::Result;
use xqg_index::graph::build::{GraphOptions, build_graph};
use xqg_index::graph::manifest::Shape;
use xqg_index::graph::search::{beam, search_graph};
use xqg_index::graph::{Graph, rebuild};
use xqg_index::index::Index;
use xqg_index::search::{Hits, QueryVectors, SearchOptions};

use crate::args::IndexGraphArgs;
use crate::encoding::observe;
use crate::fusing;
use crate::output;
use crate::progress::Display;

/// Rows between two checkpoints where nobody says how many: the greater of this and an eighth.
const CHECKPOINT_ROWS: usize = 200_000;

/// Builds the graph of an index.
pub fn build(args: &IndexGraphArgs) -> Result<()> {
    let index = Index::open(&args.index)?;
    let options = GraphOptions {
        fusion: fusing::setting(&index, &args.fused)?,
        shape: Shape { neighbours: args.neighbours, beam: args.build_effort },
        effort: args.effort,
        checkpoint_rows: args.checkpoint_rows.unwrap_or(CHECKPOINT_ROWS.max(index.len() / 8)),
        recall_queries: args.recall_queries,
        seed: args.seed,
        force: args.force,
    };
    let mut display = Display::new();
    let built = build_graph(&index, &options, &mut observe(&mut display))?;
    drop(display);
    let (path, linked, rows) = (args.index.display(), built.linked, index.len());
    output::note(format_args!(
        "{path}: graph of {rows} passages, {linked} linked by this run, {:.0} bytes a passage ({})",
        built.bytes as f64 / rows.max(1) as f64,
        built.manifest.fusion.describe()
    ));
    let (effort, recall) = (built.manifest.effort, built.manifest.recall);
    output::note(format_args!(
        "recall@{} {:.4} against exact search with effort {effort}, over {} queries of the index, seed {}",
        recall.k, recall.mean, recall.queries, recall.seed
    ));
    Ok(())
}

/// A search by the graph, about to be made.
pub struct Approximation {
    graph: Graph,
    effort: Option<usize>,
}

impl Approximation {
    /// Opens the graph, and says what must be known about it.
    pub fn open(index: &Index, effort: Option<usize>) -> Result<Self> {
        let graph = Graph::open(index)?;
        if graph.is_stale(index) {
            output::warn(format_args!(
                "the graph is older than questions of the index, which may cost recall\nhint: {}",
                rebuild(index.folder())
            ));
        }
        Ok(Self { graph, effort })
    }

    /// The paths followed at once for k passages.
    pub fn effort(&self, k: usize) -> usize {
        beam(&self.graph, k, self.effort)
    }

    /// Searches.
    pub fn search(
        &self,
        index: &Index,
        queries: QueryVectors,
        options: &SearchOptions,
    ) -> Result<Vec<Vec<Hits>>> {
        let (effort, of) = (self.effort(options.k), self.graph.manifest.fusion.describe());
        output::note(format_args!("approximate search, effort {effort}, graph of {of}"));
        let (mut display, by) = (Display::new(), (index, &self.graph));
        Ok(search_graph(by, queries, options, self.effort, &mut observe(&mut display))?)
    }
}
